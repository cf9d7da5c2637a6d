"""Caches of fitted statistics: of the same rows for several plans, and of all folds in one pass over the rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


SET = "_tidemill_set"
"""The column that numbers a set of rows, such as those that a fold is fitted on."""
ALL_ROWS = -1
"""The set of all rows, including those without a fold: its statistics serve the final fit."""

Key = TypeVar("Key", bound=Hashable)
Learnt = TypeVar("Learnt")


class FitCache:
    """Computes each result once per key; a key holds everything that the result depends on, besides the rows.

    ``requests`` and ``misses`` count the requested results and those that had to be computed.
    """

    def __init__(self, statistics: FoldStatistics | None = None, set_number: int = 0, encodings: Collection[str] = ()) -> None:
        """Start empty.

        The rows are the set ``set_number`` of ``statistics``, and results serve at least these encodings.
        """
        self.statistics, self.set_number, self.encodings = statistics, set_number, encodings
        self._known: dict[Hashable, Any] = {}
        self._lock = threading.RLock()
        self.requests = self.misses = 0

    def get(self, key: Hashable, learn: Callable[[], Learnt]) -> Learnt:
        """Return the result of ``learn``, cached by key."""
        return self.get_all({key: None}, lambda _: {key: learn()})[key]

    def get_all(self, requested: Mapping[Key, Any], learn: Callable[[Mapping[Key, Any]], Mapping[Key, Learnt]]) -> dict[Key, Learnt]:
        """Return the result for each requested key; ``learn`` is called once for all that are not cached."""
        with self._lock:
            unknown = {key: value for key, value in requested.items() if key not in self._known}
            self.requests += len(requested)
            self.misses += len(unknown)
            for key, learnt in learn(unknown).items() if unknown else ():
                self._known[key] = learnt
            return {key: self._known[key] for key in requested}


class FoldStatistics:
    """Statistics of overlapping sets of rows in one pass: the training rows of each of ``folds``, and all rows."""

    def __init__(self, rows: DataFrame, folds: Sequence[int], *, is_expanding: bool) -> None:
        """Take rows that have ``fold`` INT; with expanding folds, each is trained on the earlier ones alone."""
        self.rows, self.folds, self._is_expanding = rows, tuple(folds), is_expanding
        self._learnt: dict[Hashable, dict[int, Any]] = {}
        self._lock = threading.Lock()

    @property
    def sets(self) -> int:
        """The number of sets."""
        return len(self.folds) + 1

    def sets_of_row(self) -> Column:
        """Return the sets that a row is in, as an array; a row without a fold is in ALL_ROWS alone."""
        every = F.array(*map(F.lit, self.folds))
        of_folds = F.filter(every, lambda each: each > F.col("fold") if self._is_expanding else each != F.col("fold"))
        return F.concat(of_folds, F.array(F.lit(ALL_ROWS)))

    def take(self, number: int, key: Hashable, learn: Callable[[], Mapping[int, Learnt]]) -> Learnt | None:
        """Return the result for one set, and remove it from the cache; None if there is none.

        ``learn`` computes the results of all sets. The final fit (all rows) comes last and never triggers it.
        """
        with self._lock:
            if key not in self._learnt and number != ALL_ROWS:
                self._learnt[key] = dict(learn())
            learnt: Learnt | None = self._learnt.get(key, {}).pop(number, None)
            return learnt


@dataclass(frozen=True)
class Sample:
    """Rows to learn from; if they are one set of many, ``all_rows`` has every row with its ``fold``, to learn all sets at once."""

    rows: DataFrame
    cache: FitCache
    all_rows: DataFrame | None = None

    def learn(self, key: Hashable, learn: Callable[[DataFrame, Column | None], Mapping[int, Learnt]]) -> Learnt:
        """Return the result for these rows; ``learn`` takes rows and each row's sets, and returns results by set (0 without sets)."""
        all_rows, statistics = self.all_rows, self.cache.statistics
        if all_rows is not None and statistics is not None:
            learnt = statistics.take(self.cache.set_number, key, lambda: learn(all_rows, statistics.sets_of_row()))
            if learnt is not None:
                return learnt
        return learn(self.rows, None)[0]
