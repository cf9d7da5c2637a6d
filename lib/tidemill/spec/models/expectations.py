"""What a table may be expected to hold: one rule an expectation, for its rows or for the table as a whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from tidemill.spec.models.base import Block, ColumnName, Duration

ROW_KINDS = ("check", "not_null", "in_reference", "unique")
TABLE_KINDS = ("row_count", "freshness", "sum", "distribution")
KINDS = (*ROW_KINDS, *TABLE_KINDS)
RECORD_KINDS = ("check", "not_null")
"""What can be told of one record of a source."""

RECORD_RULES = frozenset(
    {"duplicate_key", "field_count", "invalid_bytes", "key", "not_an_object", "not_json", "not_xml", "nul", "repeated_header",
     "too_deep", "unclosed_quote", "unreadable"}
)  # fmt: skip
"""The rules that every reader has of itself, besides those with a colon in their names, such as ``cast:<column>``."""

REFERENCE = r"^(bronze|silver|gold)\.[A-Za-z_][A-Za-z0-9_]{0,127}\..+$"

Columns = Annotated[list[ColumnName], Field(min_length=1)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE)]


def _share_or_count(value: object) -> object:
    """Refuse what is neither, in words that name both."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value < 0 or (isinstance(value, float) and not value <= 1):  # type: ignore[operator]
        raise ValueError(f"expected a share of the rows such as 0.01, or a whole number of rows such as 20, found {value!r}")
    return value


# A whole number without a point counts rows, so that `1` is one row and `1.0` all of them; 0 is none either way.
Allowed = Annotated[Annotated[int, Field(ge=1)] | Annotated[float, Field(ge=0, le=1)], BeforeValidator(_share_or_count)]


class RowCount(Block):
    """How many rows the table may hold."""

    at_least: int | None = Field(default=None, ge=0)
    at_most: int | None = Field(default=None, ge=0)


class Freshness(Block):
    """How old the newest value of a column may be, against now or the instant ``of``."""

    column: ColumnName
    within: Duration
    of: str | None = Field(default=None, description="an instant such as 2013-12-31T00:00:00Z (UTC where it names no zone); absent: now")

    @property
    def within_s(self) -> int:
        """``within`` in seconds."""
        return int(self.within[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[self.within[-1]]

    def instant(self, now: datetime) -> datetime:
        """Return the instant that ages are measured against."""
        if self.of is None:
            return now
        found = datetime.fromisoformat(self.of)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


class Sum(Block):
    """What a column, or a SQL expression over the columns, adds up to; nulls count for nothing."""

    column: ColumnName = Field(description="a column, or a SQL expression such as `distance * 1.609`")
    equals: int | float | Reference = Field(description="a number, or the column of another table whose sum it must equal")
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class Distribution(Block):
    """How far a column may lie from the table's last accepted version; the first version has none and passes."""

    column: ColumnName
    method: Literal["psi"] = "psi"
    at_most: float = Field(default=0.2, ge=0, allow_inf_nan=False)


class Expectation(Block):
    """One rule of a table, of exactly one kind.

    ``check``, ``not_null``, ``in_reference`` and ``unique`` judge rows: those that break one are kept, dropped or quarantined, or fail the
    step. ``row_count``, ``freshness``, ``sum`` and ``distribution`` judge the table that would be written: they warn or fail.
    """

    check: str | None = Field(default=None, description="a SQL condition: a row passes when it is true (not false, not null, no error)")
    not_null: ColumnName | Columns | None = Field(default=None, description="the columns that hold a value in every row")
    in_reference: Reference | None = Field(
        default=None, description="the column of another table, such as silver.airports.faa, that holds each value of `column`; null passes"
    )
    column: ColumnName | None = Field(default=None, description="in_reference: the column that is looked up")
    unique: ColumnName | Columns | None = Field(
        default=None, description="columns whose values stand together in one row only; rows with a null in them pass"
    )
    row_count: Annotated[int, Field(ge=0)] | RowCount | None = Field(default=None, description="exactly so many rows, or bounds")
    freshness: Freshness | None = None
    sum: Sum | None = None
    distribution: Distribution | None = None
    on_violation: Literal["warn", "drop", "quarantine", "fail"] = "warn"
    at_most: Allowed | None = Field(
        default=None,
        description="how many rows may break the rule before the step fails: a share (0.01, 1.0), or a whole number of rows (1, 20)",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Expectation:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) > 1:
            raise ValueError(f"holds `{'` and `'.join(given)}`; an expectation is one rule, so make one of each")
        if not given:
            raise ValueError(f"says nothing to expect; give one of {', '.join(KINDS)}")
        if self.in_reference is not None and self.column is None:
            raise ValueError("`in_reference` needs `column: <column>`, the column of this table that is looked up")
        if self.column is not None and self.in_reference is None:
            raise ValueError(f"`column` goes with `in_reference`; `{given[0]}` names its columns itself")
        return self

    @property
    def kind(self) -> str:
        """The one kind that is given, such as ``unique``."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def reads(self) -> tuple[str, str] | None:
        """The other table this looks into and its column, None where it looks into none."""
        if self.in_reference is not None:
            return split_reference(self.in_reference)
        if self.sum is not None and isinstance(self.sum.equals, str):
            return split_reference(self.sum.equals)
        return None


def split_reference(value: str) -> tuple[str, str]:
    """Return table and column of ``silver.airports.faa``."""
    layer, name, column = value.split(".", 2)
    return f"{layer}.{name}", column


def as_columns(value: str | list[str] | None) -> tuple[str, ...]:
    """Return one column or several as a tuple."""
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
