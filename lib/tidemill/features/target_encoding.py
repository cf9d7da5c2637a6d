"""Categories as numbers: how often a value is seen, and the mean of the label among its rows.

Source: Micci-Barreca, A preprocessing scheme for high-cardinality categorical attributes (2001), with the rows of the average as a count;
cross-fitting as scikit-learn's TargetEncoder has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.features.counts import Counts, Totals
from tidemill.features.names import PART, PARTS, internal, numbers_sql
from tidemill.features.numbers import Fitted, differ
from tidemill.quoting import quote_name


@dataclass(frozen=True)
class LookupSlot:
    """A slot whose value is looked up by the index of a label: in ``sql``, and as training rows see it in ``training_sql``."""

    name: str
    column: str
    sql: str
    training_sql: str
    spread: Fitted

    def encoded(self, encoding: str) -> str:
        """Return SQL for the slot over ``column``."""
        if encoding == "tree":
            return quote_name(self.column)
        return self.spread.scaled_sql(self.column) if encoding == "linear" else self.spread.positive_sql(self.column)


def count_slot(name: str, index: str, counts: Counts, labels: Sequence[str]) -> LookupSlot:
    """Return the slot of a value's rows in training; 0 where it has no label."""
    rows = dict(zip(counts.values, counts.rows, strict=True))
    known = [rows[label] for label in labels]
    values, weights = np.array([*known, 0.0]), np.array([*known, float(sum(counts.rows) - sum(known))])
    sql = _lookup_sql(values, quote_name(index))
    return LookupSlot(f"{name}.count", internal("count", f"{name}.count"), sql, sql, _spread(values, weights))


def target_slots(name: str, index: str, counts: Counts, labels: Sequence[str], totals: Totals, smoothing: float) -> list[LookupSlot]:
    """Return a slot for each mean of the label; of a value without a label it is the mean of all rows.

    A value's mean begins with ``smoothing`` rows of the average. A training row sees what the rows of all other parts say.
    """
    place = {value: at for at, value in enumerate(counts.values)}
    cells = counts.by_part[[place[label] for label in labels]]
    rows, every = cells[:, :, 0], totals.by_part
    parts = [list(range(PARTS)), *([other for other in range(PARTS) if other != part] for part in range(PARTS))]
    # The first block is what all parts say; the one behind it leaves out part 0, and so on.
    at = f"CAST({quote_name(index)} AS INT) + {len(labels) + 1} * coalesce(CAST({quote_name(PART)} AS INT) + 1, 0)"
    weights = np.append(rows.sum(axis=1), every[:, 0].sum() - rows.sum())
    slots = []
    for which, suffix in enumerate(totals.suffixes, start=1):
        blocks = []
        for others in parts:
            of_value, of_all = cells[:, others, which].sum(axis=1), every[others, which].sum()
            blocks.append(_means(rows[:, others].sum(axis=1), of_value, every[others, 0].sum(), of_all, smoothing))
        slot = f"{name}.target{suffix}"
        blind_sql = f"get({numbers_sql(np.concatenate(blocks))}, {at})"
        slots.append(
            LookupSlot(slot, internal("target", slot), _lookup_sql(blocks[0], quote_name(index)), blind_sql, _spread(blocks[0], weights))
        )
    return slots


def _means(rows: np.ndarray, sums: np.ndarray, n: float, total: float, smoothing: float) -> np.ndarray:
    """Return the mean of each value, and last that of all rows."""
    average = total / n if n else 0.0
    weights = rows + smoothing
    means = np.divide(sums + smoothing * average, weights, out=np.full(len(rows), average), where=weights > 0)
    return np.append(means, average)


def _lookup_sql(values: np.ndarray, index: str) -> str:
    return f"get({numbers_sql(values)}, CAST({index} AS INT))"


def _spread(values: np.ndarray, weights: np.ndarray) -> Fitted:
    """Return mean, deviation and extremes of the values, each in so many rows."""
    rows = weights.sum()
    if rows <= 1:
        return Fitted(None)
    mean = float((values * weights).sum() / rows)
    deviation = float(np.sqrt((weights * (values - mean) ** 2).sum() / (rows - 1)))
    used = values[weights > 0]
    low, high = float(used.min()), float(used.max())
    return Fitted(None, mean, deviation if differ((low, high)) else 1.0, low, high)
