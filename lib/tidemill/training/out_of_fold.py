"""Out-of-fold predictions counted by their score, and the threshold that is read off the counts.

Up to `MAX_SCORES` distinct scores are counted as they are. More are put into bins of neighbouring scores, whose edges follow the rows
(`assign_bins`), never a fixed grid: scores that a penalty has pulled together are told apart like any others.
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
        found: np.ndarray = np.log(p) - np.log1p(-p)
    return found


MAX_SCORES = 1_000_000
"""Counts of scores that come to the driver, of all classes and folds together: 28 MB."""
MAX_CALIBRATED_CLASSES = 100
"""A calibration of each is kept with the model."""
SCORES_PER_TASK = 250_000
HISTOGRAM_SCHEMA = "class INT, score DOUBLE, rows DOUBLE, positives DOUBLE"
_LEAST_SHARE = 1e-9
_LOG_ODDS = math.log((1 + _LEAST_SHARE) / _LEAST_SHARE)


@dataclass(frozen=True)
class ScoreHistogram:
    """What the rows of each score count for, in all (``rows``) and those of the class (``positives``), by rising distinct score.

    A score is the probability of the class. A bin of several scores is counted at its least one, so that a threshold there calls it whole.
    """

    scores: np.ndarray
    rows: np.ndarray
    positives: np.ndarray

    def scale(self, factor: float) -> ScoreHistogram:
        """Return the histogram of rows that count for ``factor`` times as much."""
        return ScoreHistogram(self.scores, self.rows * factor, self.positives * factor)

    def compress(self, max_scores: int) -> ScoreHistogram:
        """Return the histogram itself where it has up to ``max_scores``, else the one of bins (see `assign_bins`)."""
        if len(self.scores) <= max_scores:
            return self
        numbers = assign_bins(self.rows, self.positives, (0.0, 0.0), (self.rows.sum(), self.positives.sum()), max_scores)
        return _merge_bins(self, numbers)


def build_histogram(scores: np.ndarray, rows: np.ndarray, positives: np.ndarray) -> ScoreHistogram:
    """Return the histogram of rows, or of groups of rows, in any order; scores whose rows count for nothing are left out.

    Raises:
        ValueError: a score is no number.
    """
    bad = int(np.isnan(scores).sum())
    if bad:
        raise ValueError(f"{bad} of {len(scores)} predictions of unseen rows are no numbers; check the features for NaN or infinite values")
    distinct, place = np.unique(scores, return_inverse=True)
    whole = np.bincount(place, rows, minlength=len(distinct))
    of_class = np.bincount(place, positives, minlength=len(distinct))
    counts = whole > 0
    return ScoreHistogram(distinct[counts], whole[counts], of_class[counts])


def assign_bins(
    rows: np.ndarray, positives: np.ndarray, before: tuple[float, float], total: tuple[float, float], max_scores: int
) -> np.ndarray:
    """Return the number of the bin of each score, rising with the score; at most ``max_scores`` numbers occur.

    Half of the bins have edges where the share of the rows below has evenly spaced log odds, half where the share of the positive rows
    below is even. The rows of a bin besides those of its least score are at most 83 / ``max_scores`` of the rows above it (and a
    billionth of all rows), as few of those below it, and 4 / ``max_scores`` of the positive rows. What is called and hit at the edge of
    a bin is exact; at a score inside, it differs from that of an edge by no more than these shares.

    Args:
        rows: what the rows of each score count for, by rising score.
        positives: what the positive ones of them count for.
        before: both, of the rows whose score is less than the first.
        total: both, of all rows.
        max_scores: the most bins.
    """
    half = max(max_scores // 2 - 1, 1)
    share = np.clip((before[0] + np.cumsum(rows)) / max(total[0], 1e-300), 0.0, 1.0)
    log_odds = np.log((share + _LEAST_SHARE) / (1 - share + _LEAST_SHARE))
    by_rows = np.floor((log_odds + _LOG_ODDS) / (2 * _LOG_ODDS) * half)
    by_positives = np.floor((before[1] + np.cumsum(positives)) / max(total[1], 1e-300) * half)
    # Both rise, so that their sum changes wherever one of them does.
    return np.asarray(by_rows + by_positives).astype(np.int64)


def _merge_bins(histogram: ScoreHistogram, numbers: np.ndarray) -> ScoreHistogram:
    """Return the histogram of bins, each at its least score; ``numbers`` are rising."""
    first = np.flatnonzero(np.r_[True, np.diff(numbers) > 0])
    rows, positives = (np.add.reduceat(values, first) for values in (histogram.rows, histogram.positives))
    return ScoreHistogram(histogram.scores[first], rows, positives)


def count_scores(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None, max_scores: int = MAX_SCORES
) -> list[ScoreHistogram]:
    """Return the histograms of a model's predictions (rows, classes).

    Of two classes there is one histogram, that of the second class; of more, one for each class against the rest. Together they have
    up to ``max_scores``. ``weights`` are what the rows count for, without them 1 each.
    """
    counts = np.ones(len(labels)) if weights is None else weights
    classes = list_counted_classes(probabilities.shape[1])
    each = (build_histogram(probabilities[:, place], counts, np.where(labels == place, counts, 0.0)) for place in classes)
    return [histogram.compress(max_scores // len(classes)) for histogram in each]


def list_counted_classes(n_classes: int) -> list[int]:
    """Return the classes that have a histogram: of two classes the second."""
    return [1] if n_classes == 2 else list(range(n_classes))


def count_scores_in_spark(
    predictions: DataFrame, weight: str | None = None, n_classes: int = 2, max_scores: int = MAX_SCORES
) -> list[ScoreHistogram]:
    """Return what `count_scores` gives, of a frame with ``label``, ``probability`` and the column of weights.

    The driver receives up to ``max_scores`` counts, never rows: Spark groups the rows by their exact score and, where there are more,
    puts the scores in order and each task makes the bins of a stretch of them.

    Raises:
        ValueError: a probability is no number.
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
    """Return the bins of each class: up to ``max_scores`` of them, and one more where a stretch begins."""
    parts = math.ceil(groups.count() / SCORES_PER_TASK)
    ordered = groups.repartitionByRange(parts, "class", "score").sortWithinPartitions("class", "score")
    with cache_frame(ordered.withColumn("part", F.spark_partition_id())) as stretches:
        sums = stretches.groupBy("class", "part").agg(
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
                    given = before[place, part]
                    histogram = _merge_bins(  # noqa: PLW2901
                        histogram, assign_bins(histogram.rows, histogram.positives, given, total[place], max_scores)
                    )
                yield to_record_batch(place, histogram)

        return stretches.mapInArrow(merge, HISTOGRAM_SCHEMA).toArrow()


def to_record_batch(place: int, histogram: ScoreHistogram) -> pa.RecordBatch:
    """Return the histogram of a class as rows of `HISTOGRAM_SCHEMA`."""
    classes = np.full(len(histogram.scores), place, dtype=np.int32)
    columns = {"class": classes, "score": histogram.scores, "rows": histogram.rows, "positives": histogram.positives}
    return pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()})


def read_histograms(table: pa.Table, classes: Sequence[int]) -> list[ScoreHistogram]:
    """Return the histogram of each class from rows of `HISTOGRAM_SCHEMA` in any order; equal scores are counted together."""
    place, scores, rows, positives = (table[name].to_numpy() for name in ("class", "score", "rows", "positives"))
    return [build_histogram(*(values[place == wanted] for values in (scores, rows, positives))) for wanted in classes]


def merge_histograms(folds: Sequence[Sequence[ScoreHistogram]]) -> list[ScoreHistogram]:
    """Return the histograms of all folds together."""
    return [
        build_histogram(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "rows", "positives")))
        for parts in zip(*folds, strict=True)
    ]


def choose_threshold(rule: Threshold, histogram: ScoreHistogram) -> float:
    """Return the score from which on class 1 is predicted, by ``rule``: one of those that are counted.

    ``maximise`` takes the least threshold of the best value; ``at_precision`` the least that is precise enough, and so finds most;
    ``at_recall`` the greatest that finds enough, and so is most precise. Where none is, the nearest to it.
    """
    called, hits = (np.cumsum(values[::-1])[::-1] for values in (histogram.rows, histogram.positives))
    ones, whole = histogram.positives.sum(), histogram.rows.sum()
    precision, recall = hits / called, hits / (ones or 1.0)
    if rule.at_precision is not None:
        good = np.flatnonzero(precision >= rule.at_precision)
        place = good[0] if len(good) else int(precision.argmax())
    elif rule.at_recall is not None:
        good = np.flatnonzero(recall >= rule.at_recall)
        place = good[-1] if len(good) else 0
    elif rule.maximise == "accuracy":
        place = int((2 * hits - called + whole - ones).argmax())
    else:
        place = int((2 * hits / (called + ones)).argmax())
    return float(histogram.scores[place])
