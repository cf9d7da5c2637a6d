"""What the weights of a dataset's rows must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import ExpectationRefused, Fault
from tidemill.lake.names import quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.spec.models import Dataset


def weight_type(frame: DataFrame, declared: Dataset) -> list[Fault]:
    """Return a fault where the weight is no number."""
    if declared.weight is None or declared.weight not in frame.columns:
        return []
    kind = frame.schema[declared.weight].dataType
    if isinstance(kind, T.NumericType):
        return []
    message = f"{declared.weight} is of type {kind.simpleString()}, expected a number: CAST it in the SQL, or name another column"
    return [Fault("pipeline.yml", None, "dataset.weight", message)]


def check_weights(marked: DataFrame, declared: Dataset) -> None:
    """Refuse weights of labelled rows that are no weights; 0 is one, of rows that do not count.

    Raises:
        ExpectationRefused: some are null, NaN, infinite or below 0, or all of the training or test rows are 0.
    """
    if declared.weight is None:
        return
    weight = F.col(quoted(declared.weight)).cast("double")
    labelled = marked.where(F.col(quoted(str(declared.label))).isNotNull() & F.col("split").isin("train", "test"))
    figures = {
        "null": F.count_if(weight.isNull()),
        "NaN or infinite": F.count_if(F.isnan(weight) | (F.abs(weight) == float("inf"))),
        "below 0": F.count_if(weight < 0),
    }
    found = labelled.groupBy("split").agg(F.sum(weight).alias("total"), *[figure.alias(name) for name, figure in figures.items()]).collect()
    wrong = {name: count for name in figures if (count := sum(row[name] for row in found))}
    if wrong:
        told = ", ".join(f"{name} in {count:,}" for name, count in wrong.items())
        raise ExpectationRefused(
            f"dataset: the weight {declared.weight} is {told} labelled rows, expected a number from 0 on in each; "
            "give those rows a weight in the SQL (0: they do not count), or filter them out"
        )
    for row in found:
        if not row["total"]:
            raise ExpectationRefused(
                f"dataset: the weight {declared.weight} is 0 in every labelled {row['split']} row, so that none counts; choose another "
                "`split`, or mend the weights in the SQL"
            )
