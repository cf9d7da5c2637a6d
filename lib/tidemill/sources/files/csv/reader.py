"""CSV files: each physical line is a record, good or refused; columns map by name, file by file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE, describe_renamings, list_table_columns
from tidemill.errors import SourceError
from tidemill.sources.files.csv import Csv
from tidemill.sources.files.csv.fields import Layout, is_odd, parsed_fields, with_rules
from tidemill.sources.files.csv.records import Group, completed_options, group_records, header_groups
from tidemill.sources.files.csv.wide import wide_records
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, ROWS, legible, locate
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import (
    IS_HEADER,
    IS_PLAIN,
    RAW,
    RULES,
    SOURCE_LINE,
    Difference,
    Quick,
    Records,
    is_placed,
    is_wide,
    parsed_once,
)
from tidemill.sources.schema.types import TEXT, Evidence, checked_schema
from tidemill.spec.models import Source

_EVIDENCE = "evidence"
_FORMATS = ("dateFormat", "timestampFormat", "timestampNTZFormat")
_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)


@dataclass
class Column:
    """What was seen of one column; ``by_format`` is the type of time that the formats in the options make of it, None without any."""

    texts: Evidence
    by_format: T.DataType | None = None

    def merge(self, other: Column) -> None:
        """Take in what other files have under the same name; where their formats tell different types, it is text."""
        self.texts.merge(other.texts)
        if self.by_format != other.by_format:
            self.by_format = T.StringType()

    @property
    def type(self) -> T.DataType:
        """The type that keeps every value."""
        kind = self.texts.type(T.IntegerType())
        return self.by_format if self.by_format is not None and isinstance(kind, (T.StringType, *_TIMES)) else kind


def columns_seen(text: DataFrame, options: Mapping[str, str], timezone: str) -> list[Column]:
    """Return what each field of records holds, which are the one STRING column of ``text``.

    Dates and instants are those that ISO 8601 writes, unless the options give formats of their own: then Spark tells what has them.
    """
    # The records are text already, whatever the encoding of their file.
    options = {name: value for name, value in options.items() if name != "encoding"}

    def fields(*, is_typed: bool) -> DataFrame:
        reader = text.sparkSession.read.options(**options).options(header="false", timeZone=timezone)
        return reader.options(inferSchema=str(is_typed).lower()).csv(text)

    texts = fields(is_typed=False)
    found = [Evidence() for _ in texts.columns]
    for row in texts.mapInArrow(_judged, f"{_EVIDENCE} STRING").collect():
        for evidence, other in zip(found, json.loads(row[_EVIDENCE]), strict=True):
            evidence.merge(Evidence.of(other))
    if not any(options.get(name) for name in _FORMATS):
        return [Column(evidence) for evidence in found]
    kinds = [part.dataType for part in fields(is_typed=True).schema.fields]
    return [Column(evidence, kind if isinstance(kind, _TIMES) else T.StringType()) for evidence, kind in zip(found, kinds, strict=True)]


def _judged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield what the batches of one task tell of each column, as JSON."""
    found: Sequence[Evidence] = ()
    for batch in batches:
        found = found or [Evidence() for _ in range(batch.num_columns)]
        for evidence, values in zip(found, batch.columns, strict=True):
            if TEXT not in evidence.kinds:
                for value in pc.unique(values).to_pylist():
                    evidence.add(value or "")
    yield pa.RecordBatch.from_pydict({_EVIDENCE: [json.dumps([evidence.to_list() for evidence in found])] if found else []})


class CsvFiles:
    r"""CSV files.

    Lines end with ``\n`` or ``\r\n``; a really empty line (and a comment, where ``comment`` is set) is no record and counted nowhere.
    Quoting is RFC 4180's unless ``escape`` says otherwise: a quote inside a quoted field is doubled. With ``header: true`` columns map
    by name, whatever their order: one that is missing is null, one that the schema lacks goes to ``_rescued``. Without a header columns
    map by position. With ``multiLine: true`` a quoted field may hold line ends.

    A record is refused for: ``field_count``, ``unclosed_quote``, ``cast:<column>``, ``not_finite:<column>`` (NaN or infinity; set
    ``nullValue: NaN`` where it means "unknown"), ``nul``, ``invalid_bytes``, ``repeated_header``, ``unreadable``.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return types that keep what stands in every record; in whichever files it is."""
        options = completed_options(source, Csv.option_names)
        groups, bad = header_groups(spark, files, options)
        if not groups:
            raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
        found: dict[str, Column] = {}
        for group in groups:
            for name, column in _seen(spark, group, group.completed(options), source.timezone):
                if name in found:
                    found[name].merge(column)
                else:
                    found[name] = column
        return checked_schema([T.StructField(name, column.type) for name, column in found.items()])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        options = completed_options(source, Csv.option_names)
        groups, bad = header_groups(spark, files, options)
        frames: list[DataFrame] = []
        quick: list[Quick] = []
        differences: list[Difference] = []
        for group in groups:
            own = group.completed(options)
            names, has_date_format = group.names or schema.names, bool(own.get("dateFormat"))
            layout = Layout.of(names, schema, is_inferred=source.schema_ is None, has_date_format=has_date_format)
            if not any(layout.columns):
                shown = ", ".join(group.names[:5])
                reason = f"its header ({shown}) names none of the columns; check `sep`, and whether the file has a header"
                bad |= {file.path: reason for file in group.files}
                continue
            differences += layout.differences(group.files)
            # Comments and separator lines would be counted as lines, and very many columns take a way of their own.
            has_quick = (
                not options.get("comment") and not group.separator_lines and not is_wide(layout.names) and not is_wide(layout.schema)
            )
            counted = Observation() if has_quick else None
            lines = group_records(spark, group, own, counted=counted)
            frames.append(_records(lines, layout, own, source.timezone))
            if counted is not None:
                headers = len(group.files) if group.lines else 0
                quick.append(_quick(lines, layout, own, source.timezone, counted, headers))

        def with_lines(refused: DataFrame) -> DataFrame:
            return locate(refused, lambda paths: _numbered(spark, groups, options, paths))

        notes = describe_renamings(list(dict.fromkeys(name for group in groups for name in group.names)))
        frame = reduce(DataFrame.unionByName, frames) if frames else None
        ways = tuple(quick) if len(quick) == len(frames) else ()
        return Records(frame, bad, notes, differences=tuple(differences), locate=with_lines if frames else None, quick=ways)


def _numbered(spark: SparkSession, groups: Sequence[Group], options: Mapping[str, str], paths: Sequence[str]) -> DataFrame:
    """Return file, hash, line and whether it is a header, of every record in the named files."""
    wanted, found = set(paths), []
    for group in groups:
        files = [file for file in group.files if file.path in wanted]
        if files:
            records = group_records(spark, group, group.completed(options), files=files, with_numbers=True)
            found.append(records.select(SOURCE_FILE, ROW_HASH, IS_HEADER, SOURCE_LINE))
    return reduce(DataFrame.unionByName, found)


def _seen(spark: SparkSession, group: Group, options: Mapping[str, str], timezone: str) -> list[tuple[str, Column]]:
    """Return names and contents of the columns of a group; one that is named and never there is empty."""
    text = group_records(spark, group, options).where(~F.col(IS_HEADER)).select(legible(F.col(LINE)).alias("value"))
    columns = columns_seen(text, options, timezone)
    names = list_table_columns(group.names or [""] * len(columns))
    columns += [Column(Evidence()) for _ in names[len(columns) :]]
    return list(zip(names, columns, strict=False))


def _quick(lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str, counted: Observation, headers: int) -> Quick:
    frame = parsed_once(parsed_fields(lines, layout, options, timezone)).select(
        *layout.selected(),
        layout.rescued().alias(RESCUED),
        *(LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH, IS_HEADER),
        (is_placed() & ~is_odd(layout, options) & ~F.col(IS_HEADER)).alias(IS_PLAIN),
    )
    return Quick(frame, lambda odd: _records(odd, layout, options, timezone), lambda: int(counted.get[ROWS]), headers)


def _records(lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str) -> DataFrame:
    if is_wide(layout.names) or is_wide(layout.schema):
        return wide_records(lines, layout, options, timezone)
    judged = with_rules(parsed_fields(lines, layout, options, timezone), layout, options)
    return judged.select(
        *layout.selected(),
        SOURCE_FILE,
        ROW_HASH,
        layout.rescued().alias(RESCUED),
        legible(F.col(LINE)).alias(RAW),
        RULES,
        IS_HEADER,
    )
