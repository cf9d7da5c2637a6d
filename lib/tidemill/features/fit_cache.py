"""What has been learnt before: of the same rows by several plans, and of all folds together in one pass over the rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


SET = "_tidemill_set"
"""The column that names a set of rows, such as those that a fold learns from."""
ALL_ROWS = -1
"""The set of all rows, those without a fold too: what is learnt of them with the folds serves the final fit."""

Key = TypeVar("Key", bound=Hashable)
Learnt = TypeVar("Learnt")


class FitCache:
    """Learns each thing once; keys say all that it depends on, beside the rows.

    ``requests`` and ``misses`` count the things that were wanted and those that had to be learnt.
    """

    def __init__(self, statistics: FoldStatistics | None = None, set_number: int = 0, encodings: Collection[str] = ()) -> None:
        """Start empty.

        The rows are the set ``set_number`` of those that ``statistics`` are learnt of, for these encodings at least.
        """
        self.statistics, self.set_number, self.encodings = statistics, set_number, encodings
        self._known: dict[Hashable, Any] = {}
        self._lock = threading.RLock()
        self.requests = self.misses = 0

    def get(self, key: Hashable, learn: Callable[[], Learnt]) -> Learnt:
        """Return what ``learn`` gives, or gave for that key."""
        return self.get_all({key: None}, lambda _: {key: learn()})[key]

    def get_all(self, wanted: Mapping[Key, Any], learn: Callable[[Mapping[Key, Any]], Mapping[Key, Learnt]]) -> dict[Key, Learnt]:
        """Return what ``learn`` gives for the wanted things, together for those that are not known."""
        with self._lock:
            unknown = {key: value for key, value in wanted.items() if key not in self._known}
            self.requests += len(wanted)
            self.misses += len(unknown)
            for key, learnt in learn(unknown).items() if unknown else ():
                self._known[key] = learnt
            return {key: self._known[key] for key in wanted}


class FoldStatistics:
    """What is learnt of overlapping sets of rows in one pass: the rows that each of ``folds`` learns from, and all rows."""

    def __init__(self, rows: DataFrame, folds: Sequence[int], *, is_expanding: bool) -> None:
        """Take rows that have ``fold`` INT; where folds expand, each learns from those before it alone."""
        self.rows, self.folds, self._is_expanding = rows, tuple(folds), is_expanding
        self._learnt: dict[Hashable, dict[int, Any]] = {}
        self._lock = threading.Lock()

    @property
    def sets(self) -> int:
        """How many sets there are."""
        return len(self.folds) + 1

    def sets_of_row(self) -> Column:
        """Return the sets that a row is in, an array; one without a fold is in ALL_ROWS alone."""
        every = F.array(*map(F.lit, self.folds))
        of_folds = F.filter(every, lambda each: each > F.col("fold") if self._is_expanding else each != F.col("fold"))
        return F.concat(of_folds, F.array(F.lit(ALL_ROWS)))

    def take(self, number: int, key: Hashable, learn: Callable[[], Mapping[int, Learnt]]) -> Learnt | None:
        """Return what ``learn`` gives, or gave for that key, of one set, and forget it; None where it gives nothing.

        All rows come last: of them alone nothing is learnt.
        """
        with self._lock:
            if key not in self._learnt and number != ALL_ROWS:
                self._learnt[key] = dict(learn())
            learnt: Learnt | None = self._learnt.get(key, {}).pop(number, None)
            return learnt


@dataclass(frozen=True)
class Sample:
    """Rows to learn from, and where they are a set among others ``all_rows`` with their ``fold``, of which all sets are learnt at once."""

    rows: DataFrame
    cache: FitCache
    all_rows: DataFrame | None = None

    def learn(self, key: Hashable, learn: Callable[[DataFrame, Column | None], Mapping[int, Learnt]]) -> Learnt:
        """Return what ``learn`` gives: called with rows and the sets that each is in, by the number of the set, else under 0."""
        all_rows, statistics = self.all_rows, self.cache.statistics
        if all_rows is not None and statistics is not None:
            learnt = statistics.take(self.cache.set_number, key, lambda: learn(all_rows, statistics.sets_of_row()))
            if learnt is not None:
                return learnt
        return learn(self.rows, None)[0]
