"""Linear support vector machines for any number of classes, one-vs-rest."""

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
from tidemill.learners.class_labels import count_classes, fit_one_vs_rest, list_set_params
from tidemill.learners.linear_learners import MARGIN_SCALE, SVM
from tidemill.learners.linear_scores import build_linear_classifier
from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


_SEED = 7


# Up to this size one Spark task fits all classes in the memory of one Python worker; MLlib would run hundreds of Spark jobs, one or two
# for each class and step, for a problem of seconds.
MAX_ROWS = 30_000
MAX_VALUES = 20_000_000
# MLlib needs more iterations than LIBLINEAR needs passes over the rows.
_MLLIB_STEPS_PER_PASS = 4


class LinearSvm(LinearSVC):
    """Linear support vector machines with the parameters of LinearSVC; ``maxIter`` is the number of passes over the rows.

    Minimises ``regParam / 2 |w|² + mean(max(0, 1 - y w·x))`` for each class against the rest; the intercept is penalised like a weight,
    as in LIBLINEAR. The fitted PipelineModel is MLlib's own: ``prediction`` is the class of the greatest margin. ``probability`` is the
    logistic function of twice the margin, or the softmax for more classes: it ranks rows, and is not calibrated.
    """

    def _fit(self, dataset: DataFrame) -> PipelineModel:  # type: ignore[override]
        """Fit on ``dataset``, whose label has the number of classes in its metadata."""
        classes = count_classes(dataset, self.getLabelCol())
        solved = self._fit_in_one_task(dataset, classes) if dataset.count() <= MAX_ROWS else None
        weights, biases = self._fit_by_class(dataset, classes) if solved is None else solved
        return PipelineModel([build_linear_classifier(dataset.sparkSession, weights, biases, classes, self.getFeaturesCol())])

    def _fit_in_one_task(self, dataset: DataFrame, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return weights and intercepts by LIBLINEAR; None where the rows have too many values for a worker."""
        params = {"regParam": self.getRegParam(), "maxIter": self.getMaxIter()}
        setting = Setting(params, TaskKind.BINARY if classes == 2 else TaskKind.MULTICLASS, classes, _SEED)
        max_values = MAX_VALUES

        def fit(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            rows = _read_rows(batches, max_values)
            if rows is not None:
                linear = SVM.fit(rows, setting)
                # One row per class, the intercept last.
                solution = np.column_stack([linear.weights, linear.biases])
                yield pa.RecordBatch.from_arrays([pa.array(list(solution), pa.list_(pa.float64()))], names=["weights"])

        vectors = dataset.select(F.col(self.getFeaturesCol()).alias("features"), F.col(self.getLabelCol()).alias("label"))
        table = vectors.coalesce(1).mapInArrow(fit, "weights ARRAY<DOUBLE>").toArrow()
        if not table.num_rows:
            return None
        solution = table["weights"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        return solution[:, :-1], solution[:, -1]

    def _fit_by_class(self, dataset: DataFrame, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Return weights and intercepts by one MLlib fit per class, two at a time."""
        fitted_classes = [1] if classes == 2 else list(range(classes))  # two classes need one fit
        mllib_params = list_set_params(self) | {"maxIter": self.getMaxIter() * _MLLIB_STEPS_PER_PASS, "standardization": False}

        def fit(_: int, rows: DataFrame) -> Any:
            return LinearSVC()._set(**mllib_params).fit(rows)

        models = fit_one_vs_rest(dataset, self.getLabelCol(), self.getFeaturesCol(), fitted_classes, fit)
        coefficients = np.stack([model.coefficients.toArray() for model in models])
        return MARGIN_SCALE * coefficients, MARGIN_SCALE * np.array([model.intercept for model in models])


def _read_rows(batches: Iterable[pa.RecordBatch], max_values: int) -> Rows | None:
    """Return vectors and labels; None where there are more than ``max_values`` values."""
    parts: list[sp.csr_matrix] = []
    labels: list[np.ndarray] = []
    values_read = 0
    for batch in batches:
        vectors = batch.column("features")
        offsets, slots, values = sparse_parts(vectors)
        values_read += len(values)
        if values_read > max_values:
            return None
        if len(batch):
            parts.append(sp.csr_matrix((values, slots, offsets), shape=(len(batch), vector_size(vectors))))
            labels.append(batch.column("label").to_numpy())
    return Rows(sp.vstack(parts, format="csr"), np.concatenate(labels)) if parts else None
