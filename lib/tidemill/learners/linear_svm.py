"""Linear support vector machines over any number of classes: each class against the rest, and all of them in one fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from pyspark.ml import PipelineModel
from pyspark.ml.classification import LinearSVC
from pyspark.sql import functions as F

from tidemill.features.text.arrow import sparse_parts, vector_size
from tidemill.learners.base import Rows, Setting
from tidemill.learners.class_labels import against_the_rest, class_count, set_parameters
from tidemill.learners.linear_learners import MARGIN_SCALE, SVM
from tidemill.learners.linear_scores import linear_scores
from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


_SEED = 7


# Up to here one task solves all classes at once, in the memory of one Python worker; MLlib would take a Spark job or two for each
# class and step, hundreds of them for a problem of seconds.
MOST_ROWS = 30_000
MOST_VALUES = 20_000_000
# MLlib's steps are of another kind than LIBLINEAR's passes over the rows, and more of them are needed.
_STEPS_A_PASS = 4


class LinearSvm(LinearSVC):
    """Support vector machines without a kernel; takes the parameters of LinearSVC, ``maxIter`` counts passes over the rows.

    Minimises ``regParam / 2 |w|² + mean(max(0, 1 - y w·x))`` for each class against the rest; the intercept is penalised as a weight is,
    as in LIBLINEAR. The fitted PipelineModel is MLlib's own: ``prediction`` is the class of the greatest margin. ``probability`` is the
    logistic function of twice the margin, or its like over more classes: it ranks well and is not calibrated.
    """

    def _fit(self, dataset: DataFrame) -> PipelineModel:  # type: ignore[override]
        """Fit on ``dataset``, whose label says in its metadata how many classes there are."""
        classes = class_count(dataset, self.getLabelCol())
        solved = self._fit_in_one_task(dataset, classes) if dataset.count() <= MOST_ROWS else None
        weights, biases = self._fit_by_class(dataset, classes) if solved is None else solved
        return PipelineModel([linear_scores(dataset.sparkSession, weights, biases, classes, self.getFeaturesCol())])

    def _fit_in_one_task(self, dataset: DataFrame, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return weights and intercepts by LIBLINEAR; None where the rows hold more than a worker should."""
        params = {"regParam": self.getRegParam(), "maxIter": self.getMaxIter()}
        setting = Setting(params, TaskKind.BINARY if classes == 2 else TaskKind.MULTICLASS, classes, _SEED)
        most_values = MOST_VALUES

        def fit(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            rows = _read_rows(batches, most_values)
            if rows is not None:
                linear = SVM.fit(rows, setting)
                # A row a class, the intercept last.
                solution = np.column_stack([linear.weights, linear.biases])
                yield pa.RecordBatch.from_arrays([pa.array(list(solution), pa.list_(pa.float64()))], names=["weights"])

        vectors = dataset.select(F.col(self.getFeaturesCol()).alias("features"), F.col(self.getLabelCol()).alias("label"))
        table = vectors.coalesce(1).mapInArrow(fit, "weights ARRAY<DOUBLE>").toArrow()
        if not table.num_rows:
            return None
        solution = table["weights"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        return solution[:, :-1], solution[:, -1]

    def _fit_by_class(self, dataset: DataFrame, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Return weights and intercepts by MLlib's own fit, a class after the other, two at a time."""
        against = [1] if classes == 2 else list(range(classes))  # of two classes, one problem tells both
        given = set_parameters(self) | {"maxIter": self.getMaxIter() * _STEPS_A_PASS, "standardization": False}

        def fit(_: int, rows: DataFrame) -> Any:
            return LinearSVC()._set(**given).fit(rows)

        models = against_the_rest(dataset, self.getLabelCol(), self.getFeaturesCol(), against, fit)
        coefficients = np.stack([model.coefficients.toArray() for model in models])
        return MARGIN_SCALE * coefficients, MARGIN_SCALE * np.array([model.intercept for model in models])


def _read_rows(batches: Iterable[pa.RecordBatch], most_values: int) -> Rows | None:
    """Return vectors and labels; None where there are more than ``most_values`` values."""
    parts: list[sp.csr_matrix] = []
    labels: list[np.ndarray] = []
    values_read = 0
    for batch in batches:
        vectors = batch.column("features")
        offsets, slots, values = sparse_parts(vectors)
        values_read += len(values)
        if values_read > most_values:
            return None
        if len(batch):
            parts.append(sp.csr_matrix((values, slots, offsets), shape=(len(batch), vector_size(vectors))))
            labels.append(batch.column("label").to_numpy())
    return Rows(sp.vstack(parts, format="csr"), np.concatenate(labels)) if parts else None
