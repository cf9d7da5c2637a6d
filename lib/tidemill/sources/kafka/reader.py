"""Kafka topics: each message is a record; what lies behind the last position is read, up to what is there when the run starts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.json.reader import inferred_fields
from tidemill.sources.files.json.records import records_of_lines
from tidemill.sources.files.lines import BOM, HAS_INVALID_BYTES, LINE, has_nul
from tidemill.sources.kafka import CLIENT
from tidemill.sources.kafka.offsets import Ranges, position_from, ranges
from tidemill.sources.kafka.topics import Topics, topics_at_brokers, topics_of
from tidemill.sources.records import IS_HEADER, RAW, RULES, SOURCE_LINE, Extract, Records, broken, rule
from tidemill.sources.schema.types import checked_schema
from tidemill.spec.models import Source

PREFIX = "_kafka_"
"""What the names of a message's own columns begin with where its value is JSON."""

_KEY, _VALUE, _HEADERS = "key", "value", "headers"
_TOMBSTONE = "is_tombstone"
_PLACE = {"topic": T.StringType(), "partition": T.IntegerType(), "offset": T.LongType(), "timestamp": T.TimestampType()}
_HEADER_TYPE = T.ArrayType(T.StructType([T.StructField("key", T.StringType()), T.StructField("value", T.BinaryType())]))
_FORMATS = {"text": T.StringType(), "binary": T.BinaryType()}


class KafkaTopics:
    """Kafka topics.

    Without ``schema`` the columns are ``key`` STRING, ``value`` STRING, ``topic``, ``partition``, ``offset``, ``timestamp`` and
    ``headers`` (their values BINARY); ``keyFormat: binary`` and ``valueFormat: binary`` give BINARY. With ``schema``, or with
    ``valueFormat: json``, which infers one, the value is one JSON object, judged as a line of a JSON file is, and the message's own
    columns follow: ``_kafka_key``, ``_kafka_topic``, …, ``_kafka_headers``, and ``_kafka_is_tombstone`` (the value is null: a record
    too, with null in each column of the value).

    A text that is no UTF-8 or holds a NUL is refused: ``invalid_bytes:key``, ``nul:value`` (``invalid_bytes``, ``nul`` for JSON). The
    raw text of a refused message is JSON of the whole of it, in base64 what is no text; its line is its offset.
    """

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the fixed columns, or those of JSON values, as Spark infers them from every value that parses."""
        topics = topics_of(source)
        if topics.value_format != "json":
            return T.StructType(_own_columns(topics))
        found = ranges(topics, topics_at_brokers(spark, topics), None)
        fields = inferred_fields(spark, _lines(_messages(spark, topics, found)), topics.json, source.timezone)
        if not fields:
            raise SourceError(f"no JSON object in {topics.place}; declare `schema:`, or wait for messages")
        return self.complete_schema(source, T.StructType(fields))

    def complete_schema(self, source: Source, schema: T.StructType) -> T.StructType:
        """Return a declared schema with the message's own columns behind it; one that has them stays as it is.

        Raises:
            SourceError: a column has a name that the message's own columns have.
        """
        topics = topics_of(source)
        own = _own_columns(topics)
        if topics.value_format != "json" or {field.name for field in own} <= set(schema.names):
            return schema
        taken = [name for name in schema.names if name.lower().startswith(PREFIX)]
        if taken:
            raise SourceError(f"column {taken[0]!r}: names that begin with {PREFIX} are for what Kafka says of a message; leave it out")
        return T.StructType([*checked_schema(schema.fields).fields, *own])

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the messages behind ``since``, up to those that are there now.

        Raises:
            SourceError: the brokers do not answer, a topic is not there, or messages behind the position are gone.
            UsageError: an option is wrong.
        """
        topics = topics_of(source)
        position = None if since is None else position_from(since)
        there = topics_at_brokers(spark, topics, () if position is None else position.offsets)
        found = ranges(topics, there, position)
        messages = _messages(spark, topics, found)
        frame = _json_records(messages, topics, schema, source) if topics.value_format == "json" else _records(messages, topics)
        return Extract(Records(frame, notes=found.notes, locate=_located), topics.place, found.position.to_json())


def _own_columns(topics: Topics) -> list[T.StructField]:
    """Return the columns of a message that is not looked into, or those that stand beside its JSON value."""
    key = T.StructField(_KEY, _FORMATS[topics.key_format])
    place = [T.StructField(name, kind) for name, kind in _PLACE.items()]
    headers = T.StructField(_HEADERS, _HEADER_TYPE)
    if topics.value_format != "json":
        return [key, T.StructField(_VALUE, _FORMATS[topics.value_format]), *place, headers]
    fields = [key, *place, headers, T.StructField(_TOMBSTONE, T.BooleanType())]
    return [T.StructField(PREFIX + field.name, field.dataType) for field in fields]


def _messages(spark: SparkSession, topics: Topics, found: Ranges) -> DataFrame:
    """Return the messages in the ranges as ``_kafka_`` columns, key and value as bytes, with place and hash.

    The ends are written into the query, so it gives the same messages whenever it is run, or fails.
    """
    # Spark wants the very partitions it is told to read; a topic named to it might have one more by now.
    assigned = {name: sorted(numbers) for name, numbers in found.ends.items() if numbers}
    options = {f"{CLIENT}{name}": value for name, value in topics.client.items()} | dict(topics.reader)
    options |= {
        f"{CLIENT}bootstrap.servers": topics.brokers,
        "assign": json.dumps(assigned),
        "startingOffsets": json.dumps({name: found.starts[name] for name in assigned}),
        "endingOffsets": json.dumps({name: found.ends[name] for name in assigned}),
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


def _lines(messages: DataFrame) -> DataFrame:
    """Return the messages with their values as lines of JSON; what has no value reads as the empty object."""
    value = _own(_VALUE)
    # What stands around an object is taken off, as it is at the ends of a file's lines.
    text = F.trim(F.ltrim(value.cast("string"), F.lit(BOM)), F.lit(" \t\r\n"))
    return messages.withColumns({LINE: F.coalesce(text, F.lit("{}")), HAS_INVALID_BYTES: F.coalesce(~_is_text(value), F.lit(False))})


def _json_records(messages: DataFrame, topics: Topics, schema: T.StructType, source: Source) -> DataFrame:
    """Return the records of messages whose values are JSON."""
    own = _own_columns(topics)
    inside = T.StructType([field for field in schema.fields if field.name not in {part.name for part in own}])
    kept = [PREFIX + name for name in (_KEY, _VALUE, *_PLACE, _HEADERS, _TOMBSTONE)]
    records = records_of_lines(_lines(messages), inside, topics.json, source.timezone, kept)
    columns = [*inside.names, *[field.name for field in own]]
    return _judged(records.withColumn(RULES, F.concat(RULES, broken(_key_rules(topics)))), topics, columns)


def _records(messages: DataFrame, topics: Topics) -> DataFrame:
    """Return the records of messages that are taken as they are."""
    rules = [*_key_rules(topics), *(_text_rules(_VALUE) if topics.value_format == "text" else [])]
    added = {RULES: broken(rules), RESCUED: F.lit(None).cast("string"), IS_HEADER: F.lit(False)}
    judged = _judged(messages.withColumns(added), topics, [PREFIX + field.name for field in _own_columns(topics)])
    return judged.withColumnsRenamed({PREFIX + field.name: field.name for field in _own_columns(topics)})


def _judged(records: DataFrame, topics: Topics, columns: Sequence[str]) -> DataFrame:
    """Return the columns, keys and values in their formats, and the whole message where a rule is broken."""
    formats = {PREFIX + _KEY: topics.key_format, PREFIX + _VALUE: topics.value_format}
    shown = [F.col(f"`{name}`").cast("string").alias(name) if formats.get(name) == "text" else F.col(f"`{name}`") for name in columns]
    return records.select(
        *shown, SOURCE_FILE, ROW_HASH, RESCUED, _whole().alias(RAW), RULES, IS_HEADER
    )  # fmt: skip


def _whole() -> Column:
    """Return a message as JSON from which all of it can be had again."""
    parts = [_own(name).alias(name) for name in _PLACE]
    for name in (_KEY, _VALUE):
        bytes_ = _own(name)
        parts.append(F.when(_is_text(bytes_), bytes_.cast("string")).alias(name))
        parts.append(F.when(~_is_text(bytes_), F.base64(bytes_)).alias(f"{name}_base64"))
    headers = F.transform(
        _own(_HEADERS), lambda header: F.struct(header["key"].alias("key"), F.base64(header["value"]).alias("value_base64"))
    )
    return F.to_json(F.struct(*parts, headers.alias(_HEADERS)))


def _own(name: str) -> Column:
    return F.col(PREFIX + name)


def _is_text(value: Column) -> Column:
    return F.is_valid_utf8(value.cast("string"))


def _key_rules(topics: Topics) -> list[Column]:
    return _text_rules(_KEY) if topics.key_format == "text" else []


def _text_rules(name: str) -> list[Column]:
    return [rule(f"invalid_bytes:{name}", ~_is_text(_own(name))), rule(f"nul:{name}", has_nul(_own(name).cast("string")))]


def _located(refused: DataFrame) -> DataFrame:
    """Add ``_source_line``, the offset, to refused messages."""
    return refused.withColumn(SOURCE_LINE, F.get_json_object("raw", "$.offset").cast("bigint"))
