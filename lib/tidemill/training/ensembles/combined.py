"""The stages of an ensemble: they move each member's predictions aside, and combine them."""

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
# A forest may predict 0 or 1, whose logits are infinite: probabilities are clipped to [LEAST, 1 - LEAST].
LEAST = 1e-6
_OUTPUTS = ("prediction", "probability", "rawPrediction")


def member_column(place: int) -> str:
    """Return the column of a member's predictions: ARRAY<DOUBLE>, the probabilities of the classes, or the value alone."""
    return f"_tidemill_member_{place}"


class AsidePredictions(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Moves the predictions of a member to a column of its own, since the next member adds columns of the same names.

    ``size`` is the number of classes, 0 for a value. A row without a prediction gets NaN, so that its combined prediction is NaN too.
    """

    output: Param[str] = Param(Params._dummy(), "output", "the column of the predictions", TypeConverters.toString)
    size: Param[int] = Param(Params._dummy(), "size", "the number of classes, 0 for a value", TypeConverters.toInt)

    def __init__(self, output: str = "", size: int = 0) -> None:
        """Set the parameters."""
        super().__init__()
        self._set(output=output, size=size)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        size, output = self.getOrDefault(self.size), self.getOrDefault(self.output)
        return dataset.withColumn(output, build_prediction_array(size)).drop(*_OUTPUTS)


def build_prediction_array(size: int) -> Column:
    """Return the predictions of a model as an array: the probabilities of ``size`` classes, or the value where it is 0; NaN where null."""
    missing = F.lit(float("nan"))
    if not size:
        return F.array(F.coalesce(F.col("prediction"), missing))
    probabilities = F.when(F.col("probability").isNotNull(), vector_to_array(F.col("probability")))
    return F.coalesce(probabilities, F.array_repeat(missing, size))


class BlendedPredictions(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Adds ``prediction`` and, for classes, ``probability``: the weighted mean of the members, whose columns it drops."""

    inputs: Param[list[str]] = Param(Params._dummy(), "inputs", "the members' columns", TypeConverters.toListString)
    weights_json: Param[str] = Param(Params._dummy(), "weights_json", "one number per member, as JSON", TypeConverters.toString)
    task: Param[str] = Param(Params._dummy(), "task", "binary, multiclass or regression", TypeConverters.toString)

    def __init__(self, inputs: Sequence[str] = (), weights: Sequence[float] = (), task: str = "") -> None:
        """Set the parameters; the weights as JSON, which keeps every digit."""
        super().__init__()
        self._set(inputs=list(inputs), weights_json=json.dumps([float(weight) for weight in weights]), task=task)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        inputs, weights = self.getOrDefault(self.inputs), json.loads(self.getOrDefault(self.weights_json))
        weighted = [F.transform(F.col(name), _multiply_by(weight)) for name, weight in zip(inputs, weights, strict=True)]
        total = weighted[0]
        for each in weighted[1:]:
            total = F.zip_with(total, each, lambda a, b: a + b)
        if TaskKind(self.getOrDefault(self.task)).predicts_number:
            return dataset.withColumn("prediction", total[0]).drop(*inputs)
        greatest = F.array_position(F.col(STACKED), F.array_max(STACKED)) - 1
        blended = dataset.withColumn(STACKED, total).withColumn("probability", array_to_vector(F.col(STACKED)))
        return blended.withColumn("prediction", greatest.cast("double")).drop(STACKED, *inputs)


class StackedInputs(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Adds the vector that a stacked model reads, and drops the members' columns.

    It holds the values of a regression, each member's logit for two classes, and the logarithm of each class's probability for more.
    Probabilities are clipped to [1e-6, 1 - 1e-6].
    """

    inputs: Param[list[str]] = Param(Params._dummy(), "inputs", "the members' columns", TypeConverters.toListString)
    task: Param[str] = Param(Params._dummy(), "task", "binary, multiclass or regression", TypeConverters.toString)

    def __init__(self, inputs: Sequence[str] = (), task: str = "") -> None:
        """Set the parameters."""
        super().__init__()
        self._set(inputs=list(inputs), task=task)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        inputs, kind = self.getOrDefault(self.inputs), TaskKind(self.getOrDefault(self.task))
        members = [F.col(name) for name in inputs]
        if kind.has_two_classes:
            stacked = F.array(*[F.log(_clip(p[1])) - F.log1p(-_clip(p[1])) for p in members])
        elif kind.has_many_classes:
            stacked = F.concat(*[F.transform(p, lambda value: F.log(_clip(value))) for p in members])
        else:
            stacked = F.concat(*members)
        return dataset.withColumn(STACKED, array_to_vector(stacked)).drop(*inputs)


def _multiply_by(weight: float):  # type: ignore[no-untyped-def]  # a function of a Column, for F.transform
    return lambda value: value * F.lit(weight)


def _clip(p: Column) -> Column:
    """Return a probability clipped away from 0 and 1; NaN, which Spark orders above all numbers, stays."""
    return F.when(F.isnan(p), p).when(p < LEAST, F.lit(LEAST)).when(p > 1 - LEAST, F.lit(1 - LEAST)).otherwise(p)
