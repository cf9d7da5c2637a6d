"""Read CSV files: each physical line is a record, and columns map by name, file by file."""

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
from tidemill.sources.files.csv.fields import Layout, add_rules, is_suspect, parse_fields
from tidemill.sources.files.csv.records import HeaderGroup, complete_options, group_by_header, read_group
from tidemill.sources.files.csv.wide import parse_wide_records
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, ROWS, make_locator, replace_invalid_bytes
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import (
    IS_HEADER,
    IS_PLAIN,
    Difference,
    FastPath,
    Records,
    is_wide,
    mark_plain,
    record_columns,
)
from tidemill.sources.schema.types import TEXT, TIME_TYPES, Evidence, validate_schema
from tidemill.spec.models import Source

_EVIDENCE = "evidence"
_FORMATS = ("dateFormat", "timestampFormat", "timestampNTZFormat")


@dataclass
class ColumnEvidence:
    """The evidence about a column's type; ``by_format`` is the type that Spark infers by the formats in the options, None without any."""

    texts: Evidence
    by_format: T.DataType | None = None

    def merge(self, other: ColumnEvidence) -> None:
        """Add the evidence of other files; if their formats give different types, the column is text."""
        self.texts.merge(other.texts)
        if self.by_format != other.by_format:
            self.by_format = T.StringType()

    @property
    def type(self) -> T.DataType:
        """The type that keeps every value."""
        kind = self.texts.type(T.IntegerType())
        return self.by_format if self.by_format is not None and isinstance(kind, (T.StringType, *TIME_TYPES)) else kind


def collect_evidence(text: DataFrame, options: Mapping[str, str], timezone: str) -> list[ColumnEvidence]:
    """Return the evidence about each field of the records in ``text`` (one STRING column).

    Dates and timestamps are those of ISO 8601, unless the options have formats of their own, which Spark then applies.
    """
    # The lines are decoded already.
    options = {name: value for name, value in options.items() if name != "encoding"}

    def fields(*, is_typed: bool) -> DataFrame:
        reader = text.sparkSession.read.options(**options).options(header="false", timeZone=timezone)
        return reader.options(inferSchema=str(is_typed).lower()).csv(text)

    texts = fields(is_typed=False)
    evidences = [Evidence() for _ in texts.columns]
    for row in texts.mapInArrow(_summarize_batches, f"{_EVIDENCE} STRING").collect():
        for evidence, other in zip(evidences, json.loads(row[_EVIDENCE]), strict=True):
            evidence.merge(Evidence.of(other))
    if not any(options.get(name) for name in _FORMATS):
        return [ColumnEvidence(evidence) for evidence in evidences]
    kinds = [part.dataType for part in fields(is_typed=True).schema.fields]
    return [
        ColumnEvidence(evidence, kind if isinstance(kind, TIME_TYPES) else T.StringType())
        for evidence, kind in zip(evidences, kinds, strict=True)
    ]


def _summarize_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the evidence about each column, one JSON row per Spark task."""
    evidences: Sequence[Evidence] = ()
    for batch in batches:
        evidences = evidences or [Evidence() for _ in range(batch.num_columns)]
        for evidence, values in zip(evidences, batch.columns, strict=True):
            if TEXT not in evidence.kinds:
                for value in pc.unique(values).to_pylist():
                    evidence.add(value or "")
    yield pa.RecordBatch.from_pydict({_EVIDENCE: [json.dumps([evidence.to_list() for evidence in evidences])] if evidences else []})


class CsvFiles:
    r"""CSV files.

    Lines end with ``\n`` or ``\r\n``. Empty lines, and comments if ``comment`` is set, are no records. Quoting follows RFC 4180 (a quote
    inside a quoted field is doubled) unless ``escape`` is set. With ``header: true`` columns map by name in any order: missing columns
    are null, columns that are not in the schema go to ``_rescued``. Without a header columns map by position. With ``multiLine: true``
    quoted fields may contain line ends.

    Rules that reject a record: ``field_count``, ``unclosed_quote``, ``cast:<column>``, ``not_finite:<column>`` (NaN or infinity; set
    ``nullValue: NaN`` if it means "unknown"), ``nul``, ``invalid_bytes``, ``repeated_header``, ``unreadable``.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Infer types that keep the values of every record of all files."""
        options = complete_options(source, Csv.option_names)
        groups, bad = group_by_header(spark, files, options)
        if not groups:
            raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
        columns: dict[str, ColumnEvidence] = {}
        for group in groups:
            for name, column in _collect_group_evidence(spark, group, group.complete_options(options), source.timezone):
                if name in columns:
                    columns[name].merge(column)
                else:
                    columns[name] = column
        return validate_schema([T.StructField(name, column.type) for name, column in columns.items()])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files, see ``Records``."""
        options = complete_options(source, Csv.option_names)
        groups, bad = group_by_header(spark, files, options)
        frames: list[DataFrame] = []
        fast_paths: list[FastPath] = []
        differences: list[Difference] = []
        for group in groups:
            own = group.complete_options(options)
            names, has_date_format = group.names or schema.names, bool(own.get("dateFormat"))
            layout = Layout.of(names, schema, is_inferred=source.schema_ is None, has_date_format=has_date_format)
            if not any(layout.columns):
                shown = ", ".join(group.names[:5])
                reason = f"its header ({shown}) names none of the columns; check `sep`, and whether the file has a header"
                bad |= {file.path: reason for file in group.files}
                continue
            differences += layout.differences(group.files)
            # The fast path would count comments and separator lines as records, and is not built for wide files.
            has_fast_path = (
                not options.get("comment") and not group.separator_lines and not is_wide(layout.names) and not is_wide(layout.schema)
            )
            counted = Observation() if has_fast_path else None
            lines = read_group(spark, group, own, counted=counted)
            frames.append(_records(lines, layout, own, source.timezone))
            if counted is not None:
                headers = len(group.files) if group.lines else 0
                fast_paths.append(_build_fast_path(lines, layout, own, source.timezone, counted, headers))

        def number_records(wanted: list[SourceFile]) -> DataFrame:
            parts = [
                read_group(spark, group, group.complete_options(options), files=chosen, with_numbers=True)
                for group in groups
                if (chosen := [file for file in group.files if file in wanted])
            ]
            return reduce(DataFrame.unionByName, parts)

        notes = describe_renamings(list(dict.fromkeys(name for group in groups for name in group.names)))
        frame = reduce(DataFrame.unionByName, frames) if frames else None
        all_fast_paths = tuple(fast_paths) if len(fast_paths) == len(frames) else ()
        return Records(
            frame,
            bad,
            notes,
            differences=tuple(differences),
            locate=make_locator(files, number_records) if frames else None,
            fast_paths=all_fast_paths,
        )


def _collect_group_evidence(
    spark: SparkSession, group: HeaderGroup, options: Mapping[str, str], timezone: str
) -> list[tuple[str, ColumnEvidence]]:
    """Return the names of a group's columns with their evidence, which is empty for columns without any field."""
    text = read_group(spark, group, options).where(~F.col(IS_HEADER)).select(replace_invalid_bytes(F.col(LINE)).alias("value"))
    columns = collect_evidence(text, options, timezone)
    names = list_table_columns(group.names or [""] * len(columns))
    columns += [ColumnEvidence(Evidence()) for _ in names[len(columns) :]]
    return list(zip(names, columns, strict=False))


def _build_fast_path(
    lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str, counted: Observation, headers: int
) -> FastPath:
    parsed = parse_fields(lines, layout, options, timezone)
    frame = mark_plain(parsed, ~is_suspect(layout, options) & ~F.col(IS_HEADER)).select(
        *layout.select_schema(),
        layout.rescue_fields().alias(RESCUED),
        *(LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH, IS_HEADER, IS_PLAIN),
    )
    return FastPath(frame, lambda suspects: _records(suspects, layout, options, timezone), lambda: int(counted.get[ROWS]), headers)


def _records(lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str) -> DataFrame:
    if is_wide(layout.names) or is_wide(layout.schema):
        return parse_wide_records(lines, layout, options, timezone)
    checked = add_rules(parse_fields(lines, layout, options, timezone), layout, options)
    raw = replace_invalid_bytes(F.col(LINE))
    added = record_columns(raw, rescued=layout.rescue_fields(), is_header=F.col(IS_HEADER))
    return checked.select(*layout.select_schema(), *added)
