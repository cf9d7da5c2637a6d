"""The rows of `tidemill score --input` as they enter the pipeline: read as ingest reads them, each with why it cannot be scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlglot
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.column_names import BATCH_ID, INGESTED_AT, PROVENANCE, RESCUED, ROW_HASH, SOURCE_FILE, list_table_columns
from tidemill.columns import column
from tidemill.errors import SourceError, UsageError
from tidemill.model_registry import Manifest
from tidemill.quality.expectations.quarantine import annotate_records
from tidemill.quality.expectations.row_rules import as_json, to_columns
from tidemill.quality.expectations.rules import Rule
from tidemill.runtime.caching import cache_frame
from tidemill.sources.files.damaged import READ_FAILURES, find_empty_files, find_lossy_compression, format_reason
from tidemill.sources.files.listing import SourceFile, list_files
from tidemill.sources.records import IS_HEADER, RAW, REPEATED_HEADER, RULES, WARNINGS, Records, collect_rules, rule
from tidemill.sources.rows import CastResult, cast_value
from tidemill.sources.schema.types import NothingToInfer, match_names
from tidemill.spec.models import SOURCE_KINDS, Source
from tidemill.spec.models.source_kinds import FileKind
from tidemill.steps.expectations import check_rules
from tidemill.steps.ingest.history import FULL_BATCH, SourceHistory, resolve_schema
from tidemill.steps.ingest.staged_records import source_rules
from tidemill.steps.result import StepContext
from tidemill.steps.score.entry import Entry, is_of_family
from tidemill.steps.score.routes import CARRIER, DATASET

if TYPE_CHECKING:
    from tidemill.spec import Spec


def resolve_source(spec: Spec, entry: Entry, files: Sequence[SourceFile]) -> Source:
    """Return the source whose reader reads the files: the declared one, or one of the files' format."""
    sources = spec.pipeline.sources
    declared = None if entry.source is None else sources[entry.source]
    if declared is not None and entry.has_own_reader:
        return declared.model_copy(update={"options": _file_kind(spec, declared.format).options_of_input(files[0], declared.options)})
    assert entry.kind is not None  # find_entry refuses such files otherwise
    kind = _file_kind(spec, entry.kind)
    options_of_family = [source.options for source in sources.values() if is_of_family(source.format, kind, spec.folder)]
    return Source.model_validate(
        {
            "format": entry.kind,
            "path": entry.given,
            "options": kind.options_without_source(files[0], options_of_family),
            "timezone": "UTC" if declared is None else declared.timezone,
        }
    )


def _file_kind(spec: Spec, name: str) -> FileKind:
    kind = SOURCE_KINDS.get(name, spec.folder)
    if not isinstance(kind, FileKind):
        raise UsageError(f"a source of the format {name} reads no files")
    return kind


_DIGITS = 38
_DAY = r"^[+-]?\d{4,7}(-\d{1,2}(-\d{1,2}([T ]+00:00(:00(\.0+)?)?)?)?)?$"


@dataclass(frozen=True)
class InputRecords:
    """The records of an input: ``frame`` as in `Records`, and the columns that all files together have (``given``) and lack.

    ``new`` are those that the schema lacks; ``is_by_record`` says that a record may leave columns out.
    """

    frame: DataFrame
    given: tuple[str, ...]
    missing: tuple[str, ...]
    new: tuple[T.StructField, ...]
    is_by_record: bool


def resolve_input_columns(context: StepContext, entry: Entry, manifest: Manifest) -> T.StructType:
    """Return the expected columns: those of the table where rows enter; for the dataset, those of keys, lookups and features."""
    lake, pipeline = context.lake, context.spec.pipeline
    if entry.source is not None:
        table = f"bronze.{entry.source}"
        pinned = [part for part in lake.read(context.spark, table).schema.fields if part.name not in PROVENANCE]
        schema = resolve_schema(context, pipeline.sources[entry.source], SourceHistory(FULL_BATCH, (), T.StructType(pinned)))
        assert schema is not None  # there is a table
        return schema
    if entry.place != DATASET:
        return lake.read(context.spark, entry.place).schema
    declared = pipeline.dataset
    needed = [*declared.key, *([declared.event_time] if declared.event_time else []), *manifest.feature_columns]
    needed += [name for lookup in declared.lookups.values() for name in lookup.by]
    needed += [name for aggregate in declared.aggregate_blocks.values() for name in aggregate.by]
    known = lake.read(context.spark, pipeline.dataset_table).schema
    trained = {name: T.DataType.fromDDL(kind) for name, kind in manifest.feature_columns.items()}
    kinds = {part.name: part.dataType for part in known.fields} | trained
    return T.StructType([T.StructField(name, kinds[name]) for name in dict.fromkeys(needed) if name in kinds])


def read_input(context: StepContext, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> InputRecords:
    """Read the files by the source's reader; a record with a value that is not of the schema's type is rejected.

    Raises:
        SourceError: a file cannot be read, or has none of the columns.
        UsageError: an option of the source is wrong.
    """
    spark = context.spark
    reader = _file_kind(context.spec, source.format)
    bad = {} if reader.takes_empty_files else find_empty_files(files)
    _refuse(bad | (find_lossy_compression(files) if not reader.has_types else {}))
    by_record = reader.tells_columns_by_record
    own_types = _infer_columns(spark, reader, source, files) if by_record or reader.has_types else None
    types = own_types if own_types is not None and reader.has_types else _widen_read_types(reader, source, schema)
    records = reader.read(spark, source, files, types)
    _refuse(records.bad_files)
    if records.frame is None:
        raise SourceError("there is nothing to read")
    frame = records.frame if types == schema else _cast_records(records.frame, types, schema, source.timezone)
    if own_types is None:
        missing = _list_missing(records, len(files))
        unknown = list_table_columns([each.column for each in records.differences if each.kind == "new"])
        new = [T.StructField(name, T.StringType()) for name in dict.fromkeys(unknown)]
        given = [*(name for name in schema.names if name not in missing), *(part.name for part in new)]
        return InputRecords(frame, tuple(given), missing, tuple(new), by_record)
    names = list(own_types.names) if by_record else match_names(own_types.names, schema)
    missing = tuple(name for name in schema.names if name not in names)
    if len(missing) == len(schema.names):
        columns, expected = ", ".join(own_types.names[:5]), ", ".join(schema.names[:5])
        raise SourceError(f"none of its columns ({columns}) is one that is expected ({expected})")
    new = [part for part, name in zip(own_types.fields, names, strict=True) if name not in schema.names]
    return InputRecords(frame, tuple(own_types.names), missing, tuple(new), by_record)


def _list_missing(records: Records, files: int) -> tuple[str, ...]:
    """Return the columns that every file lacks."""
    files_by_column: dict[str, set[str]] = {}
    for each in records.differences:
        if each.kind == "missing":
            files_by_column.setdefault(each.column, set()).update(each.files)
    return tuple(name for name, paths in files_by_column.items() if len(paths) == files)


def _refuse(bad: Mapping[str, str]) -> None:
    if bad:
        raise SourceError("; ".join(f"{path}: {why}" for path, why in bad.items()))


def _infer_columns(spark: SparkSession, reader: FileKind, source: Source, files: Sequence[SourceFile]) -> T.StructType | None:
    """Return the columns of the files; None where no record has any."""
    try:
        return reader.infer(spark, source, files)
    except NothingToInfer:
        return None


def _widen_read_types(reader: FileKind, source: Source, schema: T.StructType) -> T.StructType:
    """Return the types for reading text: wider ones for values that Spark would round or truncate."""
    reads_dates_loosely = reader.reads_dates_loosely and all(name.lower() != "dateformat" for name in source.options)

    def whole(kind: T.DataType) -> T.DataType:
        if isinstance(kind, T.DecimalType) and reader.rounds_decimals:
            return T.DecimalType(_DIGITS, _DIGITS - kind.precision + kind.scale)
        return T.StringType() if isinstance(kind, T.DateType) and reads_dates_loosely else kind

    return T.StructType([T.StructField(part.name, whole(part.dataType)) for part in schema.fields])


def _cast_records(frame: DataFrame, given: T.StructType, schema: T.StructType, timezone: str) -> DataFrame:
    """Cast records of typed files to the schema; a value that does not fit rejects its record, not the file."""
    matched = dict(zip(match_names(given.names, schema), given.fields, strict=True))
    values = {
        part.name: _cast_value(column(matched[part.name].name), matched[part.name].dataType, part.dataType, timezone)
        for part in schema.fields
        if part.name in matched
    }
    misfits = collect_rules([rule(f"cast:{name}", value.is_misfit) for name, value in values.items()])
    return frame.select(
        *[(values[part.name].value if part.name in values else F.lit(None).cast(part.dataType)).alias(part.name) for part in schema.fields],
        *(SOURCE_FILE, ROW_HASH, RESCUED, RAW, IS_HEADER),
        F.concat(RULES, misfits).alias(RULES),
    )


def _cast_value(value: Column, source_type: T.DataType, target_type: T.DataType, timezone: str) -> CastResult:
    if not (isinstance(source_type, T.StringType) and isinstance(target_type, T.DateType)):
        return cast_value(value, source_type, target_type, timezone)
    # As Spark parses a date, which ignores what follows it.
    day = F.when(F.trim(value).rlike(_DAY), value.try_cast(target_type))
    return CastResult(day, value.isNotNull() & day.isNull())


WHY = "_tidemill_why"
RECORD = "_tidemill_record"
_SENTENCES = {
    "field_count": "the line cannot be parsed into its fields",
    "unclosed_quote": "a quote is not closed",
    "not_json": "it is not JSON",
    "not_an_object": "it is not a JSON object",
    "invalid_bytes": "it has bytes that are not valid in the encoding",
    "nul": "it has a NUL byte",
    REPEATED_HEADER: "it repeats the header",
}


@dataclass(frozen=True)
class InputRows:
    """The rows of the input.

    ``frame`` has the columns of the place where they enter, ``CARRIER`` BIGINT (which identifies the rows, in their order), ``WHY``
    STRING (null for a row that can go on) and ``RECORD`` STRING (the raw text of one that cannot). ``given`` are the columns that the
    input brings, ``missing`` those of the place that it lacks as a whole: they are null, but where rows enter as those of the dataset
    they are not in the frame. ``is_by_record`` says that a record may leave columns out (JSON), so that one that all leave out is null.
    """

    frame: DataFrame
    given: tuple[str, ...]
    missing: tuple[str, ...] = ()
    is_by_record: bool = False


@contextmanager
def read_input_rows(context: StepContext, entry: Entry, manifest: Manifest, unknown: Sequence[str]) -> Iterator[InputRows]:
    """Yield the rows of the input, cached for the duration of the block.

    ``unknown`` are optional columns, whose expectations are not checked where the input lacks them.

    Raises:
        SourceError: a file cannot be read, or has none of the columns.
        UsageError: an option of the source is wrong.
    """
    if entry.table is not None:
        rows = context.lake.read(context.spark, entry.table)
        with cache_frame(rows.withColumn(CARRIER, F.monotonically_increasing_id())) as numbered:
            none = F.lit(None).cast("string")
            yield InputRows(numbered.withColumns({WHY: none, RECORD: none}), tuple(rows.columns))
        return
    with ExitStack() as stack:
        files = list_files([entry.path], context.spark)
        source = resolve_source(context.spec, entry, files)
        schema = resolve_input_columns(context, entry, manifest)
        try:
            records = read_input(context, source, files, schema)
            if entry.place == DATASET and set(records.missing) & set(context.spec.pipeline.dataset.key):
                # Without a key only all of its columns identify a row.
                schema = T.StructType([*schema.fields, *records.new])
                records = read_input(context, source, files, schema)
            numbered = stack.enter_context(cache_frame(records.frame.withColumn(CARRIER, F.monotonically_increasing_id())))
            headers = numbered.agg(F.count_if(IS_HEADER)).collect()[0][0]
        except READ_FAILURES as error:
            if isinstance(error, SourceError):
                raise SourceError(f"--input {entry.given}: {error}") from error
            raise SourceError(f"--input {entry.given}: {format_reason(error)}") from error
        rules: list[Rule] = []
        if entry.source is not None:
            declared = context.spec.pipeline.sources[entry.source]
            files_by_column = set(unknown) & set(records.missing)
            rules = [each for each in source_rules(declared) if not files_by_column & set(list_rule_columns(each))]
            check_rules(entry.place, rules, numbered.select(*to_columns(schema.names)))
        rows = _drop_headers(numbered) if headers > len(files) else numbered.where(~F.col(IS_HEADER))
        frame = _annotate_records(rows, schema, rules)
        names = [name for name in schema.names if entry.place != DATASET or name not in records.missing]
        own = [*PROVENANCE] if entry.place.startswith("bronze.") else []
        yield InputRows(frame.select(*to_columns(names), *own, CARRIER, WHY, RECORD), records.given, records.missing, records.is_by_record)


def list_rule_columns(declared_rule: Rule) -> tuple[str, ...]:
    """Return the columns that a rule reads."""
    if declared_rule.condition is None:
        return declared_rule.columns
    try:
        return tuple(each.name for each in sqlglot.parse_one(declared_rule.condition, read="databricks").find_all(exp.Column))
    except SqlglotError:
        return ()


def _drop_headers(numbered: DataFrame) -> DataFrame:
    """Drop the header of each file; a line that repeats it is rejected."""
    place = F.row_number().over(Window.partitionBy(SOURCE_FILE).orderBy(CARRIER))
    headers = numbered.where(F.col(IS_HEADER)).withColumn("_place", place).where("_place > 1").drop("_place")
    repeated = headers.withColumn(RULES, F.array(F.lit(REPEATED_HEADER)))
    return numbered.where(~F.col(IS_HEADER)).unionByName(repeated)


def _annotate_records(numbered: DataFrame, schema: T.StructType, rules: Sequence[Rule]) -> DataFrame:
    """Add ``WHY`` and ``RECORD``, by the expectations of the source."""
    none = F.array().cast("array<string>")
    records = annotate_records(numbered, rules, F.size(RULES) == 0, RULES, WARNINGS) if rules else numbered.withColumn(WARNINGS, none)
    stopping = F.array(*[F.lit(each.name) for each in rules if each.action in ("fail", "drop")]).cast("array<string>")
    broken_rules = F.array_distinct(F.concat(RULES, F.coalesce(F.array_intersect(WARNINGS, stopping), none)))
    # One literal: planning one per column of a wide table would take Spark long.
    sentences = F.from_json(F.lit(json.dumps(_describe_rules(schema, rules))), "map<string,string>")
    reasons = F.array_join(F.transform(broken_rules, lambda each: F.coalesce(F.try_element_at(sentences, each), each)), "; ")
    is_refused = F.size(broken_rules) > 0
    return records.select(
        *to_columns(schema.names),
        SOURCE_FILE,
        ROW_HASH,
        F.lit(datetime.now(UTC)).alias(INGESTED_AT),
        F.lit(FULL_BATCH).cast("bigint").alias(BATCH_ID),
        RESCUED,
        CARRIER,
        F.when(is_refused, reasons).alias(WHY),
        F.when(is_refused, F.coalesce(RAW, as_json(schema.names))).alias(RECORD),
    )


def _describe_rules(schema: T.StructType, rules: Sequence[Rule]) -> dict[str, str]:
    """Return the reason for a record that breaks a rule, by the name of the rule."""
    cast = {f"cast:{part.name}": f"{part.name} is not a value of type {part.dataType.simpleString()}" for part in schema.fields}
    finite = {f"not_finite:{part.name}": f"{part.name} is not a finite number" for part in schema.fields}
    return _SENTENCES | cast | finite | {each.name: f"it breaks the expectation {each.name} ({each.described})" for each in rules}
