"""What was known at each row's own time: the latest row of another table, and figures over its rows of before.

Both sides become one stream of events in the order of time, shuffled once by key; running aggregates over it carry what is known so far to
the rows that ask. Nothing is joined, so no row is multiplied and none is lost.
"""

from tidemill.dataset.point_in_time.aggregates import aggregate_faults, aggregated
from tidemill.dataset.point_in_time.lookups import looked_up, lookup_faults, taken, tied

__all__ = ["aggregate_faults", "aggregated", "looked_up", "lookup_faults", "taken", "tied"]
