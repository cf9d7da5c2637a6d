"""Point-in-time joins: what was known at each row's event time, as the latest row of another table or as aggregates over its earlier rows.

Both sides become one stream of events in time order, shuffled once by key. Running aggregates over the stream give each row what was known
before it. There is no join, so no row is duplicated or lost.
"""

from tidemill.dataset.point_in_time.aggregates import add_aggregates, aggregate_faults
from tidemill.dataset.point_in_time.lookups import add_lookup, lookup_columns, lookup_faults, tie_column

__all__ = ["add_aggregates", "add_lookup", "aggregate_faults", "lookup_columns", "lookup_faults", "tie_column"]
