"""A model of another library as a stage of Spark ML: it scores batch by batch, at any size, and is saved and loaded like every other."""

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
    from pyspark.sql import DataFrame


_SCORES = "_tidemill_scores"


class LearnedModel(Model, MLReadable["LearnedModel"], MLWritable):
    """Adds ``prediction`` DOUBLE and, for classification, ``probability`` VECTOR to frames that have ``features_<encoding>``.

    ``family`` says which learner reads ``dumped``, the model in its library's own format.
    """

    family: Param[str] = Param(Params._dummy(), "family", "the family that reads the model")
    task: Param[str] = Param(Params._dummy(), "task", "the task that the family was fitted for")
    featuresCol: Param[str] = Param(Params._dummy(), "featuresCol", "the column of vectors")  # noqa: N815 - MLlib's name

    def __init__(self, family: str = "", task: str = "", features: str = "", dumped: bytes = b"") -> None:
        """Keep the dump; the parameters are saved as MLlib saves its own."""
        super().__init__()
        self.dumped = dumped
        if family:
            self._set(family=family, task=task, featuresCol=features)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        family, task, dumped = self.getOrDefault(self.family), self.getOrDefault(self.task), self.dumped
        loader = _loader(family, task)  # found here, since workers may not know a family of the user's own
        key = f"model/{hashlib.sha256(dumped).hexdigest()}"

        def scores(vectors: pa.Array) -> pa.Array:
            scorer = WORKER_CACHE.get(key, lambda: loader.load(dumped, task))
            with limit_to_one_thread():
                return _scored(scorer, vectors)

        made: Any = arrow_udf  # its annotations ask for the kind of function, which it finds out itself
        scored = dataset.withColumn(_SCORES, made(scores, "array<double>")(F.col(self.getOrDefault(self.featuresCol))))
        found = F.col(_SCORES)
        if TaskKind(task).predicts_number:
            return scored.withColumn("prediction", found[0]).drop(_SCORES)
        greatest = F.array_position(found, F.array_max(found)) - 1
        return scored.withColumn("probability", array_to_vector(found)).withColumn("prediction", greatest.cast("double")).drop(_SCORES)

    @property
    def featureImportances(self) -> DenseVector:  # noqa: N802 - MLlib's name
        """What each slot gained in all splits by it; the sum is 1."""
        return Vectors.dense(shares(self.scorer().gains()))

    def scorer(self) -> Scorer:
        """Return what scores arrays of vectors."""
        return load(self.getOrDefault(self.family), self.getOrDefault(self.task), self.dumped)

    def write(self) -> MLWriter:
        """Return what saves the model: its parameters, and a Parquet file of one row with the dump."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[LearnedModel]:
        """Return what loads it."""
        return _Reader(cls)


def shares(gains: np.ndarray) -> np.ndarray:
    """Return gains divided by their sum, where there is one."""
    return gains / gains.sum() if gains.sum() > 0 else gains


def load(family: str, task: str, dumped: bytes) -> Scorer:
    """Return the scorer that a family's learner makes of its dump."""
    return _loader(family, task).load(dumped, task)


def _loader(family: str, task: str) -> Loader:
    learner = find_family(family, task).learner
    if not isinstance(learner, Loader):
        raise ValueError(f"family {family} has no model of another library")
    return learner


def _scored(scorer: Scorer, vectors: pa.StructArray) -> pa.ListArray:
    """Return the scores of rows, a list each; a row without a vector has none."""
    there = np.asarray(vectors.is_valid())
    if not there.any():
        return pa.nulls(len(vectors), pa.list_(pa.float64()))
    present = vectors if there.all() else vectors.filter(pa.array(there))
    found = np.ascontiguousarray(scorer.predict(dense_rows(present)).reshape(len(present), -1), dtype=np.float64)
    offsets = pa.array(np.concatenate([[0], np.cumsum(there * found.shape[1])]).astype(np.int32), mask=np.append(~there, False))
    return pa.ListArray.from_arrays(offsets, pa.array(found.ravel()))


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
