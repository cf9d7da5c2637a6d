"""Kafka topics, read in batches from stored offsets.

In: brokers, topics, and the position of the last batch. Out: each later message as a record, checked like a line of a file, and the new
position. Calls of the brokers may change inside; the JSON of positions may not, because it is stored with each commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from tidemill.errors import did_you_mean
from tidemill.sources.files.json import VALUE_OPTIONS
from tidemill.spec.models.source_kinds import DeclaredSource, Faults, QueryKind

if TYPE_CHECKING:
    from pyspark.sql import types as T

    from tidemill.spec.models import Source


CLIENT = "kafka."
BROKERS = "kafka.bootstrap.servers"
NAMES, PATTERN, ASSIGNED = "subscribe", "subscribePattern", "assign"
LIMIT, STARTING = "maxOffsetsPerTrigger", "startingOffsets"
READER_OPTIONS = (
    *("minPartitions", "maxRecordsPerPartition", "groupIdPrefix", "kafkaConsumer.pollTimeoutMs"),
    *("fetchOffset.numRetries", "fetchOffset.retryIntervalMs"),
)
CHOICES = {
    "failOnDataLoss": ("true", "false"),
    "keyFormat": ("text", "binary"),
    "valueFormat": ("json", "text", "binary"),
    f"{CLIENT}isolation.level": ("read_committed", "read_uncommitted"),
}
_OPTIONS = (*READER_OPTIONS, NAMES, PATTERN, ASSIGNED, LIMIT, STARTING, "failOnDataLoss", "keyFormat", "valueFormat", *VALUE_OPTIONS)
_SET_BY_TIDEMILL = {
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
_STARTING_EXAMPLE = '{"topic": {"0": 23, "1": -2}}'
_ASSIGNED_EXAMPLE = '{"topic": [0, 1]}'
_POLICIES = (("on_new_column", ("rescue",)), ("on_missing_column", ("null",)), ("on_type_change", ("quarantine", "fail")))


class Kafka(QueryKind):
    """Kafka topics; each message is a record."""

    reader = "tidemill.sources.kafka.reader:KafkaTopics"
    gives_raw_text = True
    adds_columns = True
    option_names = _OPTIONS

    def complete_schema(self, source: Source, schema: T.StructType) -> T.StructType:
        """Return a declared schema, followed by the columns of the message."""
        completed: T.StructType = self._reader().complete_schema(source, schema)
        return completed

    def connector(self, source: Source) -> str:
        """Return the connector that every topic needs."""
        return "kafka"

    def faults(self, source: DeclaredSource) -> Faults:
        """Yield faults of keys that are missing, given twice, or without effect."""
        yield from _place_faults(source, "url", (BROKERS,), 'the brokers, such as "host:9092,other:9092"')
        yield from _place_faults(source, "table", (NAMES, PATTERN, ASSIGNED), "the topic")
        for key in ("path", "query", "user", "password", "watermark", "overlap"):
            if key in source.keys:
                remedy = "give `kafka.sasl.*` in `options`" if key in ("user", "password") else "leave it out"
                yield (key,), f"means nothing for `format: kafka`; {remedy}"
        for key, supported in _POLICIES:
            policy = source.text(key)
            if policy is not None and policy not in supported:
                yield (key,), f"{policy!r} is not built for `format: kafka`; leave {supported[0]!r}"
        for name, (spelling, value) in source.options.items():
            fault = _name_fault(spelling) or _value_fault(name, value, source)
            if fault:
                yield ("options", spelling), fault


def _place_faults(source: DeclaredSource, key: str, names: tuple[str, ...], needed: str) -> Faults:
    """Yield a fault if the brokers or the topic are given neither by the key nor by one of the options, or more than once."""
    given: list[tuple[tuple[str, ...], str]] = [((key,), f"`{key}:`")] if key in source.keys else []
    given += [(("options", source.options[name.lower()][0]), f"options.{name}") for name in names if name.lower() in source.options]
    if not given:
        others = f"options.{names[0]}" if len(names) == 1 else f"one of options.{', '.join(names[:-1])} and {names[-1]}"
        yield (key,), f"missing; give {needed}, or {others}"
    for place, _ in given[1:]:
        yield place, f"{given[0][1]} says it already; leave one of them out"


def _name_fault(option: str) -> str | None:
    name = option.lower()
    if name in _SET_BY_TIDEMILL:
        return f"is not for a kafka source to set: {_SET_BY_TIDEMILL[name]}; leave it out"
    if name.startswith(CLIENT) or name in {known.lower() for known in _OPTIONS}:
        return None
    return f"unknown option of kafka{did_you_mean(option, (*_OPTIONS, BROKERS))}; known: {', '.join(sorted(_OPTIONS))}, and {CLIENT}*"


def _value_fault(name: str, value: object, source: DeclaredSource) -> str | None:
    """Return the fault of an option's value, by the option's name in lower case."""
    if not isinstance(value, str | int | float | bool):
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value)
    choices = next((allowed for choice, allowed in CHOICES.items() if choice.lower() == name), None)
    if choices is not None and text.lower() not in choices:
        return f"expected one of {', '.join(choices)}, found {text!r}"
    if name == LIMIT.lower():
        is_number = text.isdigit() and int(text) >= 1
        return None if is_number and source.is_incremental else f"is a number from 1 and for `load: incremental`, found {text!r}"
    if name == STARTING.lower() and not _is_valid(parse_starting, text):
        return f"expected earliest, latest or JSON such as {_STARTING_EXAMPLE}, found {text!r}"
    if name == ASSIGNED.lower() and not _is_valid(parse_assigned, text):
        return f"expected JSON such as {_ASSIGNED_EXAMPLE}, found {text!r}"
    if name == "valueformat" and text.lower() != "json" and "schema" in source.keys:
        return f"`schema` is for JSON values; leave it out, or write json instead of {text!r}"
    return None


def parse_starting(text: str) -> str | dict[str, dict[int, int]]:
    """Parse where the first run begins: ``earliest``, ``latest``, or an offset for each partition of each topic.

    Raises:
        ValueError, AttributeError, TypeError: it is none of these.
    """
    if text.lower() in ("earliest", "latest"):
        return text.lower()
    return {topic: {int(number): int(offset) for number, offset in offsets.items()} for topic, offsets in json.loads(text).items()}


def parse_assigned(text: str) -> dict[str, tuple[int, ...]]:
    """Parse the partitions of each topic that are read.

    Raises:
        ValueError, AttributeError, TypeError: the text is not of this form.
    """
    return {topic: tuple(int(number) for number in numbers) for topic, numbers in json.loads(text).items()}


def _is_valid(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except (ValueError, AttributeError, TypeError):
        return False
    return True
