"""All metrics of a task from one aggregation in Spark; the driver sees counts, never rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.curves import EPSILON, ratio
from tidemill.evaluation.scores import count_scores, measure_scores
from tidemill.evaluation.unsupervised import silhouette
from tidemill.spec.models import MINIMISED, QUANTILE_LOSS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_W = "_tidemill_weight"


def is_better(metric: str, a: float, b: float) -> bool:
    """Return whether value ``a`` of a metric is strictly better than ``b``; a NaN is worse than any number."""
    if math.isnan(a):
        return False
    if math.isnan(b):
        return True
    return a < b if metric in MINIMISED else a > b


def compute_metrics(
    predictions: DataFrame,
    task: str,
    n_classes: int = 2,
    features: str = "features_linear",
    *,
    weight: str | None = None,
    quantile: float | None = None,
) -> dict[str, float]:
    """Compute every metric of the task over all rows, by one aggregation.

    - binary: ``areaUnderROC`` and ``areaUnderPR`` of the probability of class 1, ``accuracy``, ``f1`` **of the positive
      class**, ``logLoss``. The areas are exact at any size (see `tidemill.evaluation.scores`): scores are ties where they are
      equal, and only there. ``areaUnderPR`` is MLlib's: trapezoids over the distinct scores, and the curve starts at recall 0
      with the precision of the highest score (``average_precision_score`` is its step-wise sibling). A metric that needs both
      classes is NaN where one is absent.
    - multiclass: ``accuracy``, ``f1`` (mean over the classes, weighted by their rows: MLlib's default), ``logLoss``.
    - regression: ``rmse``, ``mae``, ``r2`` (about the mean of these rows; NaN where the label is constant); with a ``quantile`` q also
      ``quantileLoss``, the mean of q × residual above the prediction and (1 - q) × what is left below it.
    - clustering: ``silhouette`` (see `tidemill.evaluation.unsupervised`) of the vectors in ``features``.
    - anomaly: ``areaUnderPR`` and ``areaUnderROC`` of the rows that have a label.

    With ``weight`` each row counts for what that column says, in every metric, as scikit-learn's ``sample_weight`` has it.

    ``accuracy`` and ``f1`` judge ``prediction``, so whatever threshold the model carries (0.5 unless it says otherwise).
    ``logLoss`` is exact, with probabilities held in [1e-15, 1 - 1e-15]; a label beyond the classes counts as probability 0.

    Args:
        predictions: ``label`` DOUBLE (class index or value), ``prediction`` DOUBLE and, for classification,
            ``probability`` VECTOR; one row per example.
        task: which task.
        n_classes: number of classes the model knows.
        features: the column of vectors, for clustering.
        weight: the column of what rows count for; None: all alike.
        quantile: that of ``quantileLoss``.

    Raises:
        StepError: there is no row, none counts, or a prediction is null or NaN, or, of a regression, infinite.
    """
    weighted = predictions.withColumn(_W, F.lit(1) if weight is None else F.col(weight).cast("double"))
    if task == "binary":
        return _binary(weighted)
    if task == "multiclass":
        return _multiclass(weighted, n_classes)
    if task == "clustering":
        return {"silhouette": silhouette(predictions, features)}
    if task == "anomaly":
        found = _binary(weighted.where(F.col("label").isNotNull()))
        return {name: found[name] for name in ("areaUnderPR", "areaUnderROC")}
    return _regression(weighted, quantile)


def _is_bad(value: Column) -> Column:
    return value.isNull() | F.isnan(value)


def _total(condition: Column) -> Column:
    return F.sum(F.when(condition, F.col(_W)).otherwise(0))


def _log_loss(p: Column) -> Column:
    return F.sum(F.col(_W) * -F.log(F.least(F.greatest(p, F.lit(EPSILON)), F.lit(1 - EPSILON))))


def _check(rows: int, bad: int, total: float) -> None:
    if rows == 0:
        raise StepError("metrics: found no row to evaluate, expected at least one with a label; check the split and the label column")
    if bad:
        raise StepError(
            f"metrics: {bad} of {rows} predictions are null or no number, expected one each; check the features for NaN or infinite values"
        )
    if not total > 0:
        raise StepError(f"metrics: the weights of all {rows} rows to evaluate are 0, expected some above it; check `dataset.weight`")


def _binary(predictions: DataFrame) -> dict[str, float]:
    rows = predictions.select(
        (F.col("label") == 1).alias("is_positive"),
        (F.col("prediction") == 1).alias("is_called"),
        vector_to_array(F.col("probability"))[1].alias("p"),
        _W,
    )
    counts, roc, pr = measure_scores(count_scores(rows, _W))
    n, positive, called = counts.n, counts.positive, counts.called
    _check(int(counts.rows), int(counts.bad), n)
    return {
        "areaUnderPR": pr,
        "areaUnderROC": roc,
        "accuracy": (n - positive - called + 2 * counts.hit) / n,
        "f1": ratio(2 * counts.hit, positive + called),
        "logLoss": counts.loss / n,
    }


def _multiclass(predictions: DataFrame, n_classes: int) -> dict[str, float]:
    p = F.col("p")
    is_known = (F.col("label") >= 0) & (F.col("label") < n_classes)
    cells = (
        predictions.select("label", "prediction", vector_to_array(F.col("probability")).alias("p"), _W)
        .groupBy("label", "prediction")
        .agg(
            F.count("*").alias("rows"),
            F.sum(_W).alias("n"),
            F.count_if(p.isNull() | F.exists(p, _is_bad)).alias("bad"),
            _log_loss(F.when(is_known, F.get(p, F.col("label").cast("int"))).otherwise(0.0)).alias("loss"),
        )
        .toArrow()
        .to_pandas()
    )
    n = float(cells["n"].sum())
    _check(int(cells["rows"].sum()), int(cells["bad"].sum()), n)
    hits = cells[cells["label"] == cells["prediction"]].set_index("label")["n"]
    actual, called = cells.groupby("label")["n"].sum(), cells.groupby("prediction")["n"].sum()
    f1 = (2 * hits / (actual + called.reindex(actual.index, fill_value=0))).reindex(actual.index).fillna(0.0)
    return {"f1": float((f1 * actual).sum()) / n, "accuracy": float(hits.sum()) / n, "logLoss": float(cells["loss"].sum()) / n}


def _regression(predictions: DataFrame, quantile: float | None) -> dict[str, float]:
    weight, label, residual = F.col(_W), F.col("label"), F.col("label") - F.col("prediction")
    level = F.lit(0.5 if quantile is None else quantile)
    row = predictions.agg(
        F.count("*").alias("rows"),
        F.sum(weight).alias("n"),
        F.count_if(_is_bad(residual) | (F.abs(residual) == math.inf)).alias("bad"),
        F.sum(weight * residual * residual).alias("squares"),
        F.sum(weight * F.abs(residual)).alias("absolutes"),
        F.sum(weight * F.greatest(level * residual, (level - 1) * residual)).alias("losses"),
        F.try_divide(F.sum(weight * label), F.sum(weight)).alias("mean"),
        F.var_pop("label").alias("variance"),
        (F.min(weight) == F.max(weight)).alias("are_alike"),
        (F.min(F.when(weight > 0, label)) == F.max(F.when(weight > 0, label))).alias("is_constant"),
    ).first()
    assert row is not None  # an aggregate without groups always has one row
    _check(row["rows"], row["bad"], row["n"] or 0.0)
    n, variance = row["n"], 0.0 if row["is_constant"] else row["variance"]
    if not row["are_alike"] and not row["is_constant"]:  # a second look tells it exactly
        spread = predictions.agg(F.sum(weight * (label - F.lit(row["mean"])) ** 2)).first()
        variance = (spread[0] if spread else 0.0) / n
    found = {"rmse": math.sqrt(row["squares"] / n), "mae": row["absolutes"] / n, "r2": 1 - ratio(row["squares"] / n, variance)}
    return found if quantile is None else {**found, QUANTILE_LOSS: row["losses"] / n}
