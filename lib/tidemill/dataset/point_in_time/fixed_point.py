"""Numbers as whole numbers, so that a running sum does not depend on the order, and an added value can be subtracted again exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

# Sums of 10^10 such numbers, or of products of their halves, fit into the 38 digits of a DECIMAL.
_SUM_BITS = 92
_HALF = 2 ** (_SUM_BITS // 2)
_LEAST_EXPONENT = -1000
_WHOLE = T.DecimalType(38, 0)

SQUARES = ("h", "l", "hh", "hl", "ll")
"""The running sums behind a standard deviation: of both halves of the numbers, and of the products of those."""


@dataclass(frozen=True)
class FixedPoint:
    """How the values of a column of type ``kind`` become whole numbers; whole numbers and decimals are kept exactly.

    A DOUBLE is rounded to the nearest multiple of ``unit``, a power of two 92 bits below the greatest value. For standard deviations values
    are whole multiples of ``square_unit``, exactly where they are integers, or decimals of less than 92 bits (27 digits).
    """

    kind: T.DataType
    unit: float = 1.0
    square_unit: float = 1.0

    @property
    def scale(self) -> int:
        """The number of decimal places; 0 for other types."""
        return self.kind.scale if isinstance(self.kind, T.DecimalType) else 0

    def addend(self, value: Column) -> Column:
        """Return what a value adds to a running sum; null for null."""
        if isinstance(self.kind, T.FractionalType) and not isinstance(self.kind, T.DecimalType):
            high, low = _halves(value.cast("double"), self.unit)
            return high * F.lit(_HALF).cast(_WHOLE) + low
        return value.cast(T.DecimalType(38, self.scale))

    def squares(self, value: Column) -> dict[str, Column]:
        """Return what a value adds to each sum of ``SQUARES``; null for null."""
        if self.square_unit == 10.0**-self.scale and not isinstance(self.kind, T.FloatType | T.DoubleType):
            whole = (value.cast(T.DecimalType(38, self.scale)) * F.lit(Decimal(10) ** self.scale).cast(_WHOLE)).cast(_WHOLE)
            high = (whole / F.lit(_HALF).cast(_WHOLE)).cast(_WHOLE)
            low = whole - high * F.lit(_HALF).cast(_WHOLE)
        else:
            high, low = _halves(value.cast("double"), self.square_unit)
        return dict(zip(SQUARES, (high, low, high * high, high * low, low * low), strict=True))

    def sum(self, total: Column) -> Column:
        """Return the sum, of the type that Spark gives it."""
        if isinstance(self.kind, T.DecimalType):
            return total
        if isinstance(self.kind, T.FractionalType):
            return total.cast("double") * F.lit(self.unit)
        return total.cast("bigint")

    def mean(self, total: Column, count: Column) -> Column:
        """Return the mean as a DOUBLE."""
        return total.cast("double") * F.lit(self.unit) / F.when(count > 0, count)

    def deviation(self, sums: Mapping[str, Column], count: Column) -> Column:
        """Return the standard deviation of a sample as a DOUBLE from the sums of ``SQUARES``; null for fewer than two values.

        The squared distances from ``q``, the mean rounded to a whole number, are summed as whole numbers, so no digit is lost even if the
        values are large and their spread is small; only a spread of more than 38 digits is summed as a DOUBLE.
        """
        n = F.when(count > 1, count).cast(_WHOLE)
        half = F.lit(_HALF).cast(_WHOLE)
        total = sums["h"] * half + sums["l"]
        q = (total / n).cast(_WHOLE)
        high = (q / half).cast(_WHOLE)
        low = q - high * half
        # Σ(v - q)² of v = h·half + l and q = high·half + low, by powers of half.
        two = F.lit(2).cast(_WHOLE)
        a = sums["hh"] - two * high * sums["h"] + n * high * high
        b = two * (sums["hl"] - low * sums["h"] - high * sums["l"] + n * high * low)
        c = sums["ll"] - two * low * sums["l"] + n * low * low
        exact = F.try_add(F.try_multiply(F.try_add(F.try_multiply(a, half), b), half), c)
        rounded = (a.cast("double") * F.lit(float(_HALF)) + b.cast("double")) * F.lit(float(_HALF)) + c.cast("double")
        rest = (total - n * q).cast("double")
        spread = F.coalesce(exact.cast("double"), rounded) - rest * rest / count
        return F.when(count > 1, F.sqrt(F.greatest(spread, F.lit(0.0)) / (count - 1)) * F.lit(self.square_unit))


def _halves(value: Column, unit: float) -> tuple[Column, Column]:
    """Return a DOUBLE, counted in units, as two halves that each fit a BIGINT; a direct cast would keep only 17 digits."""
    high = F.rint(value / F.lit(unit * _HALF))
    low = F.rint((value - high * F.lit(unit * _HALF)) / F.lit(unit))
    return high.cast("bigint").cast(_WHOLE), low.cast("bigint").cast(_WHOLE)


def fixed_points(values: DataFrame) -> dict[str, FixedPoint]:
    """Return the `FixedPoint` of each column of ``values``, from its greatest absolute value; one aggregate over all columns."""
    if not values.columns:
        return {}
    greatest = values.agg(*[F.max(F.abs(F.col(name).cast("double"))).alias(name) for name in values.columns]).collect()[0]
    return {name: _fixed_point(values.schema[name].dataType, greatest[name]) for name in values.columns}


def _fixed_point(kind: T.DataType, most: float | None) -> FixedPoint:
    if not most or not math.isfinite(most) or isinstance(kind, T.IntegralType):
        return FixedPoint(kind)
    unit = math.ldexp(1.0, max(math.frexp(most)[1] - _SUM_BITS, _LEAST_EXPONENT))
    if isinstance(kind, T.DecimalType):
        return FixedPoint(kind, 1.0, 10.0**-kind.scale if most * 10.0**kind.scale < 2.0**_SUM_BITS else unit)
    return FixedPoint(kind, unit, unit)
