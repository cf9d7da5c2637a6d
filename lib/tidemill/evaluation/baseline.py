"""The constant baseline, which a model must beat to be useful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.metrics import find_quantile
from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Constant:
    """One prediction for every row: a class index or a value, and the probability of each class (None for a regression)."""

    prediction: float
    probability: tuple[float, ...] | None = None


def fit_constant(train: DataFrame, task: str, n_classes: int = 2, *, weight: str | None = None, quantile: float | None = None) -> Constant:
    """Return the class shares with the most frequent class, or the mean of the label.

    With a ``quantile``, the constant is that quantile of the label instead of the mean: it minimises the quantile loss. Where two classes
    are equally frequent, the first is predicted.

    Args:
        train: the labelled training rows; ``label`` DOUBLE (class index or value) and the column ``weight``, if given.
        task: ``binary``, ``multiclass`` or ``regression``.
        n_classes: number of classes.
        weight: the column of sample weights.
        quantile: between 0 and 1.

    Raises:
        StepError: there is no labelled training row.
    """
    counts = F.lit(1.0) if weight is None else F.col(weight)
    if TaskKind(task).predicts_number:
        mean = train.agg(F.try_divide(F.sum(counts * F.col("label")), F.sum(counts))).first()
        if mean is None or mean[0] is None:
            raise StepError("baseline: found no labelled training row, expected at least one; check the split and the label column")
        return Constant(float(mean[0]) if quantile is None else find_quantile(train, "label", counts, quantile))
    class_weights = {int(row["label"]): float(row["n"]) for row in train.groupBy("label").agg(F.sum(counts).alias("n")).collect()}
    total = sum(class_weights.values())
    if not total:
        raise StepError("baseline: found no labelled training row, expected at least one; check the split and the label column")
    shares = tuple(class_weights.get(index, 0.0) / total for index in range(n_classes))
    return Constant(float(shares.index(max(shares))), shares)
