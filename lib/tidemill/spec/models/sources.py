"""The blocks of sources and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from tidemill.options import Block, ColumnName, DottedName, Duration, Name, Problem, Scalar, TableName
from tidemill.spec.models.expectations import Expectation, source_problems, table_problems
from tidemill.spec.models.source_kinds import SOURCE_KINDS


class Source(Block):
    """One raw source; it becomes ``bronze.<name>``."""

    format: str
    path: str | list[str] | None = Field(default=None, description="a file, a folder, a glob, or a list of them")
    url: str | None = Field(default=None, description="jdbc: the database's URL; kafka: the brokers")
    table: str | None = Field(default=None, description="jdbc: a table; kafka: a topic")
    query: str | None = Field(default=None, description="jdbc: a SELECT instead of a table")
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    schema_: str | None = Field(default=None, alias="schema", description="DDL, or a .ddl/.json file; absent: inferred once, then pinned")
    options: dict[str, Scalar] = Field(default={})
    load: Literal["incremental", "full"] = "full"
    key: list[ColumnName] = Field(default=[])
    watermark: ColumnName | None = Field(
        default=None, description="`load: incremental` without files: a column that grows with each change"
    )
    overlap: Duration | None = Field(default=None, description="how far behind the watermark late rows are still looked for")
    timezone: str = "UTC"
    on_bad_file: Literal["quarantine", "fail"] = "quarantine"
    on_new_column: Literal["rescue", "add", "fail"] = "rescue"
    on_missing_column: Literal["null", "fail"] = "null"
    on_type_change: Literal["quarantine", "widen", "fail"] = "quarantine"
    expectations: dict[Name, Expectation] = Field(
        default={}, description="rules for each record (`check`, `not_null`), judged as it is read; the others judge tables"
    )

    def problems(self) -> Iterator[Problem]:
        """Yield the expectations that a source cannot be asked."""
        return source_problems(self.expectations)

    @property
    def paths(self) -> tuple[str, ...]:
        """The declared paths; empty for a source without files."""
        return () if self.path is None else (self.path,) if isinstance(self.path, str) else tuple(self.path)

    @property
    def always_poll(self) -> bool:
        """True for a source without files, which has to be asked at each run whether there is something new."""
        return not self.paths or (self.format in SOURCE_KINDS and not SOURCE_KINDS.get(self.format).reads_files)


class Table(Block):
    """One cleaned or integrated table; it becomes ``silver.<name>``."""

    sql: str | None = None
    python: DottedName | None = None
    inputs: list[TableName] = Field(default=[], description="for `python`: the tables of its parameters; absent: read from their names")
    key: list[ColumnName] = Field(default=[])
    load: Literal["full", "incremental"] = "full"
    latest_by: ColumnName | None = Field(default=None, description="of rows with the same key, the one with the greatest value here stays")
    expectations: dict[Name, Expectation] = Field(default={})

    def problems(self) -> Iterator[Problem]:
        """Yield what does not go with the key."""
        return table_problems(self.expectations, self.key, self.latest_by)

    @model_validator(mode="after")
    def _one_definition(self) -> Table:
        if (self.sql is None) == (self.python is None):
            raise ValueError("needs exactly one of `sql` and `python`")
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        """The tables that the expectations look into."""
        return tuple(dict.fromkeys(rule.reads[0] for rule in self.expectations.values() if rule.reads))
