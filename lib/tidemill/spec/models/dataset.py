"""The `dataset` block: rows, point-in-time lookups and aggregates, key, label and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from tidemill.families.space import Scalar
from tidemill.options import Block, ColumnName, Name, Share, Span, TableName

FUNCTIONS = ("count", "sum", "avg", "min", "max", "stddev")
_ALIASES = {"mean": "avg", "std": "stddev", "stddev_samp": "stddev"}
_ARITHMETIC = ("sum", "avg", "stddev")


@dataclass(frozen=True)
class AggregateMeasure:
    """One aggregate feature: the function, the SQL of its argument (empty for ``count`` of rows), and the columns in it."""

    function: str
    of: str = ""
    columns: tuple[str, ...] = ()

    @property
    def is_arithmetic(self) -> bool:
        """True if it takes numbers only."""
        return self.function in _ARITHMETIC

    @property
    def is_extreme(self) -> bool:
        """True for the least and the greatest value."""
        return self.function in ("min", "max")


def parse_measure(text: str) -> AggregateMeasure:
    """Parse a measure such as ``avg(arr_delay)``.

    Raises:
        ValueError: it is not a function of ``FUNCTIONS`` with one plain expression.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(text, dialect="databricks")
    except (SqlglotError, RecursionError):
        raise ValueError(f"{text!r} does not parse as SQL; {_expected()}") from None
    bare = text.strip()
    name, _, rest = bare.partition("(")
    function = _ALIASES.get(name.strip().lower(), name.strip().lower())
    if function == "count" and "".join(rest.split()) in ("", ")", "*)"):
        return AggregateMeasure("count")
    if function not in FUNCTIONS or not isinstance(tree, exp.Func) or not bare.endswith(")"):
        from tidemill.errors import did_you_mean

        raise ValueError(f"expected one of {', '.join(FUNCTIONS)} of a column, found {text!r}{did_you_mean(function, FUNCTIONS)}")
    if tree.find(exp.Distinct) or len([part for part in tree.iter_expressions() if part is not None]) > 1:
        raise ValueError(f"{text!r}: {function} takes one column or expression here, and no DISTINCT; {_expected()}")
    if tree.find(exp.Subquery, exp.Select, exp.Window) or any(part is not tree for part in tree.find_all(exp.AggFunc)):
        raise ValueError(f"{text!r}: {function} takes an expression of one row here, without subquery, window or another aggregate")
    columns = tuple(dict.fromkeys(column.name for column in tree.find_all(exp.Column)))
    return AggregateMeasure(function, rest.strip()[:-1].strip(), columns)


def parse_measures(features: Mapping[str, str]) -> dict[str, AggregateMeasure]:
    """Return the features' measures by name."""
    return {name: parse_measure(text) for name, text in features.items()}


def column_name(feature: str, window: str | int | float) -> str:
    """Return the name of a feature's column: ``flights`` over ``1d`` is ``flights_1d``."""
    return f"{feature}_{''.join(str(window).split()).replace('.', '_')}"


def column_names(features: Mapping[str, str], windows: Sequence[str | int | float]) -> list[str]:
    """Return the names of a block's columns: for each feature, a column for each window."""
    return [column_name(feature, window) for feature in features for window in windows]


def _expected() -> str:
    return "expected `count`, or a function of a column such as avg(arr_delay)"


class Lookup(Block):
    """A point-in-time join: the latest row of ``table`` known at the event time."""

    table: TableName
    by: list[ColumnName] = Field(min_length=1, description="columns that both sides have")
    time: ColumnName = Field(description="when a row of the table is from")
    known_at: ColumnName | None = Field(default=None, description="when a row became known, where that is later than `time`")
    at_most: Span | None = Field(default=None, description="how old a row may be at the event time, itself included; absent: any age")
    latest_by: ColumnName | list[ColumnName] = Field(
        default=[], description="of rows of one time, the one with the greatest values here counts"
    )
    columns: list[ColumnName] | None = Field(default=None, description="what to take; absent: every column but those of `by`")
    prefix: str | None = Field(default=None, description="put before names that the dataset has already; absent: the lookup's name and _")

    @property
    def order(self) -> tuple[str, ...]:
        """The columns of ``latest_by``."""
        return (self.latest_by,) if isinstance(self.latest_by, str) else tuple(self.latest_by)


class Aggregate(Block):
    """Figures of what happened before: over the rows of a table in windows of time that end at the event time."""

    over: TableName
    by: list[ColumnName] = Field(min_length=1, description="columns that both sides have")
    time: ColumnName = Field(description="when a row of the table happened")
    known_at: ColumnName | None = Field(default=None, description="when a row became known, where that is later than `time`; null: never")
    windows: list[Span] = Field(min_length=1, description="rows count from `event_time` minus the window on, and before `event_time`")
    features: dict[Name, str] = Field(min_length=1, description="name → `count`, or a function of a column such as `avg(arr_delay)`")


def _aggregates_kind(value: object) -> str:
    """Distinguish one block from blocks by name: only a block has values that are not blocks."""
    is_one = isinstance(value, Aggregate) or (isinstance(value, dict) and any(not isinstance(v, dict | Block) for v in value.values()))
    return "one block" if is_one else "blocks by name"  # with spaces: never taken for a name


Aggregates = Annotated[
    Annotated[Aggregate, Tag("one block")] | Annotated[dict[Name, Aggregate], Tag("blocks by name")], Discriminator(_aggregates_kind)
]


class Split(Block):
    """How rows become train and test, and how training rows become folds."""

    by: Literal["time", "hash", "group", "column"] = "hash"
    test: Share | str = 0.2
    gap: Span | None = Field(
        default=None, description="by time: rows this long before the test begins are `gap`; folds keep the same distance"
    )
    group: ColumnName | None = None
    column: ColumnName | None = None
    stratified: bool = Field(default=False, description="splits and folds by hash keep the exact class proportions")
    folds_by: Literal["time", "expanding", "hash", "group"] | None = Field(
        default=None, description="expanding: blocks of time, each validated by models of the earlier ones; the first is trained on only"
    )
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

    @property
    def folds_rule(self) -> str:
        """The fold rule: as declared, or as implied by the split."""
        return self.folds_by or {"time": "time", "group": "group"}.get(self.by, "hash")

    @property
    def remedy_for_missing_classes(self) -> str:
        """The remedy if a fold lacks a class."""
        if self.folds_rule != "hash":
            return "use fewer folds, or `split.folds_by: hash`"
        can_stratify = not self.stratified and self.by != "group"
        return "use fewer folds, or `split.stratified: true`" if can_stratify else "use fewer folds, or add rows of the rarer class"

    @property
    def is_expanding(self) -> bool:
        """True if a fold is validated by models of the earlier folds alone."""
        return self.folds_by == "expanding"


class Dataset(Block):
    """The examples: one row a key, with its label; it becomes ``gold.<pipeline>_dataset``."""

    sql: str | None = None
    from_: TableName | None = Field(default=None, alias="from")
    lookups: dict[Name, Lookup] = Field(default={})
    aggregates: Aggregates = Field(default={}, description="one block, or several by name")
    key: list[ColumnName] = Field(min_length=1)
    label: ColumnName | None = Field(default=None, description="required but for clustering and anomaly, which do not learn from it")
    positive: Scalar | None = None
    event_time: ColumnName | None = None
    split: Split | None = Field(default=None, description="absent: by time where `event_time` is given, else by hash; test: 0.2")
    exclude: list[ColumnName] = Field(default=[])
    weight: ColumnName | None = Field(default=None, description="a numeric column: what a row counts for in fits and in metrics")

    @model_validator(mode="after")
    def _one_definition(self) -> Dataset:
        if (self.sql is None) == (self.from_ is None):
            raise ValueError("needs exactly one of `sql` and `from`")
        if self.split is not None and self.split.by == "time" and self.event_time is None:
            raise ValueError("`split: {by: time}` needs `event_time: <column>`")
        return self

    def positive_rule(self) -> str:
        """Return which of two labels is the positive class, in one sentence."""
        if self.positive is not None:
            return f"the positive class of {self.label} is {self.positive!r}, as dataset.positive says"
        return f"the positive class of {self.label} is the greater of its two values, since dataset.positive does not name one"

    def split_rule(self) -> Split:
        """Return the split as declared, or the default one."""
        return self.split or Split(by="time" if self.event_time else "hash")

    @property
    def unit_columns(self) -> list[str]:
        """The columns of which rows with the same values belong together: the group of the split where it has one, else the key."""
        group = self.split_rule().group
        return [group] if group else list(self.key)

    @property
    def aggregate_blocks(self) -> dict[str, Aggregate]:
        """The aggregates by name; one block without a name has the empty one."""
        return {"": self.aggregates} if isinstance(self.aggregates, Aggregate) else dict(self.aggregates)

    @property
    def joined_tables(self) -> tuple[str, ...]:
        """The tables of the lookups and aggregates."""
        tables = (*(lookup.table for lookup in self.lookups.values()), *(block.over for block in self.aggregate_blocks.values()))
        return tuple(dict.fromkeys(tables))
