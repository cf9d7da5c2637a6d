"""The kinds of expectations that judge rows: ``check``, ``not_null``, ``in_reference``, ``unique``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from tidemill.options import ColumnName, Columns, Problem, Reference, as_columns, split_reference
from tidemill.quality.expectations.kinds import ColumnUse, RowKind, condition_problem

if TYPE_CHECKING:
    from pyspark.sql import Column


class Check(RowKind):
    """A SQL condition: a row passes when it is true (not false, not null, no error)."""

    name = "check"
    options: ClassVar[Any] = str
    description = "a SQL condition: a row passes when it is true (not false, not null, no error)"
    fits_records = True

    @property
    def uses(self) -> tuple[ColumnUse, ...]:
        """The condition."""
        return (ColumnUse((self.name,), self.value, is_expression=True),) if self.value else ()

    @property
    def condition(self) -> str:
        """The condition as it is written."""
        return str(self.value)

    @property
    def is_repeatable(self) -> bool:
        """True where the condition is known to depend on nothing but the row."""
        from tidemill.quality.expectations.conditions import is_repeatable

        return is_repeatable(self.condition)

    def describe(self) -> str:
        """Return the condition."""
        return self.condition

    def problems(self) -> Iterator[Problem]:
        """Yield an empty condition, and one that does not parse."""
        if not self.condition.strip():
            yield (self.name,), "empty; write a condition that is true for good rows, such as `distance > 0`"
        elif problem := condition_problem(self.condition):
            yield (self.name,), problem

    def is_broken(self, match: Column | None = None) -> Column:
        """Return true where the condition is false, null or raises."""
        from tidemill.quality.expectations.conditions import conditions_hold

        return ~conditions_hold(self.condition)


class _OfColumns(RowKind):
    """A rule about one column or several."""

    options: ClassVar[Any] = ColumnName | Columns

    @property
    def uses(self) -> tuple[ColumnUse, ...]:
        """The columns."""
        return tuple(ColumnUse((self.name,), name) for name in as_columns(self.value))

    def problems(self) -> Iterator[Problem]:
        """Yield the columns that are listed twice."""
        for name in sorted({name for name in self.columns if self.columns.count(name) > 1}):
            yield (self.name,), f"{name!r} is listed twice"


class NotNull(_OfColumns):
    """Columns that hold a value in every row."""

    name = "not_null"
    description = "the columns that hold a value in every row"
    fits_records = True

    @property
    def is_repeatable(self) -> bool:
        """True always."""
        return True

    def describe(self) -> str:
        """Return the rule as SQL writes it."""
        return f"{' and '.join(self.columns)} IS NOT NULL"

    def is_broken(self, match: Column | None = None) -> Column:
        """Return true where one of the columns is null."""
        from tidemill.quality.expectations.conditions import any_null

        return any_null(self.columns)


class InReference(RowKind):
    """A column whose values a column of another table holds; null passes."""

    name = "in_reference"
    options: ClassVar[Any] = Reference
    description = "the column of another table, such as silver.airports.faa, that holds each value of `column`; null passes"
    takes_column = True

    @property
    def uses(self) -> tuple[ColumnUse, ...]:
        """The column that is looked up."""
        return (ColumnUse(("column",), str(self.column)),)

    @property
    def reads(self) -> tuple[str, str]:
        """The table and the column that hold the values."""
        return split_reference(self.value)

    def describe(self) -> str:
        """Return the rule as text."""
        return f"{self.column} is in {self.value}"

    def is_broken(self, match: Column | None = None) -> Column:
        """Return true where there is a value and no match for it."""
        from tidemill.columns import column

        assert match is not None
        return column(str(self.column)).isNotNull() & match.isNull()


class Unique(_OfColumns):
    """Columns whose combination of values occurs in one row only; rows with a null in them pass."""

    name = "unique"
    description = "columns whose combination of values occurs in one row only; rows with a null in them pass"

    @property
    def is_of_several_rows(self) -> bool:
        """True always."""
        return True

    def describe(self) -> str:
        """Return the rule as text."""
        return f"unique: {', '.join(self.columns)}"
