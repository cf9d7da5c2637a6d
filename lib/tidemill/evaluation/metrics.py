"""All metrics of a task from one aggregation in Spark; the driver sees counts, never rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.arrays import sum_terms
from tidemill.evaluation.counts import BinaryCounts, ClassCounts, ErrorCounts, MetricCounts, measure_counts
from tidemill.evaluation.curves import EPSILON, SMALLEST_LABEL
from tidemill.evaluation.row_counts import ABSOLUTE_LEVELS, TOP_K
from tidemill.evaluation.scores import count_scores, measure_scores
from tidemill.evaluation.unsupervised import silhouette
from tidemill.tasks import Metric, PredictedRows, TaskKind, is_minimised

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_W = "_tidemill_weight"


def is_better(metric: str, a: float, b: float) -> bool:
    """Return whether value ``a`` of a metric is strictly better than ``b``; a NaN is worse than any number."""
    if math.isnan(a):
        return False
    if math.isnan(b):
        return True
    return a < b if is_minimised(metric) else a > b


def compute_metrics(
    predictions: DataFrame,
    task: str,
    n_classes: int = 2,
    features: str = "features_linear",
    *,
    weight: str | None = None,
    quantile: float | None = None,
    own: Sequence[Metric] = (),
    with_error_quantiles: bool = False,
) -> dict[str, float]:
    """Compute every metric of the task kind over all rows: one aggregation, and one more if metrics of ``own`` have terms.

    - binary: ``areaUnderROC``, ``areaUnderPR`` and ``averagePrecision`` of the probability of class 1; of the predicted class ``accuracy``,
      ``balancedAccuracy``, ``mcc``, ``specificity`` and, **of the positive class**, ``f1``, ``precision``, ``recall``; of the
      probability ``logLoss``, ``brier`` and ``expectedCalibrationError`` (15 bins of equal width). The areas are exact at any size (see
      `tidemill.evaluation.scores`): scores are ties where they are equal, and only there. ``areaUnderPR`` is MLlib's: trapezoids over the
      distinct scores, and the curve starts at recall 0 with the precision of the highest score; ``averagePrecision``, scikit-learn's,
      takes steps. A metric that needs a class is NaN where it is absent;
      ``precision`` is 0 where no row is called positive.
    - multiclass: ``accuracy``, ``balancedAccuracy``, ``f1`` (mean over the classes, weighted by their rows: MLlib's default), ``macroF1``
      (their plain mean), ``mcc``, ``logLoss``.
    - regression: ``rmse``, ``mae``, ``mape`` (scikit-learn's), ``r2`` (about the mean of these rows; NaN where the label is constant); with
      a ``quantile`` q also ``quantileLoss``, the mean of q × residual above the prediction and (1 - q) × the residual's absolute value
      below it.
    - clustering: ``silhouette`` (see `tidemill.evaluation.unsupervised`) of the vectors in ``features``.
    - anomaly: ``areaUnderPR``, ``areaUnderROC`` and ``averagePrecision`` of the rows that have a label.

    With ``weight``, rows are weighted in every metric, like scikit-learn's ``sample_weight``.

    Metrics of the predicted class use ``prediction``, so they depend on the model's threshold (0.5 unless tuned).
    ``logLoss`` is exact, with probabilities clipped to [1e-15, 1 - 1e-15]; a label beyond the classes counts as probability 0.

    Args:
        predictions: ``label`` DOUBLE (class index or value), ``prediction`` DOUBLE and, for classification,
            ``probability`` VECTOR; one row per example.
        task: the kind of task.
        n_classes: number of classes the model knows.
        features: the column of vectors, for clustering.
        weight: the column of sample weights; None: 1 each.
        quantile: the quantile of ``quantileLoss``.
        own: custom metrics.
        with_error_quantiles: also the quantiles of the absolute error, exact to about one row in 500, with two more aggregations each.

    Raises:
        StepError: there is no row, all weights are 0, or a prediction is null or NaN, or, for a regression, infinite.
    """
    kind = TaskKind(task)
    if kind.finds_clusters:
        return {"silhouette": silhouette(predictions, features)}
    weighted = predictions.withColumn(_W, F.lit(1) if weight is None else F.col(weight).cast("double"))
    if kind.finds_anomalies:
        weighted = weighted.where(F.col("label").isNotNull())
    counts: MetricCounts
    if kind.predicts_number:
        counts = _count_errors(weighted, quantile)
        if with_error_quantiles:
            errors = weighted.select(F.abs(F.col("label") - F.col("prediction")).alias("error"), _W)
            quantiles = {str(level): find_quantile(errors, "error", F.col(_W), level / 100) for level in ABSOLUTE_LEVELS}
            counts = replace(counts, absolute_quantiles=quantiles)
    elif kind.has_many_classes:
        counts = _count_classes(weighted, n_classes)
    else:
        counts = _count_binary(weighted)
    with_terms = [metric for metric in own if metric.terms is not None]
    return measure_counts(counts, kind, own, _sum_terms(weighted, with_terms) if with_terms else None)


def _sum_terms(weighted: DataFrame, own: Sequence[Metric]) -> dict[str, dict[str, float]]:
    """Return the weighted sums of the terms of custom metrics, summed per batch in Spark tasks."""
    has_probability = "probability" in weighted.columns
    probability = vector_to_array(F.col("probability")) if has_probability else F.array().cast("array<double>")
    rows = weighted.select("label", "prediction", probability.alias("probability"), F.col(_W).cast("double").alias(_W))

    def sum_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if not len(batch):
                continue
            label, prediction, weights = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("label", "prediction", _W))
            scores = batch.column("probability").flatten().to_numpy(zero_copy_only=False)
            sums = sum_terms(own, PredictedRows(label, prediction, scores.reshape(len(batch), -1)), weights)
            cells = [(metric, term, total) for metric, terms in sums.items() for term, total in terms.items()]
            metrics, terms, totals = zip(*cells, strict=True) if cells else ((), (), ())
            yield pa.RecordBatch.from_pydict({"metric": list(metrics), "term": list(terms), "total": np.asarray(totals, dtype=float)})

    table = rows.mapInArrow(sum_batches, "metric STRING, term STRING, total DOUBLE").toArrow().to_pylist()
    parts: dict[str, dict[str, list[float]]] = {metric.name: {} for metric in own}
    for cell in table:
        parts[cell["metric"]].setdefault(cell["term"], []).append(cell["total"])
    return {metric: {term: math.fsum(totals) for term, totals in terms.items()} for metric, terms in parts.items()}


_LEVELS = 500


def find_quantile(rows: DataFrame, name: str, counts: Column, quantile: float) -> float:
    """Return the weighted quantile of a column, exact to about one row in 500; ``counts`` are the weights."""
    levels = [place / _LEVELS for place in range(_LEVELS + 1)]
    cuts: list[float] = (rows.agg(F.percentile_approx(name, levels, 10_000)).first() or [[]])[0]
    cumulative = rows.agg(*[F.sum(F.when(F.col(name) <= cut, counts).otherwise(0.0)) for cut in cuts]).first() or [0.0]
    return float(next((cut for cut, share in zip(cuts, cumulative, strict=True) if share >= quantile * cumulative[-1]), cuts[-1]))


def _is_bad(value: Column) -> Column:
    return value.isNull() | F.isnan(value)


def _total(condition: Column) -> Column:
    return F.sum(F.when(condition, F.col(_W)).otherwise(0))


def _log_loss(p: Column) -> Column:
    return F.sum(F.col(_W) * -F.log(F.least(F.greatest(p, F.lit(EPSILON)), F.lit(1 - EPSILON))))


def check_predictions(rows: int, bad: int, total: float) -> None:
    """Refuse to measure no rows, predictions that are no numbers, and weights that are all 0.

    Raises:
        StepError: one of them is the case.
    """
    if rows == 0:
        raise StepError("metrics: found no row to evaluate, expected at least one with a label; check the split and the label column")
    if bad:
        raise StepError(
            f"metrics: {bad} of {rows} predictions are null or no number, expected one each; check the features for NaN or infinite values"
        )
    if not total > 0:
        raise StepError(f"metrics: the weights of all {rows} rows to evaluate are 0, expected some above it; check `dataset.weight`")


def _count_binary(predictions: DataFrame) -> BinaryCounts:
    rows = predictions.select(
        (F.col("label") == 1).alias("is_positive"),
        (F.col("prediction") == 1).alias("is_called"),
        vector_to_array(F.col("probability"))[1].alias("p"),
        _W,
    )
    n_rows, bad, counts = measure_scores(count_scores(rows, _W))
    check_predictions(n_rows, bad, counts.n)
    return counts


def _count_classes(predictions: DataFrame, n_classes: int) -> ClassCounts:
    p = F.col("p")
    is_known = (F.col("label") >= 0) & (F.col("label") < n_classes)
    rank, levels = rank_of_label(p, F.col("label")), [k for k in TOP_K if k < n_classes]
    cells = (
        predictions.select("label", "prediction", vector_to_array(F.col("probability")).alias("p"), _W)
        .groupBy("label", "prediction")
        .agg(
            F.count("*").alias("rows"),
            F.sum(_W).alias("n"),
            F.count_if(p.isNull() | F.exists(p, _is_bad)).alias("bad"),
            *(_total(rank < k).alias(f"within_{k}") for k in levels),
            _log_loss(F.when(is_known, F.get(p, F.col("label").cast("int"))).otherwise(0.0)).alias("loss"),
        )
        .toArrow()
    )
    rows, bad, total = (np.sum(cells[name].to_numpy()) for name in ("rows", "bad", "n"))
    check_predictions(int(rows), int(bad), float(total))
    label, prediction = (cells[name].to_numpy().astype(np.int64) for name in ("label", "prediction"))
    n, size = cells["n"].to_numpy().astype(float), int(max(label.max(), prediction.max())) + 1
    is_hit = label == prediction
    return ClassCounts(
        actual=np.bincount(label, n, minlength=size),
        called=np.bincount(prediction, n, minlength=size),
        hits=np.bincount(label[is_hit], n[is_hit], minlength=size),
        within={str(k): float(np.sum(cells[f"within_{k}"].to_numpy())) for k in levels},
        loss=float(np.sum(cells["loss"].to_numpy())),
    )


def rank_of_label(p: Column, label: Column) -> Column:
    """Return how many classes come before the label's by probability; of equal ones the last comes first (as in scikit-learn)."""
    own = F.get(p, label.cast("int"))
    before = F.filter(p, lambda other, index: (other > own) | ((other == own) & (index > label)))
    return F.coalesce(F.array_size(before), F.lit(2**31 - 1))


def _count_errors(predictions: DataFrame, quantile: float | None) -> ErrorCounts:
    weight, label, residual = F.col(_W), F.col("label"), F.col("label") - F.col("prediction")
    level = F.lit(0.5 if quantile is None else quantile)
    row = predictions.agg(
        F.count("*").alias("rows"),
        F.sum(weight).alias("n"),
        F.count_if(_is_bad(residual) | (F.abs(residual) == math.inf)).alias("bad"),
        F.sum(weight * residual * residual).alias("squares"),
        F.sum(weight * F.abs(residual)).alias("absolutes"),
        F.sum(weight * F.abs(residual) / F.greatest(F.abs(label), F.lit(SMALLEST_LABEL))).alias("percentages"),
        F.sum(weight * F.greatest(level * residual, (level - 1) * residual)).alias("losses"),
        F.try_divide(F.sum(weight * label), F.sum(weight)).alias("mean"),
        F.var_pop("label").alias("variance"),
        (F.min(weight) == F.max(weight)).alias("are_alike"),
        (F.min(F.when(weight > 0, label)) == F.max(F.when(weight > 0, label))).alias("is_constant"),
    ).first()
    assert row is not None  # an aggregate without groups always has one row
    check_predictions(row["rows"], row["bad"], row["n"] or 0.0)
    n, variance = row["n"], 0.0 if row["is_constant"] else row["variance"]
    if not row["are_alike"] and not row["is_constant"]:  # with unequal weights the variance needs a second pass
        spread = predictions.agg(F.sum(weight * (label - F.lit(row["mean"])) ** 2)).first()
        variance = (spread[0] if spread else 0.0) / n
    return ErrorCounts(n, row["squares"], row["absolutes"], variance, row["percentages"], None if quantile is None else row["losses"])
