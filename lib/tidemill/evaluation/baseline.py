"""The constant baseline: what a model must beat to be worth its keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.metrics import compute_metrics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def constant_predictions(train: DataFrame, rows: DataFrame, task: str, n_classes: int = 2) -> DataFrame:
    """Predict one constant for every row: the shares of the classes (their greatest as prediction), or the mean of the label.

    Args:
        train: the labelled training rows; ``label`` DOUBLE (class index or value).
        rows: the rows to predict for; ``label`` DOUBLE.
        task: ``binary``, ``multiclass`` or ``regression``.
        n_classes: number of classes.

    Returns:
        ``label``, ``prediction`` DOUBLE and, for classification, ``probability`` VECTOR; one row for each of ``rows``.
        Where two classes are equally frequent, the first is predicted.
    """
    if task == "regression":
        mean = train.agg(F.avg("label")).first()
        if mean is None or mean[0] is None:
            raise StepError("baseline: found no labelled training row, expected at least one; check the split and the label column")
        return rows.select("label", F.lit(float(mean[0])).alias("prediction"))
    counts = {int(row["label"]): int(row["count"]) for row in train.groupBy("label").count().collect()}
    total = sum(counts.values())
    if not total:
        raise StepError("baseline: found no labelled training row, expected at least one; check the split and the label column")
    shares = [counts.get(index, 0) / total for index in range(n_classes)]
    prediction = float(shares.index(max(shares)))
    probability = array_to_vector(F.array(*[F.lit(share) for share in shares]))
    return rows.select("label", F.lit(prediction).alias("prediction"), probability.alias("probability"))


def baseline_metrics(train: DataFrame, rows: DataFrame, task: str, n_classes: int = 2) -> dict[str, float]:
    """Compute the metrics, on ``rows``, of the constant that was fitted on ``train`` (see `constant_predictions`)."""
    return compute_metrics(constant_predictions(train, rows, task, n_classes), task, n_classes)
