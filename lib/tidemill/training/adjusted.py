"""What is done to a classifier's probabilities after it: classes brought back to their shares, calibration, a threshold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions as F

from tidemill.features.names import numbers
from tidemill.training.out_of_fold import on_grid

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


Table: TypeAlias = Sequence[float] | Sequence[Sequence[float]]


class AdjustedProbabilities(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Replaces ``probability`` and ``prediction``, by column expressions alone.

    ``factors``: what a row of each class counted for in training; the probabilities are divided by them. ``table``: the calibrated
    probability of class 1 on the grid of `tidemill.training.out_of_fold`, straight lines between; of more than two classes one table
    each, whose values are divided by their sum. ``threshold``: from where on class 1 is predicted; else the most probable class is.
    """

    factors_json: Param[str] = Param(Params._dummy(), "factors_json", "a number a class, as JSON", TypeConverters.toString)
    table_json: Param[str] = Param(Params._dummy(), "table_json", "probabilities on the grid, as JSON", TypeConverters.toString)
    threshold: Param[float] = Param(Params._dummy(), "threshold", "from where on class 1 is predicted", TypeConverters.toFloat)

    def __init__(self, factors: Sequence[float] = (), table: Table = (), threshold: float | None = None) -> None:
        """Keep what is given."""
        super().__init__()
        self._set(factors_json=json.dumps(list(factors)), table_json=json.dumps(list(table)))
        if threshold is not None:
            self._set(threshold=threshold)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        factors, table = (json.loads(self.getOrDefault(param)) for param in (self.factors_json, self.table_json))
        given = dataset.withColumn("_tidemill_p", vector_to_array(F.col("probability")))
        p: Column = F.col("_tidemill_p")
        if factors:
            given = given.withColumn("_tidemill_p", F.transform(p, lambda value, place: value / F.get(_literal(factors), place)))
            total = F.aggregate(p, F.lit(0.0), lambda whole, value: whole + value)
            given = given.withColumn("_tidemill_p", F.transform(p, lambda value: value / total))
        if table and isinstance(table[0], list):
            # Each by its name first: an expression that stands in another twice would be worked out as often.
            each = F.array(*[_read_off(p[place], own) for place, own in enumerate(table)])
            given = given.withColumn("_tidemill_p", each)
            total = F.aggregate(p, F.lit(0.0), lambda whole, value: whole + value)
            given = given.withColumn("_tidemill_p", F.transform(p, lambda value: value / total))
        elif table:
            given = given.withColumn("_tidemill_one", _read_off(p[1], table))
            one = F.col("_tidemill_one")
            given = given.withColumn("_tidemill_p", F.array(1 - one, one)).drop("_tidemill_one")
        called = F.array_position(p, F.array_max(p)) - 1
        if self.isSet(self.threshold):
            called = (p[1] >= self.getOrDefault(self.threshold)).cast("int")
        return given.withColumn("probability", array_to_vector(p)).withColumn("prediction", called.cast("double")).drop("_tidemill_p")


def _literal(values: Sequence[float]) -> Column:
    """Return the numbers as one word for the parser: a thousand literals would take it longer than the rows."""
    return F.expr(numbers(values))


def _read_off(p: Column, table: Sequence[float]) -> Column:
    """Return what the table says of a probability, straight lines between its points."""
    place = on_grid(p)
    below = F.floor(place).cast("int")
    least = F.get(_literal(table), below)
    return least + (F.coalesce(F.get(_literal(table), below + 1), least) - least) * (place - below)
