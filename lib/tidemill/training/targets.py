"""Labels that are learned by their logarithms, log(1 + label), and brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.feature import SQLTransformer
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.lake.names import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def refuse_below_zero(rows: DataFrame, label: str) -> None:
    """Refuse labels that `target: log` is not meant for.

    Raises:
        StepError: there are labels below 0.
    """
    number = F.col(quoted(label)).cast("double")
    row = rows.agg(F.count_if(number < 0).alias("below"), F.count("*").alias("rows"), F.min(number).alias("least")).first()
    if row is not None and row["below"]:
        raise StepError(
            f"train: {label} is below 0 in {row['below']:,} of {row['rows']:,} labelled training rows (the least is {row['least']:g}), "
            "expected 0 or more for `training.target: log`; write `identity`, or drop or shift those rows in the dataset's SQL"
        )


def brought_back() -> SQLTransformer:
    """Return the stage behind a model of logarithms: MLlib's own, so that it loads anywhere.

    What a squared loss finds is then near the median of skewed labels and below their mean; it is not corrected for that.
    """
    return SQLTransformer(statement="SELECT * EXCEPT (prediction), expm1(prediction) AS prediction FROM __THIS__")
