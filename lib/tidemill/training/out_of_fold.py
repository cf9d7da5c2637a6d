"""Predictions of rows that a model has not seen, counted on a grid, and what is read off them: calibration and a threshold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import functions as F

from tidemill.logits import logit, logits

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from tidemill.spec.search import Threshold

# The grid is even in the logit: fine where probabilities are near 0 or 1, as those of rare events are.
BINS_PER_LOGIT = 50
LIMIT = 16
SIZE = 2 * LIMIT * BINS_PER_LOGIT + 1
MOST_CLASSES = 100
"""A table for each is kept with the model."""
LOGITS = np.linspace(-LIMIT, LIMIT, SIZE)


def counted(labels: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the rows (0) and the positive rows (1) in each bin of the grid, shape (2, SIZE); with ``weights`` what they count for."""
    bins, is_one = _bins(p), labels == 1
    ones = None if weights is None else weights[is_one]
    return np.stack([np.bincount(bins, weights, minlength=SIZE), np.bincount(bins[is_one], ones, minlength=SIZE)])


def counted_by_class(labels: np.ndarray, p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return what `counted` gives for what a model says of classes (rows, classes).

    Of two classes, it is that of the second; of more, each against the rest one below the other, shape (2 × classes, SIZE).
    """
    if p.shape[1] == 2:
        return counted(labels, p[:, 1], weights)
    return np.concatenate([counted((labels == place).astype(float), p[:, place], weights) for place in range(p.shape[1])])


def _bins(p: np.ndarray) -> np.ndarray:
    return np.rint((np.clip(logits(p), -LIMIT, LIMIT) + LIMIT) * BINS_PER_LOGIT).astype(np.int64)


def on_grid(p: Column) -> Column:
    """Return where a probability lies on the grid, 0 to SIZE - 1; between two points where it lies there."""
    held = F.least(F.greatest(logit(p), F.lit(-float(LIMIT))), F.lit(float(LIMIT)))
    return (held + LIMIT) * BINS_PER_LOGIT


def counted_by_spark(predictions: DataFrame, weight: str | None = None, n_classes: int = 2) -> np.ndarray:
    """Return the same of a frame with ``label``, ``probability`` and the column of weights, by one aggregate of SIZE rows a class."""
    from pyspark.ml.functions import vector_to_array

    classes = [1] if n_classes == 2 else list(range(n_classes))
    counts = F.lit(1) if weight is None else F.col(weight)
    said = F.explode(F.array(*[F.lit(place) for place in classes])).alias("of")
    each = predictions.select(vector_to_array(F.col("probability")).alias("p"), "label", counts.alias("n"), said)
    place = F.rint(on_grid(F.get(F.col("p"), F.col("of")))).cast("int")
    ones = F.when(F.col("label") == F.col("of"), F.col("n")).otherwise(0)
    found = np.zeros((2 * len(classes), SIZE), dtype=np.int64 if weight is None else np.float64)
    for row in each.groupBy("of", place.alias("place")).agg(F.sum("n").alias("rows"), F.sum(ones).alias("ones")).collect():
        first = 2 * classes.index(row["of"])
        found[first : first + 2, row["place"]] = row["rows"], row["ones"]
    return found


def calibration(kind: str, counts: np.ndarray) -> np.ndarray:
    """Return the calibrated probability at each point of the grid.

    ``sigmoid`` is a logistic regression on the logit, the counts moved towards even by one positive and one negative row, as in Platt:
    Probabilistic outputs for support vector machines, 1999. ``isotonic`` is the nearest line that never falls; it stays half a row away
    from 0 and 1, since a probability of 0 of what then happens has no finite log loss.
    """
    rows, positives = counts.astype(float)
    seen = rows > 0
    if kind == "sigmoid":
        return _platt(LOGITS[seen], rows[seen], positives[seen])
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    model.fit(LOGITS[seen], positives[seen] / rows[seen], sample_weight=rows[seen])
    least = 0.5 / rows.sum()
    return np.clip(model.predict(LOGITS), least, 1 - least)


def calibrations(kind: str, counts: np.ndarray) -> list[float] | list[list[float]]:
    """Return the table of `calibration`; of more than two classes one for each against the rest, as `counted_by_class` has them."""
    if len(counts) == 2:
        return [float(value) for value in calibration(kind, counts)]
    return [[float(value) for value in calibration(kind, counts[first : first + 2])] for first in range(0, len(counts), 2)]


def _platt(points: np.ndarray, rows: np.ndarray, positives: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    ones, zeros = positives.sum(), rows.sum() - positives.sum()
    high, low = (ones + 1) / (ones + 2), 1 / (zeros + 2)
    targets = positives * high + (rows - positives) * low

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        margins = line[0] * points + line[1]
        p = 1 / (1 + np.exp(-margins))
        value = float((rows * np.logaddexp(0.0, margins) - targets * margins).sum())
        slope = rows * p - targets
        return value / rows.sum(), np.array([(slope * points).sum(), slope.sum()]) / rows.sum()

    line = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
    return np.asarray(1 / (1 + np.exp(-(line[0] * LOGITS + line[1]))))


def moved(counts: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the counts where each bin's rows have the probability that ``table`` gives it."""
    found = np.zeros_like(counts)
    places = _bins(table)
    for row in (0, 1):
        np.add.at(found[row], places, counts[row])
    return found


def threshold(rule: Threshold, counts: np.ndarray) -> float:
    """Return the probability from which on class 1 is predicted, by ``rule``.

    ``maximise`` takes the least threshold of the best value; ``at_precision`` the least that is precise enough, and so finds most;
    ``at_recall`` the greatest that finds enough, and so is most precise. Where none is, the nearest to it.
    """
    rows, positives = counts.astype(float)
    places = np.flatnonzero(rows)
    called, hits = np.cumsum(rows[places][::-1])[::-1], np.cumsum(positives[places][::-1])[::-1]
    ones, whole = positives.sum(), rows.sum()
    precision, recall = hits / called, hits / max(ones, 1.0)
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
    # Half a bin below: what fell into the bin is called.
    return 1 / (1 + math.exp(-(LOGITS[places[place]] - 0.5 / BINS_PER_LOGIT)))
