"""Rules for Kafka sources: brokers and topic each in one way, and options that mean something there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, model_validator

from tidemill.errors import did_you_mean
from tidemill.options import Problem
from tidemill.spec.loading.document import Key, Node
from tidemill.spec.models.base import WITHOUT_FILES, Block, ColumnName, DottedName, Duration, Name, Scalar, TableName
from tidemill.spec.models.expectations import Expectation, source_problems, table_problems

CLIENT = "kafka."
BROKERS = "kafka.bootstrap.servers"
NAMES, PATTERN, ASSIGNED = "subscribe", "subscribePattern", "assign"
LIMIT, STARTING = "maxOffsetsPerTrigger", "startingOffsets"
READER_OPTIONS = (
    *("minPartitions", "maxRecordsPerPartition", "groupIdPrefix", "kafkaConsumer.pollTimeoutMs"),
    *("fetchOffset.numRetries", "fetchOffset.retryIntervalMs"),
)
OWN_OPTIONS = (NAMES, PATTERN, ASSIGNED, LIMIT, STARTING, "failOnDataLoss", "keyFormat", "valueFormat")
JSON_OPTIONS = (
    *("dateFormat", "timestampFormat", "timestampNTZFormat", "enableDateTimeParsingFallback"),
    *("primitivesAsString", "prefersDecimal", "allowComments", "allowUnquotedFieldNames", "allowSingleQuotes"),
    *("allowNumericLeadingZeros", "allowBackslashEscapingAnyCharacter", "allowNonNumericNumbers", "allowUnquotedControlChars"),
)
"""Those of JSON that concern a value, not a file."""

CHOICES = {
    "failOnDataLoss": ("true", "false"),
    "keyFormat": ("text", "binary"),
    "valueFormat": ("json", "text", "binary"),
    f"{CLIENT}isolation.level": ("read_committed", "read_uncommitted"),
}
NOT_HERE = {
    "endingoffsets": "a run reads what is there when it starts",
    "endingtimestamp": "a run reads what is there when it starts",
    "endingoffsetsbytimestamp": "a run reads what is there when it starts",
    "includeheaders": "headers are always read",
    "kafka.auto.offset.reset": "`startingOffsets` says where the first run begins",
    "kafka.enable.auto.commit": "offsets are kept with the table",
    "kafka.key.deserializer": "`keyFormat` is text or binary",
    "kafka.value.deserializer": "`valueFormat` is json, text or binary",
    "kafka.interceptor.classes": "Spark does not take it",
}
STARTING_EXAMPLE = '{"topic": {"0": 23, "1": -2}}'
ASSIGNED_EXAMPLE = '{"topic": [0, 1]}'

_WORDS = ("earliest", "latest")

Found = Iterator[tuple[tuple[Key, ...], str]]


def topic_faults(name: str, source: Node) -> Found:
    """Yield the faults of a source of ``format: kafka``: what it lacks, what is given twice, what would do nothing there."""
    path: tuple[Key, ...] = ("sources", name)
    options = source.at("options")
    given = {option.lower(): (option, node) for option, node in (options.mapping if options else {}).items()}
    yield from _ways(path, source, given, "url", (BROKERS,), 'the brokers, such as "host:9092,other:9092"')
    yield from _ways(path, source, given, "table", (NAMES, PATTERN, ASSIGNED), "the topic")
    for key in ("path", "query", "user", "password", "watermark", "overlap"):
        if _is_given(source.at(key)):
            way = "; give `kafka.sasl.*` in `options`" if key in ("user", "password") else "; leave it out"
            yield (*path, key), f"means nothing for `format: kafka`{way}"
    for key, only in (("on_new_column", ("rescue",)), ("on_missing_column", ("null",)), ("on_type_change", ("quarantine", "fail"))):
        policy = source.at(key)
        if policy is not None and policy.string is not None and policy.string not in only:
            yield (*path, key), f"{policy.string!r} is not built for `format: kafka`; leave {only[0]!r}"
    for option, node in given.values():
        fault = _name_fault(option) or _value_fault(option, node, source)
        if fault:
            yield (*path, "options", option), fault


def _ways(
    path: tuple[Key, ...], source: Node, given: Mapping[str, tuple[str, Node]], key: str, options: tuple[str, ...], what: str
) -> Found:
    """Yield a fault where what is needed is given in none of the ways there are, or in more than one."""
    places: list[tuple[tuple[Key, ...], str]] = [((*path, key), f"`{key}:`")] if _is_given(source.at(key)) else []
    places += [((*path, "options", given[option.lower()][0]), f"options.{option}") for option in options if option.lower() in given]
    if not places:
        others = f"options.{options[0]}" if len(options) == 1 else f"one of options.{', '.join(options[:-1])} and {options[-1]}"
        yield (*path, key), f"missing; give {what}, or {others}"
    for place, _ in places[1:]:
        yield place, f"{places[0][1]} says it already; leave one of them out"


def _name_fault(option: str) -> str | None:
    if option.lower() in NOT_HERE:
        return f"is not for a kafka source to set: {NOT_HERE[option.lower()]}; leave it out"
    known = (*READER_OPTIONS, *OWN_OPTIONS, *JSON_OPTIONS)
    if option.lower().startswith(CLIENT) or option.lower() in {name.lower() for name in known}:
        return None
    return f"unknown option of kafka{did_you_mean(option, (*known, BROKERS))}; known: {', '.join(sorted(known))}, and {CLIENT}*"


def _value_fault(option: str, node: Node, source: Node) -> str | None:
    """Return what is wrong with the value of a known option; None too where its variables are not known yet."""
    if node.is_open or not isinstance(node.value, str | int | float | bool):
        return None
    text = str(node.value).lower() if isinstance(node.value, bool) else str(node.value)
    name = option.lower()
    choices = next((known for choice, known in CHOICES.items() if choice.lower() == name), None)
    if choices is not None and text.lower() not in choices:
        return f"expected one of {', '.join(choices)}, found {text!r}"
    if name == LIMIT.lower():
        is_number, load = text.isdigit() and int(text) >= 1, source.at("load")
        is_incremental = load is not None and load.string == "incremental"
        return None if is_number and is_incremental else f"is a number from 1 and for `load: incremental`, found {text!r}"
    if name == STARTING.lower() and text.lower() not in _WORDS and not _is_json(text):
        return f"expected earliest, latest or JSON such as {STARTING_EXAMPLE}, found {text!r}"
    if name == ASSIGNED.lower() and not _is_json(text):
        return f"expected JSON such as {ASSIGNED_EXAMPLE}, found {text!r}"
    schema = source.at("schema")
    if name == "valueformat" and text.lower() != "json" and _is_given(schema):
        return f"`schema` is for JSON values; leave it out, or write json instead of {text!r}"
    return None


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _is_given(node: Node | None) -> bool:
    return node is not None and node.value is not None and node.value != ""


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
    def is_asked(self) -> bool:
        """True for a source without files, which has to be asked whether there is something new."""
        return self.format in WITHOUT_FILES or not self.paths


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
