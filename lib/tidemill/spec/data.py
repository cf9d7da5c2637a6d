"""The blocks of a spec that say where data comes from and what becomes of it: sources, tables, the dataset."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tidemill.spec.blocks import WITHOUT_FILES, Block, DottedName, Duration, Name, Scalar, Share, TableName
from tidemill.spec.expectations import Expectation


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
    key: list[Name] = Field(default=[])
    watermark: Name | None = Field(default=None, description="`load: incremental` without files: the column that grows with each change")
    overlap: Duration | None = Field(default=None, description="how far behind the watermark late rows are still looked for")
    timezone: str = "UTC"
    on_bad_file: Literal["quarantine", "fail"] = "quarantine"
    on_new_column: Literal["rescue", "add", "fail"] = "rescue"
    on_missing_column: Literal["null", "fail"] = "null"
    on_type_change: Literal["quarantine", "widen", "fail"] = "quarantine"
    expectations: dict[Name, Expectation] = Field(
        default={}, description="rules for each record (`check`, `not_null`), judged as it is read; the others judge tables"
    )

    @property
    def paths(self) -> tuple[str, ...]:
        """The declared paths; empty for a source without files."""
        return () if self.path is None else (self.path,) if isinstance(self.path, str) else tuple(self.path)

    @property
    def is_asked(self) -> bool:
        """True for a source without files, which has to be asked whether there is something new."""
        return self.format in WITHOUT_FILES or not self.paths


class Table(Block):
    """One cleaned or integrated table; it becomes ``silver.<name>``."""

    sql: str | None = None
    python: DottedName | None = None
    inputs: list[TableName] = Field(default=[], description="for `python`: the tables of its parameters; absent: read from their names")
    key: list[Name] = Field(default=[])
    load: Literal["full", "incremental"] = "full"
    latest_by: Name | None = Field(default=None, description="of rows with the same key, the one with the greatest value here stays")
    expectations: dict[Name, Expectation] = Field(default={})

    @model_validator(mode="after")
    def _one_definition(self) -> Table:
        if (self.sql is None) == (self.python is None):
            raise ValueError("needs exactly one of `sql` and `python`")
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        """The tables that the expectations look into."""
        return tuple(dict.fromkeys(rule.reads[0] for rule in self.expectations.values() if rule.reads))


class Lookup(Block):
    """A point-in-time join: the latest row of ``table`` known at the event time."""

    table: TableName
    by: list[Name]
    time: Name
    at_most: Duration | None = None


class Split(Block):
    """How rows become train and test, and how training rows become folds."""

    by: Literal["time", "hash", "group", "column"] = "hash"
    test: Share | str = 0.2
    group: Name | None = None
    column: Name | None = None
    stratified: bool = False
    folds_by: Literal["time", "hash", "group"] | None = None
    seed: int = 7

    @model_validator(mode="after")
    def _has_its_column(self) -> Split:
        if self.by == "group" and self.group is None:
            raise ValueError("`by: group` needs `group: <column>`")
        if self.by == "column" and self.column is None:
            raise ValueError("`by: column` needs `column: <column>`")
        if self.by != "time" and isinstance(self.test, str):
            raise ValueError(f"`test: {self.test!r}` is an instant, which fits `by: time` only; write a share such as 0.2")
        return self


class Dataset(Block):
    """The examples: one row a key, with its label; it becomes ``gold.<pipeline>_dataset``."""

    sql: str | None = None
    from_: TableName | None = Field(default=None, alias="from")
    lookups: dict[Name, Lookup] = Field(default={})
    key: list[Name] = Field(min_length=1)
    label: Name
    positive: Scalar | None = None
    event_time: Name | None = None
    split: Split | None = Field(default=None, description="absent: by time where `event_time` is given, else by hash; test: 0.2")
    exclude: list[Name] = Field(default=[])

    @model_validator(mode="after")
    def _one_definition(self) -> Dataset:
        if (self.sql is None) == (self.from_ is None):
            raise ValueError("needs exactly one of `sql` and `from`")
        if self.split is not None and self.split.by == "time" and self.event_time is None:
            raise ValueError("`split: {by: time}` needs `event_time: <column>`")
        return self

    def split_rule(self) -> Split:
        """Return the split as declared, or the default one."""
        return self.split or Split(by="time" if self.event_time else "hash")
