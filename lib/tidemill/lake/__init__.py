"""The lake: tables at versions, commits and the ledger.

In: DataFrames and rows of ops tables. Out: DataFrames at pinned versions, committed versions, rows of the ledger.
Layout and commit metadata change only with a new layout version; compaction, staging and repair may change.
"""

from tidemill.lake.ledger import Ledger
from tidemill.lake.pinned import PinnedLake
from tidemill.lake.sql import table_names
from tidemill.lake.tables import Lake

__all__ = ["Lake", "Ledger", "PinnedLake", "table_names"]
