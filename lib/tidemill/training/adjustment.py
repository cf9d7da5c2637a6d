"""What is done to a classifier's probabilities after it: classes brought back to their shares, calibration, a threshold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions as F

from tidemill.features.names import numbers_sql
from tidemill.training.calibration import Calibration, dump_calibrations, load_calibrations

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


class AdjustedProbabilities(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Replaces ``probability`` and ``prediction``, by column expressions alone.

    ``factors``: what a row of each class counted for in training; the probabilities are divided by them. ``calibrations``: the one of
    class 1; of more than two classes one each, whose values are divided by their sum. ``threshold``: the probability from which on
    class 1 is predicted; else the most probable class is.
    """

    factors_json: Param[str] = Param(Params._dummy(), "factors_json", "a number a class, as JSON", TypeConverters.toString)
    calibrations_json: Param[str] = Param(Params._dummy(), "calibrations_json", "calibrations, as JSON", TypeConverters.toString)
    threshold: Param[float] = Param(Params._dummy(), "threshold", "from where on class 1 is predicted", TypeConverters.toFloat)

    def __init__(self, factors: Sequence[float] = (), calibrations: Sequence[Calibration] = (), threshold: float | None = None) -> None:
        """Keep what is given."""
        super().__init__()
        self._set(factors_json=json.dumps(list(factors)), calibrations_json=dump_calibrations(calibrations))
        if threshold is not None:
            self._set(threshold=threshold)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        factors = json.loads(self.getOrDefault(self.factors_json))
        calibrations = load_calibrations(self.getOrDefault(self.calibrations_json))
        given = dataset.withColumn("_tidemill_p", vector_to_array(F.col("probability")))
        p: Column = F.col("_tidemill_p")
        if factors:
            given = given.withColumn("_tidemill_p", F.transform(p, lambda value, place: value / F.get(_literal(factors), place)))
            total = F.aggregate(p, F.lit(0.0), lambda whole, value: whole + value)
            given = given.withColumn("_tidemill_p", F.transform(p, lambda value: value / total))
        if len(calibrations) > 1:
            # Each by its name first: an expression that stands in another twice would be worked out as often.
            each = F.array(*[calibration.column(p[place]) for place, calibration in enumerate(calibrations)])
            given = given.withColumn("_tidemill_p", each)
            total = F.aggregate(p, F.lit(0.0), lambda whole, value: whole + value)
            given = given.withColumn("_tidemill_p", F.transform(p, lambda value: value / total))
        elif calibrations:
            given = given.withColumn("_tidemill_one", calibrations[0].column(p[1]))
            one = F.col("_tidemill_one")
            given = given.withColumn("_tidemill_p", F.array(1 - one, one)).drop("_tidemill_one")
        called = F.array_position(p, F.array_max(p)) - 1
        if self.isSet(self.threshold):
            called = (p[1] >= self.getOrDefault(self.threshold)).cast("int")
        return given.withColumn("probability", array_to_vector(p)).withColumn("prediction", called.cast("double")).drop("_tidemill_p")


def _literal(values: Sequence[float]) -> Column:
    """Return the numbers as one word for the parser: a thousand literals would take it longer than the rows."""
    return F.expr(numbers_sql(values))
