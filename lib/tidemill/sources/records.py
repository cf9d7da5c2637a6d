"""The DataFrame of records that each source kind returns, and the status of each record."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import BATCH_ID, INGESTED_AT, INTERNAL, RESCUED, ROW_HASH, SOURCE_FILE, is_added
from tidemill.columns import column
from tidemill.quoting import quote_name

if TYPE_CHECKING:
    from tidemill.sources.files.listing import SourceFile

IS_PLAIN = " is_plain"
_PLACE = " place"


@dataclass(frozen=True)
class FastPath:
    """A cheap way to read files in which most records are valid.

    Args:
        frame: one row per physical record, with the columns of the schema, ``_source_file``, ``_source_row_hash``, ``_rescued``,
            ``IS_PLAIN``, and the columns that ``check_closely`` needs. Where ``IS_PLAIN`` is true, the full checks would accept the record
            with the same values. It may be null.
        check_closely: applies the full checks to rows of ``frame`` and returns the columns of ``Records.frame``.
        count_rows: returns the number of rows that ``frame`` had when it was first computed.
        headers: the number of these rows that are certainly headers. Headers are never plain.
    """

    frame: DataFrame
    check_closely: Callable[[DataFrame], DataFrame]
    count_rows: Callable[[], int]
    headers: int = 0


def mark_plain(frame: DataFrame, is_plain: Column) -> DataFrame:
    """Add ``IS_PLAIN`` to parsed records so that Spark does not push filters on it into the parsing.

    Otherwise Spark would parse each record again for each column in the condition. It never pushes a condition below a nondeterministic
    column.
    """
    placed = frame.select("*", F.monotonically_increasing_id().alias(_PLACE))
    return placed.withColumn(IS_PLAIN, (F.col(_PLACE) >= 0) & is_plain)


WIDE = 1000
"""Frames with more columns than this get plans that Spark can optimize in reasonable time."""

_MAX_PARTITIONS = 1 << 16


def is_wide(columns: Sequence[str] | T.StructType) -> bool:
    """Return True for more than ``WIDE`` columns."""
    return len(columns) > WIDE


def disable_codegen_if_wide(spark: SparkSession, schema: T.StructType) -> None:
    """Let the session interpret expressions where the schema is wide: compiling code for each of them takes seconds."""
    if is_wide(schema):
        spark.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")


def isolate_selects(frame: DataFrame, columns: Sequence[str] | T.StructType) -> DataFrame:
    """Return a wide frame behind a node without effect, so that Spark does not try to merge two selects, which is quadratic in columns."""
    return frame.coalesce(_MAX_PARTITIONS) if is_wide(columns) else frame


def all_columns_except(names: Sequence[str], of: str | None = None) -> Column:
    """Return all columns except these; with ``of``, all fields of that struct."""
    return F.expr(f"{'' if of is None else of + '.'}* EXCEPT ({', '.join(map(quote_name, names))})")


SOURCE_LINE = "_source_line"
RAW = f"{INTERNAL}_raw"
RULES = f"{INTERNAL}_rules"
IS_HEADER = f"{INTERNAL}_is_header"
STATUS = f"{INTERNAL}_status"
WARNINGS = f"{INTERNAL}_warnings"

_MAX_FIELDS = 1000

VALID, REJECTED, HEADER = "valid", "rejected", "header"
"""The values of ``STATUS``."""

REPEATED_HEADER = "repeated_header"
_HASH_DIGITS = 16
_NEVER_ENCODED = re.compile(r"[A-Za-z0-9_/.=+-]*")


@dataclass(frozen=True)
class Difference:
    """A difference between the columns of files and the schema.

    ``kind`` is "new" (not in the schema), "missing" (not in the files) or "type". ``actual`` and ``expected`` are SQL types, None where
    there is no type or it is unknown.
    """

    kind: Literal["new", "missing", "type"]
    column: str
    files: tuple[str, ...]
    actual: str | None = None
    expected: str | None = None


@dataclass(frozen=True)
class Records:
    """The records of a set of files.

    Args:
        frame: one row per physical record, None where no file could be opened. Columns: those of the schema; ``_source_file``;
            ``_source_row_hash`` (hash of the raw text); ``_rescued`` (JSON of fields that are not in the schema, else null); ``RULES``
            (the rules that the record breaks, empty for a valid one); ``RAW`` (its raw text); ``IS_HEADER`` (true for lines equal to
            their file's header, including the header).
        bad_files: path → reason, for files that cannot be read.
        notes: remarks for the user.
        differences: where the files' columns differ from the schema.
        locate: adds ``_source_line`` (BIGINT, from 1) to rejected records. It reads the files again. None for formats without lines.
        fast_paths: cheaper ways to the same records, which together cover all of them; empty where there is none.
    """

    frame: DataFrame | None
    bad_files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    locate: Callable[[DataFrame], DataFrame] | None = None
    fast_paths: tuple[FastPath, ...] = ()


@dataclass(frozen=True)
class Extract:
    """The records of a source without files, from a position on.

    Args:
        records: as those of files; ``_source_file`` is the place that they came from, without credentials.
        place: the place as a whole, for the ledger.
        position: JSON that says where the next read begins; it is committed with the records.
        is_merged: records may come again (late or changed rows), so they are merged by the source's ``key``.
    """

    records: Records
    place: str
    position: str | None
    is_merged: bool = False


@dataclass(frozen=True)
class FileCount:
    """Counts of the physical records of one file; repeated headers are rejected, ``rescued`` are records with rescued fields."""

    records: int
    valid: int
    rejected: int
    repeated_headers: int
    rescued: int = 0


def add_status(frame: DataFrame, *names: str) -> DataFrame:
    """Return the named columns with ``RAW``, ``RULES`` and ``STATUS`` (valid, rejected, or header for a line equal to its file's header).

    ``RULES`` and ``RAW`` are null for valid records.
    """
    is_valid = F.size(RULES) == 0
    status = F.when(F.col(IS_HEADER), F.lit(HEADER)).when(is_valid, F.lit(VALID)).otherwise(F.lit(REJECTED))
    raw = F.when(~is_valid | F.col(IS_HEADER), F.col(RAW)).alias(RAW)
    rules = F.when(~is_valid, F.col(RULES)).alias(RULES)
    return isolate_selects(isolate_selects(frame, names).select(*_select_names(frame, names), raw, rules, status.alias(STATUS)), names)


def status_schema(schema: T.StructType, *names: str) -> T.StructType:
    """Return the schema of ``add_status`` for records of this schema."""
    texts = T.ArrayType(T.StringType())
    own = {INGESTED_AT: T.TimestampType(), BATCH_ID: T.LongType(), WARNINGS: texts, RULES: texts}
    names = (*names, RAW, RULES, STATUS)
    return T.StructType([schema[name] if name in schema.names else T.StructField(name, own.get(name, T.StringType())) for name in names])


def _select_names(frame: DataFrame, names: Sequence[str]) -> list[Column]:
    """Return the columns of these names; very many as one expression, where the frame has the same ones besides tidemill's own."""
    given = [name for name in frame.columns if not is_added(name)] if is_wide(names) else []
    if not given or given != [name for name in names if not is_added(name)]:
        return [column(name) for name in names]
    own = [name for name in frame.columns if is_added(name)]
    return [all_columns_except(own), *[column(name) for name in names if is_added(name)]]


RECORD_COLUMNS = (SOURCE_FILE, ROW_HASH, RESCUED, RAW, RULES, IS_HEADER)


def record_columns(
    raw: Column,
    *,
    rules: Column | None = None,
    rescued: Column | None = None,
    is_header: Column | None = None,
    source: Column | None = None,
    digest: Column | None = None,
) -> list[Column]:
    """Return the ``RECORD_COLUMNS``, which follow the columns of the schema in ``Records.frame``.

    By default rules, source and digest (the row hash) are columns of the frame, nothing is rescued, and no record is a header.
    """
    return [
        (F.col(SOURCE_FILE) if source is None else source).alias(SOURCE_FILE),
        (F.col(ROW_HASH) if digest is None else digest).alias(ROW_HASH),
        (F.lit(None).cast("string") if rescued is None else rescued).alias(RESCUED),
        raw.alias(RAW),
        (F.col(RULES) if rules is None else rules).alias(RULES),
        (F.lit(False) if is_header is None else is_header).alias(IS_HEADER),
    ]


def count_by_file(frame: DataFrame) -> dict[str, FileCount]:
    """Count the records with status of each file in one pass; files without records are left out."""
    status = F.col(STATUS)
    counts = frame.groupBy(SOURCE_FILE).agg(
        F.count(F.lit(1)).alias("lines"),
        F.count_if(status == HEADER).alias("headers"),
        F.count_if(status == VALID).alias("valid"),
        F.count_if(status == REJECTED).alias("rejected"),
        F.count_if((status == VALID) & F.col(RESCUED).isNotNull()).alias("rescued"),
    )
    files = {}
    for row in counts.collect():
        repeated = max(row["headers"] - 1, 0)
        records = row["lines"] - row["headers"] + repeated
        files[row[SOURCE_FILE]] = FileCount(records, row["valid"], row["rejected"] + repeated, repeated, row["rescued"])
    return files


def count_by_rule(frame: DataFrame) -> dict[str, int]:
    """Return the number of records that each rule rejects; a record may break several."""
    rules = frame.where(F.col(STATUS) == REJECTED).select(F.explode(RULES).alias("rule")).groupBy("rule").count()
    return {row["rule"]: row["count"] for row in rules.orderBy("rule").collect()}


def count_rescued_fields(frame: DataFrame) -> dict[str, int]:
    """Return the number of valid records in which each field is rescued."""
    valid = frame.where((F.col(STATUS) == VALID) & F.col(RESCUED).isNotNull())
    names = valid.select(F.explode(F.json_object_keys(RESCUED)).alias("name")).groupBy("name").count()
    return {row["name"]: row["count"] for row in names.orderBy(F.desc("count"), "name").limit(_MAX_FIELDS).collect()}


def select_rejected(frame: DataFrame, *, with_repeated_headers: bool) -> DataFrame:
    """Return the rejected records: ``raw``, ``rules``, file and hash.

    With ``with_repeated_headers``, all but one of the lines equal to their file's header are rejected too. They are identical, so it does
    not matter which one is taken for the header.
    """
    columns = [F.col(RAW).alias("raw"), F.col(RULES).alias("rules"), F.col(SOURCE_FILE), F.col(ROW_HASH)]
    rejected = frame.where(F.col(STATUS) == REJECTED).select(*columns)
    if not with_repeated_headers:
        return rejected
    place = F.row_number().over(Window.partitionBy(SOURCE_FILE).orderBy(ROW_HASH))
    headers = frame.where(F.col(STATUS) == HEADER).select(*columns).withColumn("_place", place).where("_place > 1")
    return rejected.unionByName(headers.withColumn("rules", F.array(F.lit(REPEATED_HEADER))).drop("_place"))


def source_file(files: Sequence[SourceFile] = ()) -> Column:
    """Return the path of a row's file as ``list_files`` writes it; Spark's metadata URL-encodes it and adds ``file:``.

    ``files`` are all files that are read, where they are known. Local paths without special characters need no decoding, and files that
    are read by a link get their own path.
    """
    path = _decode_path([file.readable for file in files])
    links = [F.lit(each) for file in files if file.link for each in (file.link, file.path)]
    return F.coalesce(F.try_element_at(F.create_map(*links), path), path) if links else path


def _decode_path(paths: Sequence[str]) -> Column:
    given = F.col("_metadata.file_path")
    if paths and all(path.startswith("/") and _NEVER_ENCODED.fullmatch(path) for path in paths):
        return F.when(F.startswith(given, F.lit("file:///")), F.substring(given, 8, 1 << 20)).otherwise(F.ltrim(given, F.lit("file:")))
    plain = (
        F.when(F.startswith(given, F.lit("file:///")), F.substring(given, 8, 1 << 20))
        .when(F.startswith(given, F.lit("file:/")), F.substring(given, 6, 1 << 20))
        .otherwise(given)
    )
    # url_decode would turn a plus into a space.
    return F.when(F.contains(plain, F.lit("%")), F.url_decode(F.replace(plain, F.lit("+"), F.lit("%2B")))).otherwise(plain)


def row_hash(text: Column) -> Column:
    """Return the hash of a record's raw text: 16 hexadecimal digits."""
    return format_hash(F.xxhash64(text))


def format_hash(number: Column) -> Column:
    """Return a hash as 16 hexadecimal digits; ``number`` is used three times, so it should be a materialized column."""
    digits = F.lower(F.hex(number))
    # Only one number in sixteen has fewer digits, and padding costs more than this condition.
    is_short = (number >= 0) & (number < 16 ** (_HASH_DIGITS - 1))
    return F.when(is_short, F.lpad(digits, _HASH_DIGITS, "0")).otherwise(digits)


def collect_rules(rules: Sequence[Column]) -> Column:
    """Return the array of the rules that are not null, in order."""
    return F.array_compact(F.array(*rules)) if rules else no_rules()


def no_rules() -> Column:
    """Return the empty array of rules, that of a valid record."""
    return F.array().cast("array<string>")


def is_not_finite(number: Column) -> Column:
    """Return true for NaN and the infinities, which would spoil every aggregate and model; false for null."""
    return F.coalesce(F.isnan(number) | (F.abs(number) == float("inf")), F.lit(False))


def rule(name: str, is_broken: Column) -> Column:
    """Return the rule's name where it is broken, else null."""
    return F.when(is_broken, F.lit(name))
