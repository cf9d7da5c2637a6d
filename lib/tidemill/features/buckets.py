"""Numbers as buckets: a slot for each, or the order of the bucket for a tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidemill.columns import double_literal
from tidemill.features.names import MISSING, internal, short
from tidemill.quoting import quoted


@dataclass(frozen=True)
class Bucketed:
    """The number in ``column`` (null is missing), and where its buckets meet; the outer two are open."""

    name: str
    column: str
    cuts: tuple[float, ...]

    @property
    def bounds(self) -> list[tuple[float | None, float | None]]:
        """The least value of each bucket, and the one that it ends before."""
        return list(zip((None, *self.cuts), (*self.cuts, None), strict=True))


def bucket_slots(found: Sequence[Bucketed], encoding: str) -> dict[str, str]:
    """Return the slots' columns with their SQL."""
    return dict(slot for each in found for slot in (_order(each) if encoding == "tree" else _each(each)))


def _order(bucketed: Bucketed) -> Iterator[tuple[str, str]]:
    """Yield the place of the bucket, from 0; -1 where there is no number."""
    value = quoted(bucketed.column)
    below = " ".join(f"WHEN {value} < {double_literal(cut)} THEN {place}.0D" for place, cut in enumerate(bucketed.cuts))
    yield internal("tree", f"{bucketed.name}.bucket"), f"CASE WHEN {value} IS NULL THEN -1.0D {below} ELSE {len(bucketed.cuts)}.0D END"


def _each(bucketed: Bucketed) -> Iterator[tuple[str, str]]:
    value = quoted(bucketed.column)
    for low, high in bucketed.bounds:
        conditions = [f"{value} IS NOT NULL"]
        conditions += [f"{value} >= {double_literal(low)}"] if low is not None else []
        conditions += [f"{value} < {double_literal(high)}"] if high is not None else []
        yield internal("bucket", f"{bucketed.name}={_range(low, high)}"), f"CAST(coalesce({' AND '.join(conditions)}, false) AS DOUBLE)"
    yield internal("bucket", f"{bucketed.name}={MISSING}"), f"CAST({value} IS NULL AS DOUBLE)"


def _range(low: float | None, high: float | None) -> str:
    """Return such as ``[0, 10)``."""
    if low is None and high is None:
        return "any"
    if low is None:
        return f"<{short(high or 0.0)}"
    return f">={short(low)}" if high is None else f"[{short(low)}, {short(high)})"
