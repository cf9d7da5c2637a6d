"""Linear support vector machines over any number of classes: each class against the rest, and all of them in one fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.ml import PipelineModel
from pyspark.ml.classification import LinearSVC
from pyspark.sql import functions as F

from tidemill.training.classes import against_the_rest, class_count, set_parameters
from tidemill.training.coordinate_descent import solve
from tidemill.training.linear_scores import linear_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import DataFrame

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
