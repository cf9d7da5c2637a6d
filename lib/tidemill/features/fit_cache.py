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


class Memo:
    """Learns each thing once; keys say all that it depends on, beside the rows.

    ``asked`` and ``done`` count the things that were wanted and those that had to be learnt.
    """

    def __init__(self, together: Together | None = None, number: int = 0, encodings: Collection[str] = ()) -> None:
        """Know nothing yet; the rows are the set ``number`` of those that ``together`` are learnt of, for these encodings at least."""
        self.together, self.number, self.encodings = together, number, encodings
        self._known: dict[Hashable, Any] = {}
        self._lock = threading.RLock()
        self.asked = self.done = 0

    def one(self, key: Hashable, learn: Callable[[], Learnt]) -> Learnt:
        """Return what ``learn`` gives, or gave for that key."""
        return self.each({key: None}, lambda _: {key: learn()})[key]

    def each(self, wanted: Mapping[Key, Any], learn: Callable[[Mapping[Key, Any]], Mapping[Key, Learnt]]) -> dict[Key, Learnt]:
        """Return what ``learn`` gives for the wanted things, together for those that are not known."""
        with self._lock:
            unknown = {key: value for key, value in wanted.items() if key not in self._known}
            self.asked += len(wanted)
            self.done += len(unknown)
            for key, learnt in learn(unknown).items() if unknown else ():
                self._known[key] = learnt
            return {key: self._known[key] for key in wanted}


class Together:
    """Sets of rows that overlap, and what was learnt of all of them in one pass: the rows that each of ``folds`` learns from, and all."""

    def __init__(self, rows: DataFrame, folds: Sequence[int], *, is_expanding: bool) -> None:
        """Take rows that have ``fold`` INT; where folds expand, each learns from those before it alone."""
        self.rows, self.folds, self._is_expanding = rows, tuple(folds), is_expanding
        self._found: dict[Hashable, dict[int, Any]] = {}
        self._lock = threading.Lock()

    @property
    def sets(self) -> int:
        """How many sets there are."""
        return len(self.folds) + 1

    def within(self) -> Column:
        """Return the sets that a row is in, an array; one without a fold is in ALL_ROWS alone."""
        every = F.array(*map(F.lit, self.folds))
        of_folds = F.filter(every, lambda each: each > F.col("fold") if self._is_expanding else each != F.col("fold"))
        return F.concat(of_folds, F.array(F.lit(ALL_ROWS)))

    def of(self, number: int, key: Hashable, learn: Callable[[], Mapping[int, Learnt]]) -> Learnt | None:
        """Return what ``learn`` gives, or gave for that key, of one set, and forget it; None where it gives nothing.

        All rows come last: of them alone nothing is learnt.
        """
        with self._lock:
            if key not in self._found and number != ALL_ROWS:
                self._found[key] = dict(learn())
            found: Learnt | None = self._found.get(key, {}).pop(number, None)
            return found


@dataclass(frozen=True)
class Sample:
    """Rows to learn from, and where they are a set among others ``all_rows`` with their ``fold``, of which all sets are learnt at once."""

    rows: DataFrame
    memo: Memo
    all_rows: DataFrame | None = None

    def learnt(self, key: Hashable, learn: Callable[[DataFrame, Column | None], Mapping[int, Learnt]]) -> Learnt:
        """Return what ``learn`` gives: called with rows and the sets that each is in, by the number of the set, else under 0."""
        all_rows, together = self.all_rows, self.memo.together
        if all_rows is not None and together is not None:
            found = together.of(self.memo.number, key, lambda: learn(all_rows, together.within()))
            if found is not None:
                return found
        return learn(self.rows, None)[0]
