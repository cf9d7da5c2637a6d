"""The constant baseline: the metrics that a model must beat to be useful."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.metrics import compute_metrics, find_quantile
from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from tidemill.tasks import Metric


def constant_predictions(
    train: DataFrame,
    rows: DataFrame,
    task: str,
    n_classes: int = 2,
    *,
    weight: str | None = None,
    quantile: float | None = None,
) -> DataFrame:
    """Predict one constant for every row: the class shares (the most frequent class as prediction), or the mean of the label.

    With a ``quantile``, the constant is that quantile of the label instead of the mean: it minimises the quantile loss.

    Args:
        train: the labelled training rows; ``label`` DOUBLE (class index or value) and the column ``weight``, if given.
        rows: the rows to predict for; the same columns.
        task: ``binary``, ``multiclass`` or ``regression``.
        n_classes: number of classes.
        weight: the column of sample weights.
        quantile: between 0 and 1.

    Returns:
        ``label``, the weight, ``prediction`` DOUBLE and, for classification, ``probability`` VECTOR; one row for each of ``rows``.
        Where two classes are equally frequent, the first is predicted.
    """
    counts, columns = F.lit(1.0) if weight is None else F.col(weight), ["label", *([weight] if weight else [])]
    if TaskKind(task).predicts_number:
        mean = train.agg(F.try_divide(F.sum(counts * F.col("label")), F.sum(counts))).first()
        if mean is None or mean[0] is None:
            raise StepError("baseline: found no labelled training row, expected at least one; check the split and the label column")
        constant = float(mean[0]) if quantile is None else find_quantile(train, "label", counts, quantile)
        return rows.select(*columns, F.lit(constant).alias("prediction"))
    class_weights = {int(row["label"]): float(row["n"]) for row in train.groupBy("label").agg(F.sum(counts).alias("n")).collect()}
    total = sum(class_weights.values())
    if not total:
        raise StepError("baseline: found no labelled training row, expected at least one; check the split and the label column")
    shares = [class_weights.get(index, 0.0) / total for index in range(n_classes)]
    prediction = float(shares.index(max(shares)))
    probability = array_to_vector(F.array(*[F.lit(share) for share in shares]))
    return rows.select(*columns, F.lit(prediction).alias("prediction"), probability.alias("probability"))


def baseline_metrics(
    train: DataFrame,
    rows: DataFrame,
    task: str,
    n_classes: int = 2,
    *,
    weight: str | None = None,
    quantile: float | None = None,
    own: Sequence[Metric] = (),
) -> dict[str, float]:
    """Compute the metrics, on ``rows``, of the constant that was fitted on ``train`` (see `constant_predictions`)."""
    predictions = constant_predictions(train, rows, task, n_classes, weight=weight, quantile=quantile)
    return compute_metrics(predictions, task, n_classes, weight=weight, quantile=quantile, own=own)
