"""The kinds of expectations that judge the table that would be written: ``row_count``, ``freshness``, ``sum``, ``distribution``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tidemill.errors import StepError
from tidemill.options import Block, ColumnName, Duration, Key, Problem, Reference, microseconds, split_reference
from tidemill.quality.expectations.kinds import ColumnUse, Judgement, Measure, Number, TableFacts, TableKind, condition_problem

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql import types as T

_ROUNDING = 1e-9
"""Sums of floating-point numbers depend on the order of the rows; by this share of their size they may differ."""


class Bounds(Block):
    """How many rows the table may hold."""

    at_least: int | None = Field(default=None, ge=0)
    at_most: int | None = Field(default=None, ge=0)

    def problems(self) -> Iterator[Problem]:
        """Yield bounds that say nothing, and those that no number is within."""
        if self.at_least is None and self.at_most is None:
            yield (), "empty; give a number of rows, or `at_least:`, `at_most:` or both"
        elif self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            yield ("at_least",), f"{self.at_least} is above `at_most` ({self.at_most}); no number of rows is both"


class RowCount(TableKind):
    """A number of rows, or bounds for it."""

    name = "row_count"
    options: ClassVar[Any] = Annotated[int, Field(ge=0)] | Bounds
    description = "exactly so many rows, or bounds"
    has_own_limit = True

    def judge(self, facts: TableFacts) -> Judgement:
        """Compare the number of rows."""
        rule, rows = self.value, facts.rows
        if isinstance(rule, int):
            return Judgement(rows == rule, float(rows), f"{rule} rows", f"it holds {rows}")
        bounds = [
            f"{description} {bound}" for description, bound in (("at least", rule.at_least), ("at most", rule.at_most)) if bound is not None
        ]
        is_within = (rule.at_least or 0) <= rows <= (rows if rule.at_most is None else rule.at_most)
        return Judgement(is_within, float(rows), f"{' and '.join(bounds)} rows", f"it holds {rows}")


class Age(Block):
    """How old the newest value of a column may be, against now or the instant ``of``."""

    column: ColumnName
    within: Duration
    of: str | None = Field(default=None, description="an instant such as 2013-12-31T00:00:00Z (UTC where it names no zone); absent: now")

    def problems(self) -> Iterator[Problem]:
        """Yield an instant that is none."""
        try:
            datetime.fromisoformat(self.of or "2013-12-31")
        except ValueError:
            yield ("of",), f'expected an instant such as "2013-12-31T00:00:00Z", found {self.of!r}'

    def instant(self, now: datetime) -> datetime:
        """Return the instant that ages are measured against."""
        if self.of is None:
            return now
        declared = datetime.fromisoformat(self.of)
        return declared if declared.tzinfo else declared.replace(tzinfo=UTC)


class Freshness(TableKind):
    """The age of the newest value of a date or an instant."""

    name = "freshness"
    options: ClassVar[Any] = Age

    @property
    def uses(self) -> tuple[ColumnUse, ...]:
        """The column that holds the instants."""
        return (ColumnUse((self.name, "column"), self.value.column),)

    def measure(self, rows: DataFrame) -> Measure:
        """Return the greatest date or instant of the column, in microseconds since 1970."""
        from pyspark.sql import functions as F
        from pyspark.sql import types as T

        from tidemill.columns import column

        kind = rows.schema[self.value.column].dataType
        if not isinstance(kind, T.DateType | T.TimestampType | T.TimestampNTZType):
            raise StepError(f"{self.value.column} is {_type_name(kind)}; a date or an instant was expected, so cast it")
        return Measure(F.unix_micros(column(self.value.column).cast("timestamp")), F.max)

    def judge(self, facts: TableFacts) -> Judgement:
        """Compare the age of the newest value."""
        rule: Age = self.value
        against = rule.instant(facts.now)
        expected = f"{rule.column} no older than {rule.within} at {against:%Y-%m-%d %H:%M:%S}"
        newest_us = facts.measured
        if not isinstance(newest_us, int):
            return Judgement(False, None, expected, "no row has a value there")
        age = against.timestamp() - newest_us / 1e6
        is_fresh = age <= microseconds(rule.within) / 1e6
        return Judgement(is_fresh, age, expected, f"the newest is {_format_instant(newest_us)}, {_format_age(age)}")


class Total(Block):
    """What a column, or a SQL expression over the columns, adds up to; nulls count for nothing."""

    column: ColumnName = Field(description="a column, or a SQL expression such as `distance * 1.609`")
    equals: int | float | Reference = Field(description="a number, or the column of another table whose sum it must equal")
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def problems(self) -> Iterator[Problem]:
        """Yield an empty expression, and one that does not parse."""
        if not self.column.strip():
            yield ("column",), "empty; give a column, or a SQL expression such as `distance * 1.609`"
        elif problem := condition_problem(self.column):
            yield ("column",), problem.replace("a condition", "an expression")


class Sum(TableKind):
    """The sum of a column or expression, against a number or the sum of another table's column."""

    name = "sum"
    options: ClassVar[Any] = Total

    @property
    def uses(self) -> tuple[ColumnUse, ...]:
        """The column or expression."""
        return (ColumnUse((self.name, "column"), self.value.column, is_expression=True),)

    @property
    def reads(self) -> tuple[str, str] | None:
        """The other table and its column, where there is one."""
        return split_reference(self.value.equals) if isinstance(self.value.equals, str) else None

    @property
    def reads_path(self) -> tuple[Key, ...]:
        """Where the other table is named."""
        return (self.name, "equals")

    def measure(self, rows: DataFrame) -> Measure:
        """Return the sum of the column or expression."""
        return _measure_sum(rows, self.value.column)

    def measure_reference(self, values: DataFrame) -> Measure:
        """Return the sum of the other table's column."""
        return _measure_sum(values, values.columns[0])

    def judge(self, facts: TableFacts) -> Judgement:
        """Compare the two sums."""
        rule: Total = self.value
        expected_sum = facts.referenced if isinstance(rule.equals, str) else rule.equals
        assert expected_sum is not None
        total = facts.measured if isinstance(facts.measured, int | float | Decimal) else 0
        where = f" ({rule.equals})" if isinstance(rule.equals, str) else ""
        within = f" within {rule.tolerance:g}" if rule.tolerance else ""
        is_equal = _is_near(total, expected_sum, rule.tolerance)
        return Judgement(is_equal, float(total), f"sum of {rule.column} = {expected_sum}{where}{within}", f"it is {total}")


class Limit(Block):
    """The allowed distance of a column from the table's last accepted version; the first version has none and passes."""

    column: ColumnName
    method: Literal["psi"] = "psi"
    at_most: float = Field(default=0.2, ge=0, allow_inf_nan=False)


class Distribution(TableKind):
    """The distance of a column from the table's last accepted version."""

    name = "distribution"
    options: ClassVar[Any] = Limit
    has_own_limit = True

    @property
    def uses(self) -> tuple[ColumnUse, ...]:
        """The compared column."""
        return (ColumnUse((self.name, "column"), self.value.column),)

    @property
    def compared_column(self) -> str:
        """The compared column."""
        return str(self.value.column)

    def measure(self, rows: DataFrame) -> None:
        """Refuse a column whose distribution cannot be compared."""
        from tidemill.monitoring.drift import drift_columns

        if not drift_columns(rows, [self.compared_column]):
            kind = rows.schema[self.compared_column].dataType
            raise StepError(f"{self.compared_column} is {_type_name(kind)}; a number, a text or a boolean was expected")

    def judge(self, facts: TableFacts) -> Judgement:
        """Compare the distance."""
        rule: Limit = self.value
        expected = f"{rule.method} of {rule.column} at most {rule.at_most:g}"
        if facts.version is None or facts.distance is None:
            description = f"{expected} against the last version, of which there is none to compare with"
            return Judgement(True, None, description, "nothing to compare with")
        description = f"{expected} against version {facts.version}"
        return Judgement(facts.distance <= rule.at_most, facts.distance, description, f"it is {facts.distance:.4f}")


def sum_of(values: Column, kind: T.DataType) -> Measure:
    """Return the sum of numbers of this type; exact for whole numbers and decimals, however many there are."""
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    return Measure(values.cast("decimal(38,0)") if isinstance(kind, T.LongType) else values, F.sum)


def _measure_sum(rows: DataFrame, text: str) -> Measure:
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    from tidemill.columns import column
    from tidemill.runtime.spark_errors import raise_step_error

    with raise_step_error(text):
        values = column(text) if text in rows.columns else F.expr(text)
        kind = rows.select(values).schema.fields[0].dataType
    if not isinstance(kind, T.NumericType):
        raise StepError(f"{text} is {_type_name(kind)}; a number was expected, so cast it")
    return sum_of(values, kind)


def _type_name(kind: T.DataType) -> str:
    return kind.simpleString().upper()


def _format_instant(us: int) -> str:
    """Return an instant as text; Python has none beyond the year 9999, which a wrong value may exceed."""
    try:
        return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{us / 1e6:.0f} s after 1970"


def _format_age(seconds: float) -> str:
    amount, unit = (abs(seconds) / 86400, "d") if abs(seconds) >= 86400 else (abs(seconds) / 3600, "h")
    return f"{amount:,.1f} {unit} {'old' if seconds >= 0 else 'ahead'}"


def _is_near(total: Number, wanted: Number, tolerance: float) -> bool:
    if isinstance(total, float) or isinstance(wanted, float):
        a, b = float(total), float(wanted)
        return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= tolerance + _ROUNDING * max(abs(a), abs(b))
    return abs(Decimal(total) - Decimal(wanted)) <= Decimal(str(tolerance))
