"""Adjustment of a classifier's probabilities: correction for class balancing, calibration, and a decision threshold."""

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
    """Replaces ``probability`` and ``prediction``, with column expressions only.

    ``factors``: the weight of a row of each class in training; the probabilities are divided by them. ``calibrations``: for two classes
    that of class 1; for more one per class, and the calibrated values are divided by their sum. ``threshold``: class 1 is predicted from
    this probability on; without it, the most probable class.
    """

    factors_json: Param[str] = Param(Params._dummy(), "factors_json", "one number per class, as JSON", TypeConverters.toString)
    calibrations_json: Param[str] = Param(Params._dummy(), "calibrations_json", "calibrations, as JSON", TypeConverters.toString)
    threshold: Param[float] = Param(
        Params._dummy(), "threshold", "the least probability for which class 1 is predicted", TypeConverters.toFloat
    )

    def __init__(self, factors: Sequence[float] = (), calibrations: Sequence[Calibration] = (), threshold: float | None = None) -> None:
        """Set the parameters."""
        super().__init__()
        self._set(factors_json=json.dumps(list(factors)), calibrations_json=dump_calibrations(calibrations))
        if threshold is not None:
            self._set(threshold=threshold)

    @property
    def keeps_probabilities(self) -> bool:
        """True where only the predicted class depends on this stage."""
        return not json.loads(self.getOrDefault(self.factors_json)) and not load_calibrations(self.getOrDefault(self.calibrations_json))

    def _transform(self, dataset: DataFrame) -> DataFrame:
        factors = json.loads(self.getOrDefault(self.factors_json))
        calibrations = load_calibrations(self.getOrDefault(self.calibrations_json))
        rows = dataset.withColumn("_tidemill_p", vector_to_array(F.col("probability")))
        p: Column = F.col("_tidemill_p")
        if factors:
            rows = rows.withColumn("_tidemill_p", F.transform(p, lambda value, place: value / F.get(_literal(factors), place)))
            total = F.aggregate(p, F.lit(0.0), lambda whole, value: whole + value)
            rows = rows.withColumn("_tidemill_p", F.transform(p, lambda value: value / total))
        if len(calibrations) > 1:
            # Name the column first: an expression that occurs twice in another one would be evaluated twice.
            each = F.array(*[calibration.column(p[place]) for place, calibration in enumerate(calibrations)])
            rows = rows.withColumn("_tidemill_p", each)
            total = F.aggregate(p, F.lit(0.0), lambda whole, value: whole + value)
            rows = rows.withColumn("_tidemill_p", F.transform(p, lambda value: value / total))
        elif calibrations:
            rows = rows.withColumn("_tidemill_one", calibrations[0].column(p[1]))
            one = F.col("_tidemill_one")
            rows = rows.withColumn("_tidemill_p", F.array(1 - one, one)).drop("_tidemill_one")
        predicted_class = F.array_position(p, F.array_max(p)) - 1
        if self.isSet(self.threshold):
            predicted_class = (p[1] >= self.getOrDefault(self.threshold)).cast("int")
        return (
            rows.withColumn("probability", array_to_vector(p)).withColumn("prediction", predicted_class.cast("double")).drop("_tidemill_p")
        )


def _literal(values: Sequence[float]) -> Column:
    """Return the numbers as one SQL string: parsing a thousand literals would take longer than the rows."""
    return F.expr(numbers_sql(values))
