"""Linear support vector machines over any number of classes: each class against the rest, and all of them in one fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.ml import PipelineModel
from pyspark.ml.classification import LinearSVC
from pyspark.sql import functions as F

from tidemill.features.text.arrow import sparse_parts, width
from tidemill.learners.class_labels import against_the_rest, class_count, set_parameters
from tidemill.learners.linear_scores import linear_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import DataFrame


_SEED = 7
# What is left to gain of a row's margin; below it the greatest margin no longer changes hands.
_TOLERANCE = 1e-2


def solve(batches: Iterable[pa.RecordBatch], against: Sequence[int], *, cost: float, passes: int, most_values: int) -> np.ndarray | None:
    """Return the weights of each class against the rest, one column a class and the intercepts in the last row.

    Minimises ``|w|² / 2 + cost sum(max(0, 1 - y w·x))``, the intercept being the weight of a slot that is 1 in each row. A row changes the
    weights of all classes in one go, which is what makes Python fast enough for it.

    Args:
        batches: ``features`` (vectors of MLlib) and ``label`` (index of the class).
        against: the indices of the classes.
        cost: what a margin that is short by 1 costs.
        passes: over the rows, at most.
        most_values: None is returned where the rows hold more.

    Source: Hsieh, Chang, Lin, Keerthi, Sundararajan: A dual coordinate descent method for large-scale linear SVM, ICML 2008, algorithm 1
    with the hinge loss.
    """
    rows, labels, size = _rows(batches, most_values)
    if rows is None:
        return None
    signs = np.where(np.asarray(labels)[:, None] == np.asarray(against), 1.0, -1.0)
    norms = np.array([float(values @ values) for _, values in rows])
    weights = np.zeros((size + 1, len(against)))
    duals = np.zeros_like(signs)
    order = np.random.default_rng(_SEED)
    for _ in range(passes):
        worst = 0.0
        for row in order.permutation(len(rows)):
            slots, values = rows[row]
            sign, dual = signs[row], duals[row]
            better = np.clip(dual - (sign * (values @ weights[slots]) - 1.0) / norms[row], 0.0, cost)
            step = better - dual
            moved = np.flatnonzero(step)
            if len(moved):
                duals[row] = better
                worst = max(worst, float(np.abs(step).max()) * norms[row])
                if 4 * len(moved) < len(step):
                    weights[slots[:, None], moved] += values[:, None] * (step * sign)[moved]
                else:
                    weights[slots] += values[:, None] * (step * sign)
        if worst < _TOLERANCE:
            break
    return weights


def _rows(batches: Iterable[pa.RecordBatch], most_values: int) -> tuple[list[tuple[np.ndarray, np.ndarray]] | None, list[float], int]:
    """Return slots and values of each row, the intercept's slot last; the labels; and the number of slots without it."""
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    labels: list[float] = []
    size = held = 0
    for batch in batches:
        vectors = batch.column("features")
        offsets, slots, values = sparse_parts(vectors)
        held += len(values)
        if held > most_values:
            return None, [], 0
        if len(batch):
            size = width(vectors)
        one = np.ones(1)
        for start, end in pairwise(offsets):
            rows.append((np.append(slots[start:end], size), np.append(values[start:end], one)))
        labels += batch.column("label").to_pylist()
    return rows, labels, size


# Up to here one task solves all classes at once, in the memory of one Python worker; MLlib would take a Spark job or two for each
# class and step, hundreds of them for a problem of seconds.
MOST_ROWS = 30_000
MOST_VALUES = 20_000_000
# MLlib's steps are of another kind than passes of coordinate descent, and more of them are needed.
_STEPS_A_PASS = 4
_SCALE = 2.0


class LinearSvm(LinearSVC):
    """Support vector machines without a kernel; takes the parameters of LinearSVC, ``maxIter`` counts passes over the rows.

    Minimises ``regParam / 2 |w|² + mean(max(0, 1 - y w·x))`` for each class against the rest; the intercept is penalised as a weight is,
    as in LIBLINEAR. The fitted PipelineModel is MLlib's own: ``prediction`` is the class of the greatest margin. ``probability`` is the
    logistic function of twice the margin, or its like over more classes: it ranks well and is not calibrated.
    """

    def _fit(self, dataset: DataFrame) -> PipelineModel:  # type: ignore[override]
        """Fit on ``dataset``, whose label says in its metadata how many classes there are."""
        classes = class_count(dataset, self.getLabelCol())
        # Of two classes, one problem tells both.
        against = [1] if classes == 2 else list(range(classes))
        rows = dataset.count()
        solved = self._in_one_task(dataset, against, rows) if rows <= MOST_ROWS else None
        weights, biases = solved if solved is not None else self._class_by_class(dataset, against)
        return PipelineModel([linear_scores(dataset.sparkSession, _SCALE * weights, _SCALE * biases, classes, self.getFeaturesCol())])

    def _in_one_task(self, dataset: DataFrame, against: list[int], rows: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return weights and intercepts by coordinate descent; None where the rows hold more than a worker should."""
        cost, passes = 1.0 / (self.getRegParam() * rows) if self.getRegParam() > 0 else 1e6, self.getMaxIter()

        def fit(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            solution = solve(batches, against, cost=cost, passes=passes, most_values=MOST_VALUES)
            if solution is not None:
                # A row a class, the intercept last.
                yield pa.RecordBatch.from_arrays([pa.array(list(solution.T), pa.list_(pa.float64()))], names=["weights"])

        ours = dataset.select(F.col(self.getFeaturesCol()).alias("features"), F.col(self.getLabelCol()).alias("label"))
        table = ours.coalesce(1).mapInArrow(fit, "weights ARRAY<DOUBLE>").toArrow()
        if not table.num_rows:
            return None
        found = table["weights"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        return found[:, :-1], found[:, -1]

    def _class_by_class(self, dataset: DataFrame, against: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return weights and intercepts by MLlib's own fit, a class after the other, two at a time."""
        given = set_parameters(self) | {"maxIter": self.getMaxIter() * _STEPS_A_PASS, "standardization": False}

        def fit(_: int, rows: DataFrame) -> Any:
            return LinearSVC()._set(**given).fit(rows)

        models = against_the_rest(dataset, self.getLabelCol(), self.getFeaturesCol(), against, fit)
        return np.stack([model.coefficients.toArray() for model in models]), np.array([model.intercept for model in models])
