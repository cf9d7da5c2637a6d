"""Feature selection: which slots of a feature vector stay, by statistics of the training rows.

One aggregate computes the mean and variance of each slot by class (or weighted by a numeric label), a second one the label of each value
of nominal slots; `correlation` uses MLlib's correlation matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pyspark.ml.functions import vector_to_array
from pyspark.ml.stat import Correlation, Summarizer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.features.counts import LABEL, Label
from tidemill.features.slots import Slot

if TYPE_CHECKING:
    from tidemill.spec.models import Select


# The correlation matrix of all pairs is dense and on the driver.
MAX_CORRELATED = 2000
_CORRELATED = 0.95


def select_slots(vectors: DataFrame, column: str, slots: Sequence[Slot], select: Select, label: Label) -> list[int]:
    """Return the indices of the selected slots in order, at least one; ``vectors`` has ``column`` and ``label``.

    - univariate: the share of the label's variance that the slot explains: the squared correlation for a numeric label, ANOVA's share for
      classes (it ranks slots as F does); for a nominal slot the share that its values explain, minus the share expected by chance.
    - variance: the slot's variance (n - 1); for a nominal slot the sum of the variances of its one-hot slots.
    - correlation: as univariate, but without the slots that correlate with a better one at ``threshold`` (0.95) or more.

    Raises:
        StepError: there are too many slots for a correlation matrix.
    """
    worth = _slot_variances(vectors, column, slots) if select.method == "variance" else _explained_shares(vectors, column, slots, label)
    order = [int(place) for place in np.argsort(-worth, kind="stable")]
    if select.method == "correlation":
        order = _drop_correlated(vectors, column, slots, order, _CORRELATED if select.threshold is None else select.threshold)
    elif select.threshold is not None:
        order = [place for place in order if worth[place] >= select.threshold] or order[:1]
    return sorted(order[: select.top])


def _slot_variances(vectors: DataFrame, column: str, slots: Sequence[Slot]) -> np.ndarray:
    row = vectors.agg(Summarizer.metrics("variance").summary(F.col(column)).alias("s")).collect()[0]["s"]
    variances = np.array(row["variance"].toArray())
    for place, cells in _count_cells(vectors, column, slots, F.count("*")).items():
        shares = np.array([n for _, n, _ in cells]) / max(sum(n for _, n, _ in cells), 1)
        variances[place] = 1 - (shares**2).sum()
    return variances


def _explained_shares(vectors: DataFrame, column: str, slots: Sequence[Slot], label: Label) -> np.ndarray:
    shares, total = (_explain_number if label.is_number else _explain_classes)(vectors, column)
    if label.is_number:
        nominal = _count_cells(vectors, column, slots, F.sum(LABEL))
        for place, cells in nominal.items():
            rows, sums = np.array([n for _, n, _ in cells], dtype=float), np.array([s for _, _, s in cells], dtype=float)
            between = (sums**2 / rows).sum() - sums.sum() ** 2 / rows.sum()
            shares[place] = _adjust_for_chance(between / total if total else 0.0, rows.sum(), len(cells))
    else:
        for place, cells in _count_cells(vectors, column, slots, F.count("*"), LABEL).items():
            shares[place] = _explain_nominal(cells)
    return np.nan_to_num(shares, nan=0.0, posinf=0.0, neginf=0.0)


def _explain_number(vectors: DataFrame, column: str) -> tuple[np.ndarray, float]:
    """Return the squared correlation of each slot with the label, and the label's sum of squares around its mean.

    The label, shifted to be at least 0, is the weight of a second mean, which gives the covariance.
    """
    first = vectors.agg(F.min(LABEL), F.avg(LABEL), F.var_pop(LABEL), F.count("*")).collect()[0]
    low, mean, variance, rows = (float(value or 0.0) for value in first)
    weighted = vectors.withColumn("_weight", F.col(LABEL) - F.lit(low))
    plain = Summarizer.metrics("mean", "variance").summary(F.col(column))
    row = weighted.agg(plain.alias("s"), Summarizer.mean(F.col(column), F.col("_weight")).alias("w")).collect()[0]
    means, spread = np.array(row["s"]["mean"].toArray()), np.array(row["s"]["variance"].toArray()) * (rows - 1) / max(rows, 1)
    covariance = (np.array(row["w"].toArray()) - means) * (mean - low)
    bottom = spread * variance
    return np.divide(covariance**2, bottom, out=np.zeros_like(bottom), where=bottom > 0), variance * rows


def _explain_classes(vectors: DataFrame, column: str) -> tuple[np.ndarray, float]:
    """Return the share of each slot's sum of squares that lies between the classes; ANOVA's F increases with it."""
    summary = Summarizer.metrics("count", "mean", "variance").summary(F.col(column))
    summaries = [row["s"] for row in vectors.groupBy(LABEL).agg(summary.alias("s")).collect()]
    counts = np.array([each["count"] for each in summaries], dtype=float)[:, None]
    means = np.array([each["mean"].toArray() for each in summaries])
    within = (np.array([each["variance"].toArray() for each in summaries]) * (counts - 1)).sum(axis=0)
    between = (counts * (means - (counts * means).sum(axis=0) / counts.sum()) ** 2).sum(axis=0)
    total = within + between
    return np.divide(between, total, out=np.zeros_like(total), where=total > 0), 0.0


Cells = dict[int, list[tuple[tuple[float, ...], int, float]]]


def _count_cells(vectors: DataFrame, column: str, slots: Sequence[Slot], figure: object, *by: str) -> Cells:
    """Return the cells of each nominal slot: value (and label), rows, statistic."""
    nominal = [place for place, slot in enumerate(slots) if slot.categories]
    if not nominal:
        return {}
    values = vector_to_array(F.col(column))
    each = F.array(*[F.struct(F.lit(place).alias("place"), F.get(values, F.lit(place)).alias("value")) for place in nominal])
    rows = vectors.select(F.explode(each).alias("c"), LABEL).select("c.place", "c.value", LABEL)
    cells: Cells = {}
    for row in rows.groupBy("place", "value", *by).agg(F.count("*").alias("n"), figure.alias("f")).orderBy("place", "value", *by).collect():  # type: ignore[attr-defined]
        cells.setdefault(row["place"], []).append(((row["value"], *(row[name] for name in by)), row["n"], float(row["f"])))
    return cells


def _explain_nominal(cells: Sequence[tuple[tuple[float, ...], int, float]]) -> float:
    """Return Goodman and Kruskal's tau: how much less the classes vary within a value than overall, adjusted for chance."""
    values, classes = sorted({key[0] for key, _, _ in cells}), sorted({key[1] for key, _, _ in cells})
    table = np.zeros((len(values), len(classes)))
    for (value, label), n, _ in cells:
        table[values.index(value), classes.index(label)] = n
    rows = table.sum()
    before = 1 - ((table.sum(axis=0) / rows) ** 2).sum()
    within = rows - (table**2 / table.sum(axis=1, keepdims=True)).sum()
    return _adjust_for_chance(1 - within / rows / before if before > 0 else 0.0, rows, len(values))


def _adjust_for_chance(share: float, rows: float, values: int) -> float:
    """Return the explained share, adjusted for what as many random groups explain (adjusted R²)."""
    return max(0.0, 1 - (1 - share) * (rows - 2) / (rows - values)) if rows > values else 0.0


def _drop_correlated(vectors: DataFrame, column: str, slots: Sequence[Slot], order: Sequence[int], limit: float) -> list[int]:
    """Return ``order`` without slots that correlate with an earlier one; category indices have no correlation."""
    if len(slots) > MAX_CORRELATED:
        raise StepError(
            f"features.select: `method: correlation` compares all pairs of slots, at most {MAX_CORRELATED:,} of them, and there are "
            f"{len(slots):,}; write `method: univariate`, or make fewer slots (`categorical.min_frequency`, `tfidf.size`)"
        )
    matrix = np.abs(np.nan_to_num(Correlation.corr(vectors, column).collect()[0][0].toArray(), nan=0.0))
    selected: list[int] = []
    for place in order:
        numbers = [other for other in selected if not slots[other].categories]
        if slots[place].categories or not (matrix[place, numbers] >= limit).any():
            selected.append(place)
    return selected
