"""The records of an input, as the types that its place in the pipeline has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import PROVENANCE, RESCUED, ROW_HASH, SOURCE_FILE, table_columns
from tidemill.columns import column
from tidemill.errors import SourceError, UsageError
from tidemill.model_registry import Manifest
from tidemill.sources.files.damaged import empty_files, packed_unreadably
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import IS_HEADER, RAW, RULES, Records, broken, rule
from tidemill.sources.rows import Fitted, fitted
from tidemill.sources.schema.declared import NothingToInfer, matched_names
from tidemill.spec.models import SOURCE_KINDS, Source
from tidemill.spec.models.source_kinds import FileKind
from tidemill.steps.ingest.history import FULL_BATCH, Past
from tidemill.steps.ingest.schema import known_schema
from tidemill.steps.result import StepContext
from tidemill.steps.score.entry import Entry, is_of_family
from tidemill.steps.score.routes import DATASET

if TYPE_CHECKING:
    from tidemill.spec import Spec


def source_of_files(spec: Spec, entry: Entry, files: Sequence[SourceFile]) -> Source:
    """Return the source whose reader takes the files: the declared one, or one of the files' own kind."""
    sources = spec.pipeline.sources
    declared = None if entry.source is None else sources[entry.source]
    if declared is not None and entry.has_own_reader:
        return declared.model_copy(update={"options": _file_kind(spec, declared.format).options_of_input(files[0], declared.options)})
    assert entry.kind is not None  # the entry has been refused otherwise
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
    """What a reader gives for the files of an input: ``frame`` as of ``Records``, and which columns the files bring and lack as a whole.

    ``new`` are those that the schema lacks; ``is_by_record`` says that a record may leave columns out.
    """

    frame: DataFrame
    given: tuple[str, ...]
    missing: tuple[str, ...]
    new: tuple[T.StructField, ...]
    is_by_record: bool


def wanted_columns(context: StepContext, entry: Entry, manifest: Manifest) -> T.StructType:
    """Return the columns that records are to have: the pinned ones of their place; of the dataset, those that anything asks for."""
    lake, pipeline = context.lake, context.spec.pipeline
    if entry.source is not None:
        table = f"bronze.{entry.source}"
        pinned = [part for part in lake.read(context.spark, table).schema.fields if part.name not in PROVENANCE]
        schema = known_schema(context, pipeline.sources[entry.source], Past(FULL_BATCH, (), T.StructType(pinned)))
        assert schema is not None  # there is a table
        return schema
    if entry.place != DATASET:
        return lake.read(context.spark, entry.place).schema
    declared = pipeline.dataset
    asked = [*declared.key, *([declared.event_time] if declared.event_time else []), *manifest.feature_columns]
    asked += [name for lookup in declared.lookups.values() for name in lookup.by]
    asked += [name for aggregate in declared.aggregate_blocks.values() for name in aggregate.by]
    known = lake.read(context.spark, pipeline.dataset_table).schema
    trained = {name: T.DataType.fromDDL(kind) for name, kind in manifest.feature_columns.items()}
    kinds = {part.name: part.dataType for part in known.fields} | trained
    return T.StructType([T.StructField(name, kinds[name]) for name in dict.fromkeys(asked) if name in kinds])


def read_input(context: StepContext, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> InputRecords:
    """Read the files by the source's own reader; each value is one of the schema's type, or its record is refused.

    Raises:
        SourceError: a file cannot be read, or has none of the columns.
        UsageError: an option of the source is wrong.
    """
    spark = context.spark
    reader = _file_kind(context.spec, source.format)
    bad = {} if reader.takes_empty_files else empty_files(files)
    _refuse(bad | (packed_unreadably(files) if not reader.has_types else {}))
    by_record = reader.tells_columns_by_record
    own_types = _given_columns(spark, reader, source, files) if by_record or reader.has_types else None
    types = own_types if own_types is not None and reader.has_types else _types_read(reader, source, schema)
    records = reader.read(spark, source, files, types)
    _refuse(records.bad_files)
    if records.frame is None:
        raise SourceError("there is nothing to read")
    frame = records.frame if types == schema else _fitted(records.frame, types, schema, source.timezone)
    if own_types is None:
        missing = _lacking(records, len(files))
        unknown = table_columns([each.column for each in records.differences if each.kind == "new"])
        new = [T.StructField(name, T.StringType()) for name in dict.fromkeys(unknown)]
        given = [*(name for name in schema.names if name not in missing), *(part.name for part in new)]
        return InputRecords(frame, tuple(given), missing, tuple(new), by_record)
    names = list(own_types.names) if by_record else matched_names(own_types.names, schema)
    missing = tuple(name for name in schema.names if name not in names)
    if len(missing) == len(schema.names):
        found, expected = ", ".join(own_types.names[:5]), ", ".join(schema.names[:5])
        raise SourceError(f"none of its columns ({found}) is one that is expected ({expected})")
    new = [part for part, name in zip(own_types.fields, names, strict=True) if name not in schema.names]
    return InputRecords(frame, tuple(own_types.names), missing, tuple(new), by_record)


def _lacking(records: Records, files: int) -> tuple[str, ...]:
    """Return the columns that every file lacks."""
    lacking: dict[str, set[str]] = {}
    for each in records.differences:
        if each.kind == "missing":
            lacking.setdefault(each.column, set()).update(each.files)
    return tuple(name for name, paths in lacking.items() if len(paths) == files)


def _refuse(bad: Mapping[str, str]) -> None:
    if bad:
        raise SourceError("; ".join(f"{path}: {why}" for path, why in bad.items()))


def _given_columns(spark: SparkSession, reader: FileKind, source: Source, files: Sequence[SourceFile]) -> T.StructType | None:
    """Return the columns that the files bring; None where no record tells of one."""
    try:
        return reader.infer(spark, source, files)
    except NothingToInfer:
        return None


def _types_read(reader: FileKind, source: Source, schema: T.StructType) -> T.StructType:
    """Return the types as which records of text are read: of values that Spark would round or cut, ones that hold the whole of them."""
    reads_dates_loosely = reader.reads_dates_loosely and all(name.lower() != "dateformat" for name in source.options)

    def whole(kind: T.DataType) -> T.DataType:
        if isinstance(kind, T.DecimalType) and reader.rounds_decimals:
            return T.DecimalType(_DIGITS, _DIGITS - kind.precision + kind.scale)
        return T.StringType() if isinstance(kind, T.DateType) and reads_dates_loosely else kind

    return T.StructType([T.StructField(part.name, whole(part.dataType)) for part in schema.fields])


def _fitted(frame: DataFrame, given: T.StructType, schema: T.StructType, timezone: str) -> DataFrame:
    """Return records that bring their own types with those of the schema; one whose value does not fit is refused, not its file."""
    matched = dict(zip(matched_names(given.names, schema), given.fields, strict=True))
    values = {
        part.name: _fitted_value(column(matched[part.name].name), matched[part.name].dataType, part.dataType, timezone)
        for part in schema.fields
        if part.name in matched
    }
    misfits = broken([rule(f"cast:{name}", value.is_misfit) for name, value in values.items()])
    return frame.select(
        *[(values[part.name].value if part.name in values else F.lit(None).cast(part.dataType)).alias(part.name) for part in schema.fields],
        *(SOURCE_FILE, ROW_HASH, RESCUED, RAW, IS_HEADER),
        F.concat(RULES, misfits).alias(RULES),
    )


def _fitted_value(value: Column, found: T.DataType, wanted: T.DataType, timezone: str) -> Fitted:
    if not (isinstance(found, T.StringType) and isinstance(wanted, T.DateType)):
        return fitted(value, found, wanted, timezone)
    # As Spark reads a day, which takes what stands behind it for nothing.
    day = F.when(F.trim(value).rlike(_DAY), value.try_cast(wanted))
    return Fitted(day, value.isNotNull() & day.isNull())
