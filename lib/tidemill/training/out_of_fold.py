"""Histograms of out-of-fold predictions by score, and the choice of a threshold from them.

Up to `MAX_SCORES` distinct scores are counted exactly. More are grouped into bins of neighbouring scores, whose edges follow the rows
(`assign_bins`) and not a fixed grid: scores that a strong penalty has shrunk together are still distinguished.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from tidemill.runtime.caching import cache_frame

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from tidemill.spec.models import Threshold


def logit(p: Column) -> Column:
    """Return the logit of a column."""
    return F.when(p <= 0, -F.lit(math.inf)).when(p >= 1, F.lit(math.inf)).otherwise(F.log(p) - F.log1p(-p))


def logits(p: np.ndarray) -> np.ndarray:
    """Return the logits of an array."""
    with np.errstate(divide="ignore"):
        result: np.ndarray = np.log(p) - np.log1p(-p)
    return result


MAX_SCORES = 1_000_000
"""The most scores that the driver receives, for all classes and folds together: 28 MB."""
MAX_CALIBRATED_CLASSES = 100
"""The most classes of a calibrated model: it stores a calibration for each."""
SCORES_PER_TASK = 250_000
HISTOGRAM_SCHEMA = "class INT, score DOUBLE, rows DOUBLE, positives DOUBLE"
_LEAST_SHARE = 1e-9
_LOG_ODDS = math.log((1 + _LEAST_SHARE) / _LEAST_SHARE)


@dataclass(frozen=True)
class ScoreHistogram:
    """The weight of all rows (``rows``) and of the rows of the class (``positives``) by score; distinct scores, ascending.

    A score is the predicted probability of the class. A bin of several scores has its least score, so that a threshold there includes
    the whole bin.
    """

    scores: np.ndarray
    rows: np.ndarray
    positives: np.ndarray

    def scale(self, factor: float) -> ScoreHistogram:
        """Return the histogram with all weights multiplied by ``factor``."""
        return ScoreHistogram(self.scores, self.rows * factor, self.positives * factor)

    def compress(self, max_scores: int) -> ScoreHistogram:
        """Return the histogram itself where it has up to ``max_scores`` scores, else one of bins (see `assign_bins`)."""
        if len(self.scores) <= max_scores:
            return self
        numbers = assign_bins(self.rows, self.positives, (0.0, 0.0), (self.rows.sum(), self.positives.sum()), max_scores)
        return _merge_bins(self, numbers)


def build_histogram(scores: np.ndarray, rows: np.ndarray, positives: np.ndarray) -> ScoreHistogram:
    """Return the histogram of rows, or of groups of rows, in any order; scores without weight are left out.

    Raises:
        ValueError: a score is NaN.
    """
    bad = int(np.isnan(scores).sum())
    if bad:
        raise ValueError(f"{bad} of {len(scores)} predictions of unseen rows are no numbers; check the features for NaN or infinite values")
    distinct, place = np.unique(scores, return_inverse=True)
    total_weights = np.bincount(place, rows, minlength=len(distinct))
    of_class = np.bincount(place, positives, minlength=len(distinct))
    counts = total_weights > 0
    return ScoreHistogram(distinct[counts], total_weights[counts], of_class[counts])


def assign_bins(
    rows: np.ndarray, positives: np.ndarray, before: tuple[float, float], total: tuple[float, float], max_scores: int
) -> np.ndarray:
    """Return the number of the bin of each score, rising with the score; at most ``max_scores`` numbers occur.

    The edges of half of the bins are evenly spaced in the log odds of the share of rows below, those of the other half in the share of
    positive rows below. Besides the rows of its least score, a bin holds at most 83 / ``max_scores`` of the rows above it (and a
    billionth of all rows), at most the same share of the rows below it, and at most 4 / ``max_scores`` of the positive rows. The counts
    of predicted positives and of hits are exact at the edge of a bin; at a score inside, they differ from an edge by at most these shares.

    Args:
        rows: the weight of the rows of each score, by ascending score.
        positives: the weight of the positive rows among them.
        before: both weights, of the rows whose score is below the first.
        total: both weights, of all rows.
        max_scores: the most bins.
    """
    half = max(max_scores // 2 - 1, 1)
    share = np.clip((before[0] + np.cumsum(rows)) / max(total[0], 1e-300), 0.0, 1.0)
    log_odds = np.log((share + _LEAST_SHARE) / (1 - share + _LEAST_SHARE))
    by_rows = np.floor((log_odds + _LOG_ODDS) / (2 * _LOG_ODDS) * half)
    by_positives = np.floor((before[1] + np.cumsum(positives)) / max(total[1], 1e-300) * half)
    # Neither falls, so their sum changes wherever one of them changes.
    return np.asarray(by_rows + by_positives).astype(np.int64)


def _merge_bins(histogram: ScoreHistogram, numbers: np.ndarray) -> ScoreHistogram:
    """Return the histogram of the bins, each at its least score; ``numbers`` do not fall."""
    first = np.flatnonzero(np.r_[True, np.diff(numbers) > 0])
    rows, positives = (np.add.reduceat(values, first) for values in (histogram.rows, histogram.positives))
    return ScoreHistogram(histogram.scores[first], rows, positives)


def count_scores(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None, max_scores: int = MAX_SCORES
) -> list[ScoreHistogram]:
    """Return the histograms of a model's predictions (rows, classes).

    For two classes there is one histogram, that of the second class; for more, one for each class against the rest. Together they have
    up to ``max_scores`` scores. ``weights`` are those of the rows; without them each row has weight 1.
    """
    counts = np.ones(len(labels)) if weights is None else weights
    classes = list_counted_classes(probabilities.shape[1])
    each = (build_histogram(probabilities[:, place], counts, np.where(labels == place, counts, 0.0)) for place in classes)
    return [histogram.compress(max_scores // len(classes)) for histogram in each]


def list_counted_classes(n_classes: int) -> list[int]:
    """Return the classes that have a histogram: all, or of two classes the second."""
    return [1] if n_classes == 2 else list(range(n_classes))


def count_scores_in_spark(
    predictions: DataFrame, weight: str | None = None, n_classes: int = 2, max_scores: int = MAX_SCORES
) -> list[ScoreHistogram]:
    """Return the histograms of `count_scores` for a frame with ``label``, ``probability`` and the column of weights.

    The driver receives up to ``max_scores`` groups, never rows: Spark groups the rows by their exact score and, where there are more
    groups, sorts the scores, and each Spark task bins a range of them.

    Raises:
        ValueError: a probability is NaN.
    """
    from pyspark.ml.functions import vector_to_array

    classes = list_counted_classes(n_classes)
    counts = F.lit(1.0) if weight is None else F.col(weight).cast("double")
    place = F.explode(F.array(*map(F.lit, classes))).alias("class")
    rows = predictions.select(vector_to_array(F.col("probability")).alias("p"), "label", counts.alias("n"), place)
    of_class = F.when(F.col("label") == F.col("class"), F.col("n")).otherwise(0.0)
    score = F.coalesce(F.get(F.col("p"), F.col("class")), F.lit(math.nan))
    groups = rows.groupBy("class", score.alias("score")).agg(F.sum("n").alias("rows"), F.sum(of_class).alias("positives"))
    with cache_frame(groups) as counted:
        table = counted.limit(max_scores + 1).toArrow()
        if table.num_rows > max_scores:
            table = _bin_in_spark(counted, max_scores // len(classes))
    return read_histograms(table, classes)


def _bin_in_spark(groups: DataFrame, max_scores: int) -> pa.Table:
    """Return the bins of each class: up to ``max_scores``, and at most one more per range."""
    parts = math.ceil(groups.count() / SCORES_PER_TASK)
    ordered = groups.repartitionByRange(parts, "class", "score").sortWithinPartitions("class", "score")
    with cache_frame(ordered.withColumn("part", F.spark_partition_id())) as ranges:
        sums = ranges.groupBy("class", "part").agg(
            F.max("score").alias("last"), F.count("*").alias("scores"), F.sum("rows").alias("rows"), F.sum("positives").alias("positives")
        )
        before: dict[tuple[int, int], tuple[float, float]] = {}
        total: dict[int, tuple[float, float]] = {}
        scores: dict[int, int] = {}
        for row in sorted(sums.collect(), key=lambda row: (row["class"], row["last"])):
            place = row["class"]
            rows, positives = before[place, row["part"]] = total.get(place, (0.0, 0.0))
            total[place] = rows + row["rows"], positives + row["positives"]
            scores[place] = scores.get(place, 0) + row["scores"]

        def merge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            filled = [batch for batch in batches if len(batch)]
            if not filled:
                return
            table = pa.Table.from_batches(filled)
            part = table["part"][0].as_py()
            for place, histogram in zip(total, read_histograms(table, list(total)), strict=True):
                if not len(histogram.scores):
                    continue
                if scores[place] > max_scores:
                    rows_before = before[place, part]
                    histogram = _merge_bins(  # noqa: PLW2901
                        histogram, assign_bins(histogram.rows, histogram.positives, rows_before, total[place], max_scores)
                    )
                yield to_record_batch(place, histogram)

        return ranges.mapInArrow(merge, HISTOGRAM_SCHEMA).toArrow()


def to_record_batch(place: int, histogram: ScoreHistogram) -> pa.RecordBatch:
    """Return the histogram of a class as rows of `HISTOGRAM_SCHEMA`."""
    classes = np.full(len(histogram.scores), place, dtype=np.int32)
    columns = {"class": classes, "score": histogram.scores, "rows": histogram.rows, "positives": histogram.positives}
    return pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()})


def read_histograms(table: pa.Table, classes: Sequence[int]) -> list[ScoreHistogram]:
    """Return the histogram of each class from rows of `HISTOGRAM_SCHEMA` in any order; equal scores are added up."""
    place, scores, rows, positives = (table[name].to_numpy() for name in ("class", "score", "rows", "positives"))
    return [build_histogram(*(values[place == number] for values in (scores, rows, positives))) for number in classes]


def merge_histograms(folds: Sequence[Sequence[ScoreHistogram]]) -> list[ScoreHistogram]:
    """Return the histograms of all folds together."""
    return [
        build_histogram(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "rows", "positives")))
        for parts in zip(*folds, strict=True)
    ]


def choose_threshold(rule: Threshold, histogram: ScoreHistogram) -> float:
    """Return the threshold that ``rule`` selects among the scores of the histogram; class 1 is predicted from it on.

    ``maximise`` selects the least threshold of the greatest value; ``at_precision`` the least threshold of at least that precision, which
    has the greatest recall; ``at_recall`` the greatest threshold of at least that recall. Where there is none, the nearest value.
    """
    predicted, hits = (np.cumsum(values[::-1])[::-1] for values in (histogram.rows, histogram.positives))
    total_positives, total_weights = histogram.positives.sum(), histogram.rows.sum()
    precision, recall = hits / predicted, hits / (total_positives or 1.0)
    if rule.at_precision is not None:
        good = np.flatnonzero(precision >= rule.at_precision)
        place = good[0] if len(good) else int(precision.argmax())
    elif rule.at_recall is not None:
        good = np.flatnonzero(recall >= rule.at_recall)
        place = good[-1] if len(good) else 0
    elif rule.maximise == "accuracy":
        place = int((2 * hits - predicted + total_weights - total_positives).argmax())
    else:
        place = int((2 * hits / (predicted + total_positives)).argmax())
    return float(histogram.scores[place])
