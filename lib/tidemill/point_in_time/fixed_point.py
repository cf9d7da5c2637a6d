"""Numbers as whole numbers, so that a running sum is the same in any order and what is added can be taken away again exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

# Sums and sums of squares of a thousand million such numbers stay within the 38 digits of a DECIMAL.
_SUM_BITS = 92
_SQUARE_BITS = 48
_LEAST_EXPONENT = -1000
_WHOLE = T.DecimalType(38, 0)


@dataclass(frozen=True)
class FixedPoint:
    """How the values of a column become whole numbers: those of ``kind`` exactly where that is whole or decimal.

    A DOUBLE is taken to the nearest multiple of ``unit``, a power of two far below the last digit of all but the smallest values. Squares
    are of the distance from ``centre``, in multiples of ``square_unit``: 2^-48 of the greatest distance.
    """

    kind: T.DataType
    unit: float = 1.0
    centre: float = 0.0
    square_unit: float = 1.0

    @property
    def scale(self) -> int:
        """The digits behind the point of a decimal."""
        return self.kind.scale if isinstance(self.kind, T.DecimalType) else 0

    def addend(self, value: Column) -> Column:
        """Return what is added up for a value; null for null."""
        if isinstance(self.kind, T.FractionalType) and not isinstance(self.kind, T.DecimalType):
            return self._whole(value.cast("double"))
        return value.cast(T.DecimalType(38, self.scale))

    def _whole(self, value: Column) -> Column:
        """Return a DOUBLE in units, digit for digit, in two halves that a BIGINT holds: cast as it is, it would be cut to 17 digits."""
        half = float(2 ** (_SUM_BITS // 2))
        high = F.rint(value / F.lit(self.unit * half))
        low = F.rint((value - high * F.lit(self.unit * half)) / F.lit(self.unit))
        return high.cast("bigint").cast(_WHOLE) * F.lit(int(half)).cast(_WHOLE) + low.cast("bigint").cast(_WHOLE)

    def distance(self, value: Column) -> Column:
        """Return the distance from the centre that is squared."""
        return F.rint((value.cast("double") - F.lit(self.centre)) / F.lit(self.square_unit)).cast("bigint").cast(_WHOLE)

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

    def deviation(self, total: Column, squares: Column, count: Column) -> Column:
        """Return the standard deviation of a sample as a DOUBLE; null for fewer than two values."""
        # With S = n q + r for a whole q near the mean, S² / n is n q² + 2 q r + r² / n: no number on the way is larger than needed.
        n = count.cast(_WHOLE)
        q = F.rint(total.cast("double") / count.cast("double")).cast("bigint").cast(_WHOLE)
        r = total - n * q
        spread = (squares - n * q * q - 2 * q * r).cast("double") - r.cast("double") * r.cast("double") / count
        return F.when(count > 1, F.sqrt(F.greatest(spread, F.lit(0.0)) / (count - 1)) * F.lit(self.square_unit))


def fixed_points(values: DataFrame) -> dict[str, FixedPoint]:
    """Return how each column of ``values`` is added up, from its greatest values; one aggregate over all of them."""
    if not values.columns:
        return {}
    numbers = {name: F.col(name).cast("double") for name in values.columns}
    found = values.agg(
        *[F.max(F.abs(number)).alias(f"{name} most") for name, number in numbers.items()],
        *[F.avg(number).alias(f"{name} mean") for name, number in numbers.items()],
    ).collect()[0]
    return {name: _fixed_point(values.schema[name].dataType, found[f"{name} most"], found[f"{name} mean"]) for name in values.columns}


def _fixed_point(kind: T.DataType, most: float | None, mean: float | None) -> FixedPoint:
    if not most or mean is None or not math.isfinite(most):
        return FixedPoint(kind)
    is_whole = isinstance(kind, T.IntegralType)
    centre = float(round(mean)) if is_whole and abs(mean) < 2**53 else mean if math.isfinite(mean) else 0.0
    widest = math.frexp(most)[1] + 1  # of a distance from the centre
    square_unit = math.ldexp(1.0, max(widest - _SQUARE_BITS, _LEAST_EXPONENT))
    is_exact = is_whole or isinstance(kind, T.DecimalType)
    unit = 1.0 if is_exact else math.ldexp(1.0, max(math.frexp(most)[1] - _SUM_BITS, _LEAST_EXPONENT))
    return FixedPoint(kind, unit, centre, square_unit)
