"""One extension of each kind, as a user writes them: the test of extensions copies this file beside a spec, and into a package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.datasource import DataSource, DataSourceReader

from tidemill.columns import column
from tidemill.families import MLlibFamily
from tidemill.features.groups import ColumnBlock, ColumnFacts, Contribution, FeatureGroup, Scalar
from tidemill.options import ColumnName
from tidemill.quality.expectations.kinds import ColumnUse, RowKind
from tidemill.spec.models import LogRange


class Measurements(DataSource):
    """Rows of a sensor: ``y`` follows ``x``, but for each seventh row; each fiftieth ``x`` is below 0."""

    def schema(self) -> str:
        return "id INT, x DOUBLE, y BOOLEAN"

    def reader(self, schema: object) -> DataSourceReader:
        return MeasurementsReader(int(self.options.get("rows", "10")))


class MeasurementsReader(DataSourceReader):
    def __init__(self, rows: int) -> None:
        self.rows = rows

    def read(self, partition: object) -> Iterator[tuple[int, float, bool]]:
        for number in range(self.rows):
            x = (number * 37 % 101) / 101
            yield number, -1.0 if number % 50 == 49 else x, (x > 0.5) != (number % 7 == 0)


class NotNegative(RowKind):
    """A column that holds no number below 0; null passes."""

    options: ClassVar = ColumnName
    fits_records = True

    @property
    def uses(self) -> tuple[ColumnUse, ...]:
        return (ColumnUse((self.name,), self.value),)

    def is_broken(self, match: Column | None = None) -> Column:
        return F.coalesce(column(self.value) < 0, F.lit(False))


class Squares(ColumnBlock):
    """Columns of numbers, and what is added to them first."""

    offset: float = 0.0


class SquareGroup(FeatureGroup):
    """A slot per column: the square of the value plus ``offset``."""

    options = Squares
    accepts, expected = frozenset({"numeric"}), "a number"

    def contribute(self, blocks: Sequence[Squares], columns: ColumnFacts) -> Contribution:
        return Contribution([Scalar(f"{name}.square", f"pow(`{name}` + {block.offset}, 2)") for block in blocks for name in block.columns])


RIDGE = MLlibFamily(
    name="ridge",
    spaces={"binary": {"regParam": LogRange(log=[1.0e-4, 1.0e-2])}},
    estimators={"binary": "pyspark.ml.classification.LogisticRegression"},
    fixed={"elasticNetParam": 0.0, "maxIter": 30},
)


class Cost:
    """The mean cost of wrong predictions: a missed positive 5, a false alarm 1."""

    tasks = ("binary",)
    greater_is_better = False

    def terms(self, rows: Any) -> Mapping[str, np.ndarray]:
        return {"cost": np.where(rows.label == 1, 5.0 * (rows.prediction == 0), 1.0 * (rows.prediction == 1))}

    def value(self, counts: Any) -> float:
        return float(counts.sums["cost"] / counts.n)


class RareEvent:
    """Binary classification with other metrics."""

    base = "binary"
    metrics = ("logLoss", "areaUnderPR")


class AllOnCluster:
    """An engine that leaves every fit to the cluster."""

    ways = ("spark",)

    def choose(self, spaces: Mapping[str, object], problem: object, resources: object) -> Mapping[str, str]:
        return dict.fromkeys(spaces, "spark")


def total_variation(reference: Sequence[int], compared: Sequence[int]) -> float:
    """Return half the sum of the differences between the shares of each bin."""
    a, b = sum(reference), sum(compared)
    return sum(abs(x / a - y / b) for x, y in zip(reference, compared, strict=True)) / 2
