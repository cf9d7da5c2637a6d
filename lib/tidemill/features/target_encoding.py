"""Categories as numbers: the count of a value, and the mean of the label over its rows.

Source: Micci-Barreca, A preprocessing scheme for high-cardinality categorical attributes (2001), with smoothing as a number of rows;
cross-fitting as in scikit-learn's TargetEncoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.features.counts import Totals, ValueCounts
from tidemill.features.names import PART, PARTS, internal_name, numbers_sql
from tidemill.features.numbers import FittedNumber, values_differ
from tidemill.quoting import quote_name


@dataclass(frozen=True)
class LookupSlot:
    """A slot whose value is looked up by a category's index: by ``sql``, or for training rows by ``training_sql``."""

    name: str
    column: str
    sql: str
    training_sql: str
    spread: FittedNumber

    def encode(self, encoding: str) -> str:
        """Return SQL for the slot over ``column``."""
        if encoding == "tree":
            return quote_name(self.column)
        return self.spread.scaled_sql(self.column) if encoding == "linear" else self.spread.positive_sql(self.column)


def count_slot(name: str, index: str, counts: ValueCounts, labels: Sequence[str]) -> LookupSlot:
    """Return the slot of a value's count in the training rows; 0 for values without an index."""
    rows = dict(zip(counts.values, counts.rows, strict=True))
    known = [rows[label] for label in labels]
    values, weights = np.array([*known, 0.0]), np.array([*known, float(sum(counts.rows) - sum(known))])
    sql = _lookup_sql(values, quote_name(index))
    return LookupSlot(f"{name}.count", internal_name("count", f"{name}.count"), sql, sql, _spread(values, weights))


def target_slots(name: str, index: str, counts: ValueCounts, labels: Sequence[str], totals: Totals, smoothing: float) -> list[LookupSlot]:
    """Return a slot for each mean of the label; values without an index get the mean of all rows.

    A value's mean includes ``smoothing`` rows of the overall mean. A training row's mean uses the rows of the other parts alone.
    """
    place = {value: at for at, value in enumerate(counts.values)}
    cells = counts.by_part[[place[label] for label in labels]]
    rows, every = cells[:, :, 0], totals.by_part
    parts = [list(range(PARTS)), *([other for other in range(PARTS) if other != part] for part in range(PARTS))]
    # The first block uses all parts, the second leaves out part 0, and so on.
    at = f"CAST({quote_name(index)} AS INT) + {len(labels) + 1} * coalesce(CAST({quote_name(PART)} AS INT) + 1, 0)"
    weights = np.append(rows.sum(axis=1), every[:, 0].sum() - rows.sum())
    slots = []
    for which, suffix in enumerate(totals.suffixes, start=1):
        blocks = []
        for others in parts:
            of_value, of_all = cells[:, others, which].sum(axis=1), every[others, which].sum()
            blocks.append(_means(rows[:, others].sum(axis=1), of_value, every[others, 0].sum(), of_all, smoothing))
        slot = f"{name}.target{suffix}"
        training_sql = f"get({numbers_sql(np.concatenate(blocks))}, {at})"
        slots.append(
            LookupSlot(
                slot, internal_name("target", slot), _lookup_sql(blocks[0], quote_name(index)), training_sql, _spread(blocks[0], weights)
            )
        )
    return slots


def _means(rows: np.ndarray, sums: np.ndarray, n: float, total: float, smoothing: float) -> np.ndarray:
    """Return the mean of each value, followed by that of all rows."""
    average = total / n if n else 0.0
    weights = rows + smoothing
    means = np.divide(sums + smoothing * average, weights, out=np.full(len(rows), average), where=weights > 0)
    return np.append(means, average)


def _lookup_sql(values: np.ndarray, index: str) -> str:
    return f"get({numbers_sql(values)}, CAST({index} AS INT))"


def _spread(values: np.ndarray, weights: np.ndarray) -> FittedNumber:
    """Return the mean, deviation and extremes of the values, weighted by their rows."""
    rows = weights.sum()
    if rows <= 1:
        return FittedNumber(None)
    mean = float((values * weights).sum() / rows)
    deviation = float(np.sqrt((weights * (values - mean) ** 2).sum() / (rows - 1)))
    used = values[weights > 0]
    low, high = float(used.min()), float(used.max())
    return FittedNumber(None, mean, deviation if values_differ((low, high)) else 1.0, low, high)
