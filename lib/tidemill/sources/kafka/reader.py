"""Read Kafka topics: each message is a record, from the last position up to the end at the start of the run."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.json.reader import infer_fields
from tidemill.sources.files.json.records import parse_records
from tidemill.sources.files.lines import BOM, HAS_INVALID_BYTES, LINE, has_nul
from tidemill.sources.kafka import CLIENT
from tidemill.sources.kafka.offsets import Ranges, parse_position, plan_ranges
from tidemill.sources.kafka.topics import Topics, describe_topics, parse_topics
from tidemill.sources.records import IS_HEADER, RULES, SOURCE_LINE, Extract, Records, collect_rules, record_columns, rule
from tidemill.sources.schema.types import validate_schema
from tidemill.spec.models import Source

PREFIX = "_kafka_"
"""The prefix of the message's own columns where its value is JSON."""

_KEY, _VALUE, _HEADERS = "key", "value", "headers"
_TOMBSTONE = "is_tombstone"
_PLACE = {"topic": T.StringType(), "partition": T.IntegerType(), "offset": T.LongType(), "timestamp": T.TimestampType()}
_HEADER_TYPE = T.ArrayType(T.StructType([T.StructField("key", T.StringType()), T.StructField("value", T.BinaryType())]))
_FORMATS = {"text": T.StringType(), "binary": T.BinaryType()}


class KafkaTopics:
    """Kafka topics.

    Without ``schema`` the columns are ``key`` STRING, ``value`` STRING, ``topic``, ``partition``, ``offset``, ``timestamp`` and
    ``headers`` (their values BINARY); ``keyFormat: binary`` and ``valueFormat: binary`` give BINARY. With ``schema``, or with
    ``valueFormat: json``, which infers one, the value is one JSON object, checked like a line of a JSON file. The columns of the message
    follow: ``_kafka_key``, ``_kafka_topic``, …, ``_kafka_headers``, and ``_kafka_is_tombstone`` (the value is null; such a message is a
    record with null in each column of the value).

    Rules that reject a message: ``invalid_bytes:key``, ``nul:value`` (``invalid_bytes``, ``nul`` for JSON), and those of JSON. The raw
    text of a rejected message is the whole message as JSON, with invalid text in base64; its line is its offset.
    """

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the fixed columns, or the columns that are inferred from all JSON values that parse."""
        topics = parse_topics(source)
        if topics.value_format != "json":
            return T.StructType(_message_columns(topics))
        planned = plan_ranges(topics, describe_topics(spark, topics), None)
        fields = infer_fields(spark, _add_json_lines(_read_messages(spark, topics, planned)), topics.json, source.timezone)
        if not fields:
            raise SourceError(f"no JSON object in {topics.place}; declare `schema:`, or wait for messages")
        return self.complete_schema(source, T.StructType(fields))

    def complete_schema(self, source: Source, schema: T.StructType) -> T.StructType:
        """Return a declared schema, followed by the columns of the message unless it has them already.

        Raises:
            SourceError: a declared column has the prefix of the message's columns.
        """
        topics = parse_topics(source)
        own = _message_columns(topics)
        if topics.value_format != "json" or {field.name for field in own} <= set(schema.names):
            return schema
        taken = [name for name in schema.names if name.lower().startswith(PREFIX)]
        if taken:
            raise SourceError(f"column {taken[0]!r}: names that begin with {PREFIX} are for what Kafka says of a message; leave it out")
        return T.StructType([*validate_schema(schema.fields).fields, *own])

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the messages after ``since`` up to the current end.

        Raises:
            SourceError: the brokers do not answer, a topic does not exist, or messages after the position are gone.
            UsageError: an option is wrong.
        """
        topics = parse_topics(source)
        position = None if since is None else parse_position(since)
        topics_now = describe_topics(spark, topics, () if position is None else position.offsets)
        planned = plan_ranges(topics, topics_now, position)
        messages = _read_messages(spark, topics, planned)
        frame = (
            _select_json_records(messages, topics, schema, source) if topics.value_format == "json" else _select_records(messages, topics)
        )
        return Extract(Records(frame, notes=planned.notes, locate=_add_offsets), topics.place, planned.position.to_json())


def _message_columns(topics: Topics) -> list[T.StructField]:
    """Return the columns of a message, or those beside its JSON value."""
    key = T.StructField(_KEY, _FORMATS[topics.key_format])
    place = [T.StructField(name, kind) for name, kind in _PLACE.items()]
    headers = T.StructField(_HEADERS, _HEADER_TYPE)
    if topics.value_format != "json":
        return [key, T.StructField(_VALUE, _FORMATS[topics.value_format]), *place, headers]
    fields = [key, *place, headers, T.StructField(_TOMBSTONE, T.BooleanType())]
    return [T.StructField(PREFIX + field.name, field.dataType) for field in fields]


def _read_messages(spark: SparkSession, topics: Topics, planned: Ranges) -> DataFrame:
    """Return the messages in the ranges as ``_kafka_`` columns, key and value as bytes, with place and hash.

    The query contains the ends, so it returns the same messages whenever it runs, or fails.
    """
    # Exact partitions, because a topic may have one more by now.
    assigned = {name: sorted(numbers) for name, numbers in planned.ends.items() if numbers}
    options = {f"{CLIENT}{name}": value for name, value in topics.client.items()} | dict(topics.reader)
    options |= {
        f"{CLIENT}bootstrap.servers": topics.brokers,
        "assign": json.dumps(assigned),
        "startingOffsets": json.dumps({name: planned.starts[name] for name in assigned}),
        "endingOffsets": json.dumps({name: planned.ends[name] for name in assigned}),
        "includeHeaders": "true",
        "failOnDataLoss": "true",
    }
    identity = F.xxhash64("topic", "partition", "offset", "key", "value")
    return spark.read.format("kafka").options(**options).load().select(
        *[F.col(name).alias(PREFIX + name) for name in (_KEY, _VALUE, *_PLACE, _HEADERS)],
        F.col("value").isNull().alias(PREFIX + _TOMBSTONE),
        F.concat(F.lit("kafka://"), "topic", F.lit("/"), F.col("partition").cast("string")).alias(SOURCE_FILE),
        F.lpad(F.lower(F.hex(identity)), 16, "0").alias(ROW_HASH),
    )  # fmt: skip


def _add_json_lines(messages: DataFrame) -> DataFrame:
    """Add the values as lines of JSON; a null value becomes the empty object."""
    value = _message_column(_VALUE)
    # White space around an object is removed, as at the ends of a file's lines.
    text = F.trim(F.ltrim(value.cast("string"), F.lit(BOM)), F.lit(" \t\r\n"))
    return messages.withColumns({LINE: F.coalesce(text, F.lit("{}")), HAS_INVALID_BYTES: F.coalesce(~_is_valid_text(value), F.lit(False))})


def _select_json_records(messages: DataFrame, topics: Topics, schema: T.StructType, source: Source) -> DataFrame:
    """Return the records of messages with JSON values."""
    own = _message_columns(topics)
    inside = T.StructType([field for field in schema.fields if field.name not in {part.name for part in own}])
    extra_columns = [PREFIX + name for name in (_KEY, _VALUE, *_PLACE, _HEADERS, _TOMBSTONE)]
    records = parse_records(_add_json_lines(messages), inside, topics.json, source.timezone, extra_columns)
    columns = [*inside.names, *[field.name for field in own]]
    return _format_records(records.withColumn(RULES, F.concat(RULES, collect_rules(_key_rules(topics)))), topics, columns)


def _select_records(messages: DataFrame, topics: Topics) -> DataFrame:
    """Return the records of messages with text or binary values."""
    rules = [*_key_rules(topics), *(_text_rules(_VALUE) if topics.value_format == "text" else [])]
    added = {RULES: collect_rules(rules), RESCUED: F.lit(None).cast("string"), IS_HEADER: F.lit(False)}
    judged = _format_records(messages.withColumns(added), topics, [PREFIX + field.name for field in _message_columns(topics)])
    return judged.withColumnsRenamed({PREFIX + field.name: field.name for field in _message_columns(topics)})


def _format_records(records: DataFrame, topics: Topics, columns: Sequence[str]) -> DataFrame:
    """Return the columns with keys and values in their formats, and the whole message as the raw text."""
    formats = {PREFIX + _KEY: topics.key_format, PREFIX + _VALUE: topics.value_format}
    shown = [F.col(f"`{name}`").cast("string").alias(name) if formats.get(name) == "text" else F.col(f"`{name}`") for name in columns]
    return records.select(*shown, *record_columns(_message_as_json(), rescued=F.col(RESCUED), is_header=F.col(IS_HEADER)))


def _message_as_json() -> Column:
    """Return a message as lossless JSON."""
    parts = [_message_column(name).alias(name) for name in _PLACE]
    for name in (_KEY, _VALUE):
        bytes_ = _message_column(name)
        parts.append(F.when(_is_valid_text(bytes_), bytes_.cast("string")).alias(name))
        parts.append(F.when(~_is_valid_text(bytes_), F.base64(bytes_)).alias(f"{name}_base64"))
    headers = F.transform(
        _message_column(_HEADERS), lambda header: F.struct(header["key"].alias("key"), F.base64(header["value"]).alias("value_base64"))
    )
    return F.to_json(F.struct(*parts, headers.alias(_HEADERS)))


def _message_column(name: str) -> Column:
    return F.col(PREFIX + name)


def _is_valid_text(value: Column) -> Column:
    return F.is_valid_utf8(value.cast("string"))


def _key_rules(topics: Topics) -> list[Column]:
    return _text_rules(_KEY) if topics.key_format == "text" else []


def _text_rules(name: str) -> list[Column]:
    return [
        rule(f"invalid_bytes:{name}", ~_is_valid_text(_message_column(name))),
        rule(f"nul:{name}", has_nul(_message_column(name).cast("string"))),
    ]


def _add_offsets(rejected: DataFrame) -> DataFrame:
    """Add the offset as ``_source_line`` to rejected messages."""
    return rejected.withColumn(SOURCE_LINE, F.get_json_object("raw", "$.offset").cast("bigint"))
