"""The stages of a model made of several: each member's predictions put aside, and what becomes of them together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions as F

from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


STACKED = "_tidemill_stacked"
# A forest may say 0 or 1, of which no logarithm is finite; what it says between counts up to here.
LEAST = 1e-6
_OUTPUTS = ("prediction", "probability", "rawPrediction")


def member_column(place: int) -> str:
    """Return the column of a member's predictions: ARRAY<DOUBLE>, the probabilities of the classes, or the value alone."""
    return f"_tidemill_member_{place}"


class AsidePredictions(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Moves what a member says to a column of its own, so that the next member finds none.

    ``size`` is the number of classes, 0 for a value. A row that a member has no answer for gets NaN, which no combination takes for one.
    """

    output: Param[str] = Param(Params._dummy(), "output", "the column of the predictions", TypeConverters.toString)
    size: Param[int] = Param(Params._dummy(), "size", "the number of classes, 0 for a value", TypeConverters.toInt)

    def __init__(self, output: str = "", size: int = 0) -> None:
        """Keep what is given."""
        super().__init__()
        self._set(output=output, size=size)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        size, output = self.getOrDefault(self.size), self.getOrDefault(self.output)
        return dataset.withColumn(output, predicted(size)).drop(*_OUTPUTS)


def predicted(size: int) -> Column:
    """Return what a model says as an array: the probabilities of ``size`` classes, or the value where it is 0; NaN where it is silent."""
    nothing = F.lit(float("nan"))
    if not size:
        return F.array(F.coalesce(F.col("prediction"), nothing))
    said = F.when(F.col("probability").isNotNull(), vector_to_array(F.col("probability")))
    return F.coalesce(said, F.array_repeat(nothing, size))


class BlendedPredictions(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Adds ``prediction`` and, for classes, ``probability``: the weighted mean of the members, whose columns it drops."""

    inputs: Param[list[str]] = Param(Params._dummy(), "inputs", "the members' columns", TypeConverters.toListString)
    weights_json: Param[str] = Param(Params._dummy(), "weights_json", "a number a member, as JSON", TypeConverters.toString)
    task: Param[str] = Param(Params._dummy(), "task", "binary, multiclass or regression", TypeConverters.toString)

    def __init__(self, inputs: Sequence[str] = (), weights: Sequence[float] = (), task: str = "") -> None:
        """Keep what is given; the weights as JSON, which holds every digit."""
        super().__init__()
        self._set(inputs=list(inputs), weights_json=json.dumps([float(weight) for weight in weights]), task=task)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        inputs, weights = self.getOrDefault(self.inputs), json.loads(self.getOrDefault(self.weights_json))
        weighed = [F.transform(F.col(name), _times(weight)) for name, weight in zip(inputs, weights, strict=True)]
        total = weighed[0]
        for each in weighed[1:]:
            total = F.zip_with(total, each, lambda a, b: a + b)
        if TaskKind(self.getOrDefault(self.task)).predicts_number:
            return dataset.withColumn("prediction", total[0]).drop(*inputs)
        greatest = F.array_position(F.col(STACKED), F.array_max(STACKED)) - 1
        blended = dataset.withColumn(STACKED, total).withColumn("probability", array_to_vector(F.col(STACKED)))
        return blended.withColumn("prediction", greatest.cast("double")).drop(STACKED, *inputs)


class StackedInputs(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Adds the vector that a stacked model reads, and drops the members' columns it is made of.

    Of values the values; of two classes each member's logit; of more the logarithm of each class's probability. Probabilities are held
    in [1e-6, 1 - 1e-6].
    """

    inputs: Param[list[str]] = Param(Params._dummy(), "inputs", "the members' columns", TypeConverters.toListString)
    task: Param[str] = Param(Params._dummy(), "task", "binary, multiclass or regression", TypeConverters.toString)

    def __init__(self, inputs: Sequence[str] = (), task: str = "") -> None:
        """Keep what is given."""
        super().__init__()
        self._set(inputs=list(inputs), task=task)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        inputs, kind = self.getOrDefault(self.inputs), TaskKind(self.getOrDefault(self.task))
        members = [F.col(name) for name in inputs]
        if kind.has_two_classes:
            stacked = F.array(*[F.log(_held(p[1])) - F.log1p(-_held(p[1])) for p in members])
        elif kind.has_many_classes:
            stacked = F.concat(*[F.transform(p, lambda value: F.log(_held(value))) for p in members])
        else:
            stacked = F.concat(*members)
        return dataset.withColumn(STACKED, array_to_vector(stacked)).drop(*inputs)


def _times(weight: float):  # type: ignore[no-untyped-def]  # a function of a Column, as F.transform wants it
    return lambda value: value * F.lit(weight)


def _held(p: Column) -> Column:
    """Return a probability away from 0 and 1; NaN, which is greater than any number to Spark, stays."""
    return F.when(F.isnan(p), p).when(p < LEAST, F.lit(LEAST)).when(p > 1 - LEAST, F.lit(1 - LEAST)).otherwise(p)
