"""A model of another library as a stage of Spark ML, which scores rows in batches, and is saved and loaded like any stage."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.ml import Model
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, Vectors
from pyspark.ml.param import Param, Params
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

from tidemill.families import find_family
from tidemill.features.text.arrow import dense_rows
from tidemill.learners.base import Loader, Scorer
from tidemill.runtime.caching import WORKER_CACHE, limit_to_one_thread
from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame


_SCORES = "_tidemill_scores"


class LearnedModel(Model, MLReadable["LearnedModel"], MLWritable):
    """Adds ``prediction`` DOUBLE and, for classification, ``probability`` VECTOR to frames that have ``features_<encoding>``.

    ``family`` names the learner that reads ``dumped``, the model in the format of its library.
    """

    family: Param[str] = Param(Params._dummy(), "family", "the family that reads the model")
    task: Param[str] = Param(Params._dummy(), "task", "the task that the family was fitted for")
    featuresCol: Param[str] = Param(Params._dummy(), "featuresCol", "the column of vectors")  # noqa: N815 - MLlib's name

    def __init__(self, family: str = "", task: str = "", features: str = "", dumped: bytes = b"") -> None:
        """Store the dump and the parameters."""
        super().__init__()
        self.dumped = dumped
        if family:
            self._set(family=family, task=task, featuresCol=features)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        task, load_scorer = self.getOrDefault(self.task), self.loader()
        key = f"model/{hashlib.sha256(self.dumped).hexdigest()}"

        def scores(vectors: pa.Array) -> pa.Array:
            scorer = WORKER_CACHE.get(key, load_scorer)
            with limit_to_one_thread():
                return _score_vectors(scorer, vectors)

        untyped_udf: Any = arrow_udf  # mypy requires a function type that arrow_udf infers
        scored = dataset.withColumn(_SCORES, untyped_udf(scores, "array<double>")(F.col(self.getOrDefault(self.featuresCol))))
        outputs = F.col(_SCORES)
        if TaskKind(task).predicts_number:
            return scored.withColumn("prediction", outputs[0]).drop(_SCORES)
        greatest = F.array_position(outputs, F.array_max(outputs)) - 1
        return scored.withColumn("probability", array_to_vector(outputs)).withColumn("prediction", greatest.cast("double")).drop(_SCORES)

    @property
    def featureImportances(self) -> DenseVector:  # noqa: N802 - MLlib's name
        """The share of each slot in the gain of all splits; the sum is 1."""
        return Vectors.dense(normalise_gains(self.scorer().gains()))

    def scorer(self) -> Scorer:
        """Return the model that predicts arrays."""
        return self.loader()()

    def loader(self) -> Callable[[], Scorer]:
        """Return a function that loads the model, in a worker too."""
        family, task, dumped = self.getOrDefault(self.family), self.getOrDefault(self.task), self.dumped
        loader = _find_loader(family, task)  # on the driver, since workers may lack a user-defined family
        return lambda: loader.load(dumped, task)

    def write(self) -> MLWriter:
        """Return the writer of the model: its parameters, and a Parquet file of one row with the dump."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[LearnedModel]:
        """Return the reader of the model."""
        return _Reader(cls)


def normalise_gains(gains: np.ndarray) -> np.ndarray:
    """Divide gains by their sum, unless it is 0."""
    return gains / gains.sum() if gains.sum() > 0 else gains


def load(family: str, task: str, dumped: bytes) -> Scorer:
    """Load a dump by the learner of its family."""
    return _find_loader(family, task).load(dumped, task)


def _find_loader(family: str, task: str) -> Loader:
    learner = find_family(family, task).learner
    if not isinstance(learner, Loader):
        raise ValueError(f"family {family} has no model of another library")
    return learner


def _score_vectors(scorer: Scorer, vectors: pa.StructArray) -> pa.ListArray:
    """Return the scores of rows, one list each; null for a row without a vector."""
    is_present = np.asarray(vectors.is_valid())
    if not is_present.any():
        return pa.nulls(len(vectors), pa.list_(pa.float64()))
    present = vectors if is_present.all() else vectors.filter(pa.array(is_present))
    values = np.ascontiguousarray(scorer.predict(dense_rows(present)).reshape(len(present), -1), dtype=np.float64)
    offsets = pa.array(np.concatenate([[0], np.cumsum(is_present * values.shape[1])]).astype(np.int32), mask=np.append(~is_present, False))
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))


class _Writer(MLWriter):
    def __init__(self, instance: LearnedModel) -> None:
        super().__init__()
        self.instance = instance

    def saveImpl(self, path: str) -> None:  # noqa: N802 - PySpark's name
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession)
        self.sparkSession.createDataFrame([(self.instance.dumped,)], "dumped BINARY").coalesce(1).write.parquet(f"{path}/data")


class _Reader(MLReader[LearnedModel]):
    def __init__(self, kind: type[LearnedModel]) -> None:
        super().__init__()
        self.kind = kind

    def load(self, path: str) -> LearnedModel:
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        row = self.sparkSession.read.parquet(f"{path}/data").first()
        if row is None:
            raise ValueError(f"{path}/data holds no model")
        model = self.kind(dumped=bytes(row["dumped"]))
        model._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(model, metadata)
        return model
