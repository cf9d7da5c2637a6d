"""Kinds of expectations: what a rule of a table or a source may ask, one small class for each, in a registry.

A kind is a class: a spec names it by its key (``unique``, an entry point of ``tidemill.expectations``, or the dotted path of a user's
class), the value below the key is validated as its ``options``, and an object of it is one rule. A `RowKind` judges rows, a
`TableKind` the table that would be written. Nothing here imports Spark before a rule is evaluated.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from tidemill.errors import UsageError
from tidemill.extensions import Registry
from tidemill.options import Key, Problem

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

Number = int | float | Decimal


@dataclass(frozen=True)
class ColumnUse:
    """A column of the judged table that a rule names, or a SQL expression over its columns, with its path below the rule."""

    path: tuple[Key, ...]
    text: str
    is_expression: bool = False


@dataclass(frozen=True)
class Measure:
    """A number of the kept rows as a whole: ``values`` put together by ``combine`` (sum, max), of rows first, then of such results."""

    values: Column
    combine: Callable[[Column], Column]


@dataclass(frozen=True)
class TableFacts:
    """What is known of the table that a rule judges.

    ``measured`` is the result of the rule's ``measure``, None of no rows; ``referenced`` that of ``measure_reference``. ``distance`` is
    the drift of ``compared_column`` from the last accepted ``version``; both are None where there is nothing to compare with.
    """

    rows: int
    now: datetime
    measured: object = None
    referenced: Number | None = None
    distance: float | None = None
    version: int | None = None


@dataclass(frozen=True)
class Judgement:
    """Whether a rule for the whole table holds: ``value`` is what was measured, ``expected`` and ``found`` are texts for messages."""

    passed: bool
    value: float | None
    expected: str
    found: str


class ExpectationKind:
    """One rule: the options of a kind, and ``column`` where the kind takes one."""

    name: ClassVar[str] = ""
    """The key in the spec; for a user's kind the name that the spec gives it."""
    options: ClassVar[Any] = bool
    """The type that the value of the key is validated as: a frozen pydantic model, or a plain type."""
    description: ClassVar[str | None] = None
    judges_rows: ClassVar[bool]
    """True for a rule that each row keeps or breaks."""
    takes_column: ClassVar[bool] = False
    """True where the rule has a key `column:`."""
    fits_records: ClassVar[bool] = False
    """True where it can be evaluated for one record of a source as it is read."""
    has_own_limit: ClassVar[bool] = False
    """True where the options have their own `at_most`."""

    def __init__(self, options: Any, column: str | None = None) -> None:
        """Keep the validated options."""
        self.value, self.column = options, column

    def __eq__(self, other: object) -> bool:
        """Return True for a rule of the same kind with the same options."""
        if not isinstance(other, ExpectationKind):
            return NotImplemented
        return (self.name, self.value, self.column) == (other.name, other.value, other.column)

    __hash__ = None  # type: ignore[assignment]

    @property
    def uses(self) -> tuple[ColumnUse, ...]:
        """The columns and expressions that the rule names."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule names."""
        return tuple(use.text for use in self.uses if not use.is_expression)

    @property
    def reads(self) -> tuple[str, str] | None:
        """Another table that the rule looks into and its column; None where it looks into none."""
        return None

    @property
    def reads_path(self) -> tuple[Key, ...]:
        """Where below the rule the other table is named."""
        return (self.name,)

    def describe(self) -> str:
        """Return the rule as it reads in a message."""
        return self.name

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with the options, as a path below the rule and a sentence."""
        return iter(())


class RowKind(ExpectationKind):
    """A rule for rows. Where ``reads`` names a column, ``columns[0]`` is looked up there and the match is handed to ``is_broken``."""

    judges_rows = True

    @property
    def condition(self) -> str | None:
        """The SQL condition that is true for a good row; None for a kind that judges by its own column expression."""
        return None

    @property
    def is_repeatable(self) -> bool:
        """True where the verdict depends on nothing but the row."""
        return False

    @property
    def is_of_several_rows(self) -> bool:
        """True where a row breaks the rule by repeating the ``columns`` of another one; ``is_broken`` is not called then."""
        return False

    def is_broken(self, match: Column | None = None) -> Column:
        """Return true for a row that breaks the rule, else false; never null."""
        raise NotImplementedError(self.name)


class TableKind(ExpectationKind):
    """A rule for the table as a whole, which warns or fails."""

    judges_rows = False

    @property
    def compared_column(self) -> str | None:
        """The column whose distance from the table's last version is measured; None for no such thing."""
        return None

    def measure(self, rows: DataFrame) -> Measure | None:
        """Return what is measured in the pass that counts the rows; None for nothing but their number.

        Raises:
            StepError: the rows have a type that the rule cannot judge.
        """
        return None

    def measure_reference(self, values: DataFrame) -> Measure:
        """Return what is measured of the column that ``reads`` names, the only one of ``values``."""
        raise NotImplementedError(self.name)

    @abstractmethod
    def judge(self, facts: TableFacts) -> Judgement:
        """Return whether the rule holds."""


def condition_problem(text: str) -> str | None:
    """Return why ``text`` is no SQL condition or expression, None where it is one."""
    from tidemill.lake.sql import is_query

    try:
        is_query(f"SELECT\n({text}\n) AS is_good")
    except UsageError as error:
        return str(error).replace("SQL that does not parse", "a condition that does not parse").replace("at line 2, ", "")
    return None


def _accept(name: str, value: object) -> type[ExpectationKind]:
    if not (isinstance(value, type) and issubclass(value, RowKind | TableKind)):
        raise TypeError(f"expected a subclass of RowKind or TableKind, found {value!r}")
    return value if value.name == name else type(value.__name__, (value,), {"name": name, "__module__": value.__module__})


EXPECTATION_KINDS: Registry[type[ExpectationKind]] = Registry(
    "kind of expectation",
    "tidemill.expectations",
    {
        "check": "tidemill.quality.expectations.row_kinds:Check",
        "not_null": "tidemill.quality.expectations.row_kinds:NotNull",
        "in_reference": "tidemill.quality.expectations.row_kinds:InReference",
        "unique": "tidemill.quality.expectations.row_kinds:Unique",
        "row_count": "tidemill.quality.expectations.table_kinds:RowCount",
        "freshness": "tidemill.quality.expectations.table_kinds:Freshness",
        "sum": "tidemill.quality.expectations.table_kinds:Sum",
        "distribution": "tidemill.quality.expectations.table_kinds:Distribution",
    },
    _accept,
)
