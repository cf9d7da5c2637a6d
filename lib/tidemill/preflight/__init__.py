"""What is asked of a spec and its data before any step runs: every named column must exist, with a fitting type.

In come a spec and its lake; faults go out, with file, line and nearest match. Neither Spark is started nor a file read as a whole. What
cannot be known here (a Python table, a database, columns that only a run would infer) is taken to be right: a run may say no later,
but what a run would accept is never refused.
"""

from tidemill.preflight.named_columns import column_faults, refuse_unknown_columns

__all__ = ["column_faults", "refuse_unknown_columns"]
