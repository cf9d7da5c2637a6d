"""The base of the rows of ops tables: a frozen dataclass per table, from which its schema and its documentation are derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_type_hints

import pyarrow as pa

Int32 = Annotated[int, pa.int32()]
Versions = Mapping[str, int]
Retention = Literal["run", "model", "forever"]
STAMPS = SEQUENCE, RECORDED_AT = "seq", "recorded_at"
_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
    Int32: pa.int32(),
    Versions: pa.map_(pa.string(), pa.int64()),
}


def column(comment: str) -> Any:
    """Declare a column that is null unless a value is given; ``comment`` describes it."""
    return field(default=None, metadata={"comment": comment})


OPS_TABLES: dict[str, type[OpsRow]] = {}
"""The row class of each ops table."""


@dataclass(frozen=True, kw_only=True)
class OpsRow:
    """A row of an ops table. Each subclass is one table: its docstring describes a row.

    Every column may be null. ``seq`` is assigned by the ledger; without ``recorded_at`` the ledger takes the time of the commit.
    """

    TABLE: ClassVar[str] = ""
    STAMPS_AFTER: ClassVar[str | None] = None
    """The column that ``seq`` and ``recorded_at`` follow; None: they come last."""

    seq: int | None = column("number of the row in its table, in the order of commits: the greatest is the latest")
    recorded_at: datetime | None = column("when the row was written, by the writer's clock")

    RETENTION: ClassVar[Retention] = "run"
    """How long maintenance keeps the rows: as long as their run, at least as long as their model version is in use, or forever."""

    def __init_subclass__(cls, table: str = "", stamps_after: str | None = None, retention: Retention | None = None) -> None:
        """Register the class as the rows of ``table``."""
        if retention:
            cls.RETENTION = retention
        if stamps_after:
            cls.STAMPS_AFTER = stamps_after
        if table:
            cls.TABLE = table
            OPS_TABLES[table] = cls

    @classmethod
    @cache
    def arrow_schema(cls) -> pa.Schema:
        """Return the table's columns in their order."""
        hints = get_type_hints(cls, include_extras=True)
        names = [part.name for part in fields(cls) if part.name not in STAMPS]
        place = len(names) if cls.STAMPS_AFTER is None else names.index(cls.STAMPS_AFTER) + 1
        return pa.schema([pa.field(name, _arrow_type(hints[name])) for name in (*names[:place], *STAMPS, *names[place:])])

    @classmethod
    def from_cells(cls, cells: Mapping[str, Any]) -> Self:
        """Return the row with these cells; a lake of an earlier version may lack a column, which is null then."""
        return cls(**{name: cells[name] for name in cls.arrow_schema().names if name in cells})

    def cells(self) -> dict[str, object]:
        """Return the row as column → value."""
        return {name: getattr(self, name) for name in self.arrow_schema().names}


def _arrow_type(hint: Any) -> pa.DataType:
    declared = next(part for part in get_args(hint) if part is not type(None))
    if declared in _ARROW:
        return _ARROW[declared]
    return next(
        arrow for known, arrow in _ARROW.items() if isinstance(known, type) and issubclass(declared, known)
    )  # such as a clock of tests


def describe_tables() -> str:
    """Return the ops tables as Markdown: per table what a row is, and its columns with their types and comments."""
    parts = []
    for name, row in OPS_TABLES.items():
        schema = row.arrow_schema()
        comments = {part.name: part.metadata["comment"] for part in fields(row)}
        grain = str(row.__doc__).removesuffix(".")
        lines = [f"| `{part.name}` | {_sql_type(part.type)} | {comments[part.name]} |" for part in schema]
        parts.append(
            "\n".join(
                [
                    f"### `{name}`",
                    "",
                    f"One row per {grain[0].lower()}{grain[1:]}.",
                    "",
                    "| column | type | meaning |",
                    "|---|---|---|",
                    *lines,
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"MAP<{_sql_type(kind.key_type)}, {_sql_type(kind.item_type)}>"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP"
    return {"string": "STRING", "int64": "BIGINT", "int32": "INT", "double": "DOUBLE", "bool": "BOOLEAN"}[str(kind)]
