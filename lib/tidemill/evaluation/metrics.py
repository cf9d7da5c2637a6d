"""All metrics of a task from one aggregation in Spark; the driver sees counts, never rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.clusters import silhouette
from tidemill.logits import logit
from tidemill.spec.models import MINIMISED

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

BINS_PER_LOGIT = 2000
MAX_BIN = 50_000  # p within 1.4e-11 of 0 or 1 falls into the outermost bin; at most 100,001 bins reach the driver
EPSILON = 1e-15  # MLlib's and scikit-learn's bound of the log loss


def is_better(metric: str, a: float, b: float) -> bool:
    """Return whether value ``a`` of a metric is strictly better than ``b``; a NaN is worse than any number."""
    if math.isnan(a):
        return False
    if math.isnan(b):
        return True
    return a < b if metric in MINIMISED else a > b


def compute_metrics(predictions: DataFrame, task: str, n_classes: int = 2, features: str = "features_linear") -> dict[str, float]:
    """Compute every metric of the task over all rows, by one aggregation.

    - binary: ``areaUnderROC`` and ``areaUnderPR`` of the probability of class 1, ``accuracy``, ``f1`` **of the positive
      class**, ``logLoss``. The areas come from counts on a grid of 1/2000 in the logit, so scores closer than that count as
      ties: they agree with scikit-learn's to 1e-4. ``areaUnderPR`` is MLlib's: trapezoids over the distinct scores, and the
      curve starts at recall 0 with the precision of the highest score (``average_precision_score`` is its step-wise
      sibling). A metric that needs both classes is NaN where one is absent.
    - multiclass: ``accuracy``, ``f1`` (mean over the classes, weighted by their rows: MLlib's default), ``logLoss``.
    - regression: ``rmse``, ``mae``, ``r2`` (about the mean of these rows; NaN where the label is constant).
    - clustering: ``silhouette`` (see `tidemill.evaluation.clusters`) of the vectors in ``features``.
    - anomaly: ``areaUnderPR`` and ``areaUnderROC`` of the rows that have a label.

    ``accuracy`` and ``f1`` judge ``prediction``, so whatever threshold the model carries (0.5 unless it says otherwise).
    ``logLoss`` is exact, with probabilities held in [1e-15, 1 - 1e-15]; a label beyond the classes counts as probability 0.

    Args:
        predictions: ``label`` DOUBLE (class index or value), ``prediction`` DOUBLE and, for classification,
            ``probability`` VECTOR; one row per example.
        task: which task.
        n_classes: number of classes the model knows.
        features: the column of vectors, for clustering.

    Raises:
        StepError: there is no row, or a prediction is null or NaN.
    """
    if task == "binary":
        return _binary(predictions)
    if task == "multiclass":
        return _multiclass(predictions, n_classes)
    if task == "clustering":
        return {"silhouette": silhouette(predictions, features)}
    if task == "anomaly":
        found = _binary(predictions.where(F.col("label").isNotNull()))
        return {name: found[name] for name in ("areaUnderPR", "areaUnderROC")}
    return _regression(predictions)


def _is_bad(value: Column) -> Column:
    return value.isNull() | F.isnan(value)


def _total(condition: Column) -> Column:
    return F.sum(F.when(condition, 1).otherwise(0))


def _log_loss(p: Column) -> Column:
    return F.sum(-F.log(F.least(F.greatest(p, F.lit(EPSILON)), F.lit(1 - EPSILON))))


def _check(rows: int, bad: int) -> None:
    if rows == 0:
        raise StepError("metrics: found no row to evaluate, expected at least one with a label; check the split and the label column")
    if bad:
        raise StepError(
            f"metrics: {bad} of {rows} predictions are null or NaN, expected a number each; check the features for NaN or infinite values"
        )


def ratio(a: float, b: float) -> float:
    """Return ``a / b``, NaN where ``b`` is 0."""
    return float(a) / float(b) if b else math.nan


def _binary(predictions: DataFrame) -> dict[str, float]:
    rows = predictions.select(
        (F.col("label") == 1).alias("is_positive"),
        (F.col("prediction") == 1).alias("is_called"),
        vector_to_array(F.col("probability"))[1].alias("p"),
    )
    p, is_positive, is_called = F.col("p"), F.col("is_positive"), F.col("is_called")
    score_bin = F.round(F.least(F.greatest(logit(p) * BINS_PER_LOGIT, F.lit(-float(MAX_BIN))), F.lit(float(MAX_BIN)))).cast("int")
    counts = (
        rows.groupBy(F.when(~_is_bad(p), score_bin).alias("score_bin"))
        .agg(
            F.count("*").alias("n"),
            _total(_is_bad(p)).alias("bad"),
            _total(is_positive).alias("positive"),
            _total(is_called).alias("called"),
            _total(is_positive & is_called).alias("hit"),
            _log_loss(F.when(is_positive, p).otherwise(1 - p)).alias("loss"),
        )
        .toArrow()
        .to_pandas()
        .sort_values("score_bin", ascending=False)
    )
    n, bad, positive, called, hit = (int(counts[name].sum()) for name in ("n", "bad", "positive", "called", "hit"))
    _check(n, bad)
    positives = counts["positive"].to_numpy(dtype=float)
    roc, pr = areas(positives, counts["n"].to_numpy(dtype=float) - positives)
    return {
        "areaUnderPR": pr,
        "areaUnderROC": roc,
        "accuracy": (n - positive - called + 2 * hit) / n,
        "f1": ratio(2 * hit, positive + called),
        "logLoss": float(counts["loss"].sum()) / n,
    }


def areas(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """Return the areas under the ROC and the precision-recall curve from counts by falling score."""
    tp, fp = np.cumsum(positives), np.cumsum(negatives)
    if tp[-1] == 0:
        return math.nan, math.nan
    precision, recall = tp / (tp + fp), tp / tp[-1]
    pr = float(np.trapezoid(np.r_[precision[0], precision], np.r_[0.0, recall]))
    if fp[-1] == 0:
        return math.nan, pr
    return float(np.trapezoid(np.r_[0.0, recall], np.r_[0.0, fp / fp[-1]])), pr


def _multiclass(predictions: DataFrame, n_classes: int) -> dict[str, float]:
    p = F.col("p")
    is_known = (F.col("label") >= 0) & (F.col("label") < n_classes)
    cells = (
        predictions.select("label", "prediction", vector_to_array(F.col("probability")).alias("p"))
        .groupBy("label", "prediction")
        .agg(
            F.count("*").alias("n"),
            _total(p.isNull() | F.exists(p, _is_bad)).alias("bad"),
            _log_loss(F.when(is_known, F.get(p, F.col("label").cast("int"))).otherwise(0.0)).alias("loss"),
        )
        .toArrow()
        .to_pandas()
    )
    n = int(cells["n"].sum())
    _check(n, int(cells["bad"].sum()))
    hits = cells[cells["label"] == cells["prediction"]].set_index("label")["n"]
    actual, called = cells.groupby("label")["n"].sum(), cells.groupby("prediction")["n"].sum()
    f1 = (2 * hits / (actual + called.reindex(actual.index, fill_value=0))).reindex(actual.index).fillna(0.0)
    return {"f1": float((f1 * actual).sum()) / n, "accuracy": float(hits.sum()) / n, "logLoss": float(cells["loss"].sum()) / n}


def _regression(predictions: DataFrame) -> dict[str, float]:
    residual = F.col("label") - F.col("prediction")
    row = predictions.agg(
        F.count("*").alias("n"),
        _total(_is_bad(residual)).alias("bad"),
        F.sum(residual * residual).alias("squares"),
        F.sum(F.abs(residual)).alias("absolutes"),
        F.var_pop("label").alias("variance"),
    ).first()
    assert row is not None  # an aggregate without groups always has one row
    _check(row["n"], row["bad"])
    n = row["n"]
    return {
        "rmse": math.sqrt(row["squares"] / n),
        "mae": row["absolutes"] / n,
        "r2": 1 - ratio(row["squares"] / n, row["variance"]),
    }
