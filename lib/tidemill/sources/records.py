"""The frame of records that each kind of source gives: its columns, and what they mean."""

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
class Quick:
    """A cheap way to the records of some files, most of which are good.

    ``frame`` has one row per physical record: the columns of the schema, ``_source_file``, ``_source_row_hash``, ``_rescued``,
    ``IS_PLAIN``, and what ``closely`` takes. Where ``IS_PLAIN`` is true a closer look would find the record good, with these very values;
    it may be null. ``closely`` makes of rows of ``frame`` what ``Records.frame`` has for them. ``rows`` tells how many rows ``frame`` had
    when it was first read; so many ``headers`` are among them for sure, which are never plain.
    """

    frame: DataFrame
    closely: Callable[[DataFrame], DataFrame]
    rows: Callable[[], int]
    headers: int = 0


def parsed_once(frame: DataFrame) -> DataFrame:
    """Return the frame so that no condition on its columns is asked before they are there.

    Spark would ask it as early as it can, and parse the record once more for each column that the condition names. It does not move
    anything to before a column that depends on a row's place; ``is_placed`` has to be part of the condition.
    """
    return frame.select("*", F.monotonically_increasing_id().alias(_PLACE))


def is_placed() -> Column:
    """Return true for every row of a frame that is ``parsed_once``."""
    return F.col(_PLACE) >= 0


WIDE = 1000
"""From how many columns on care is taken."""

_ANY_NUMBER = 1 << 16


def is_wide(columns: Sequence[str] | T.StructType) -> bool:
    """Return True where there are so many columns that Spark is to be spared some work on them."""
    return len(columns) > WIDE


def spared(spark: SparkSession, schema: T.StructType) -> None:
    """Let the session interpret its expressions where the schema is wide: code for each of them takes seconds to compile."""
    if is_wide(schema):
        spark.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")


def apart(frame: DataFrame, columns: Sequence[str] | T.StructType) -> DataFrame:
    """Return a wide frame behind a node that does nothing, any other as it is.

    Spark asks of each select above another whether the two can be one, for each column by a look at all of them.
    """
    return frame.coalesce(_ANY_NUMBER) if is_wide(columns) else frame


def all_but(names: Sequence[str], of: str | None = None) -> Column:
    """Return every column but these; with ``of`` every field of that struct."""
    return F.expr(f"{'' if of is None else of + '.'}* EXCEPT ({', '.join(map(quote_name, names))})")


SOURCE_LINE = "_source_line"
RAW = f"{INTERNAL}_raw"
RULES = f"{INTERNAL}_rules"
IS_HEADER = f"{INTERNAL}_is_header"
FATE = f"{INTERNAL}_fate"
NOTED = f"{INTERNAL}_noted"

_FIELDS = 1000

GOOD, REFUSED, HEADER = "good", "refused", "header"
"""The fates of a record."""

REPEATED_HEADER = "repeated_header"
_HASH_DIGITS = 16
_NEVER_ENCODED = re.compile(r"[A-Za-z0-9_/.=+-]*")


@dataclass(frozen=True)
class Difference:
    """Where files do not have the columns of the schema.

    ``kind`` is "new" (the schema lacks the column), "missing" (the files lack it) or "type"; ``found`` and ``expected`` are types as
    SQL writes them, None where there is none or it is not known.
    """

    kind: Literal["new", "missing", "type"]
    column: str
    files: tuple[str, ...]
    found: str | None = None
    expected: str | None = None


@dataclass(frozen=True)
class Records:
    """What a set of files holds.

    ``frame`` has one row per physical record: the columns of the schema, ``_source_file``, ``_source_row_hash`` (hash of the raw
    text), ``_rescued`` (JSON of the named fields that the schema lacks, else null), ``RULES`` (the rules the record breaks; empty:
    it is good), ``RAW`` (its raw text, or what stands for it as text) and ``IS_HEADER`` (true for a line that repeats its
    file's header word for word, the header itself among them). It is None where no file could be opened.
    ``bad_files`` maps the path of a file that cannot be read to the reason. ``differences`` tell where the files' columns are not the
    schema's. ``locate`` adds ``_source_line`` (BIGINT, from 1) to refused records; it reads the files once more, so it is called only
    where there are some; None for formats without lines. ``quick`` are ways to the same records that spare the plain ones the closer look,
    all of them together, none where there is no such way.
    """

    frame: DataFrame | None
    bad_files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    locate: Callable[[DataFrame], DataFrame] | None = None
    quick: tuple[Quick, ...] = ()


@dataclass(frozen=True)
class Extract:
    """What a source without files holds behind a position.

    ``records`` are as those of files; their ``_source_file`` is the place they came from, without a password in it. ``place`` is that
    place as a whole, for the ledger. ``position`` is JSON that says where the next read begins; it is written with the commit of these
    records. ``is_merged`` says that records may come again (late ones, changed ones), so that they are merged by the source's ``key``.
    """

    records: Records
    place: str
    position: str | None
    is_merged: bool = False


@dataclass(frozen=True)
class FileCount:
    """The physical records of one file: good ones, refused ones (those that repeat the header among them), ones with rescued fields."""

    records: int
    good: int
    refused: int
    repeated_headers: int
    rescued: int = 0


def judged_records(frame: DataFrame, *kept: str) -> DataFrame:
    """Return the records with ``FATE``: good, refused, or header (a line that repeats its file's header); the other marks are gone.

    ``RULES`` and ``RAW`` are null for a good one. ``kept`` are the columns beside, the schema's and those that ingest adds.
    """
    is_good = F.size(RULES) == 0
    fate = F.when(F.col(IS_HEADER), F.lit(HEADER)).when(is_good, F.lit(GOOD)).otherwise(F.lit(REFUSED))
    is_told = ~is_good | F.col(IS_HEADER)
    told = [F.when(is_told, F.col(RAW)).alias(RAW), F.when(~is_good, F.col(RULES)).alias(RULES)]
    return apart(apart(frame, kept).select(*_chosen(frame, kept), *told, fate.alias(FATE)), kept)


def judged_schema(schema: T.StructType, *kept: str) -> T.StructType:
    """Return the columns of ``judged_records`` for records of this schema."""
    texts = T.ArrayType(T.StringType())
    own = {INGESTED_AT: T.TimestampType(), BATCH_ID: T.LongType(), NOTED: texts, RULES: texts}
    names = (*kept, RAW, RULES, FATE)
    return T.StructType([schema[name] if name in schema.names else T.StructField(name, own.get(name, T.StringType())) for name in names])


def _chosen(frame: DataFrame, kept: Sequence[str]) -> list[Column]:
    """Return the columns of these names; very many in one, where they are the frame's but for tidemill's own."""
    given = [name for name in frame.columns if not is_added(name)] if is_wide(kept) else []
    if not given or given != [name for name in kept if not is_added(name)]:
        return [column(name) for name in kept]
    own = [name for name in frame.columns if is_added(name)]
    return [all_but(own), *[column(name) for name in kept if is_added(name)]]


def survey(frame: DataFrame) -> dict[str, FileCount]:
    """Count the judged records of each file in one pass; a file without a record is not in it."""
    fate = F.col(FATE)
    counts = frame.groupBy(SOURCE_FILE).agg(
        F.count(F.lit(1)).alias("lines"),
        F.count_if(fate == HEADER).alias("headers"),
        F.count_if(fate == GOOD).alias("good"),
        F.count_if(fate == REFUSED).alias("refused"),
        F.count_if((fate == GOOD) & F.col(RESCUED).isNotNull()).alias("rescued"),
    )
    found = {}
    for row in counts.collect():
        repeated = max(row["headers"] - 1, 0)
        records = row["lines"] - row["headers"] + repeated
        found[row[SOURCE_FILE]] = FileCount(records, row["good"], row["refused"] + repeated, repeated, row["rescued"])
    return found


def refused_by_rule(frame: DataFrame) -> dict[str, int]:
    """Return how many records each rule refuses; a record may break several."""
    rules = frame.where(F.col(FATE) == REFUSED).select(F.explode(RULES).alias("rule")).groupBy("rule").count()
    return {row["rule"]: row["count"] for row in rules.orderBy("rule").collect()}


def rescued_fields(frame: DataFrame) -> dict[str, int]:
    """Return in how many good records each field is rescued."""
    good = frame.where((F.col(FATE) == GOOD) & F.col(RESCUED).isNotNull())
    names = good.select(F.explode(F.json_object_keys(RESCUED)).alias("name")).groupBy("name").count()
    return {row["name"]: row["count"] for row in names.orderBy(F.desc("count"), "name").limit(_FIELDS).collect()}


def refused_records(frame: DataFrame, *, with_repeated_headers: bool) -> DataFrame:
    """Return the refused records: ``raw``, ``rules``, file and hash.

    ``with_repeated_headers`` says that the survey met lines that repeat their file's header: all but one of each file are refused
    then. They are the same to the letter, so which of them is the header does not matter.
    """
    shape = [F.col(RAW).alias("raw"), F.col(RULES).alias("rules"), F.col(SOURCE_FILE), F.col(ROW_HASH)]
    refused = frame.where(F.col(FATE) == REFUSED).select(*shape)
    if not with_repeated_headers:
        return refused
    place = F.row_number().over(Window.partitionBy(SOURCE_FILE).orderBy(ROW_HASH))
    headers = frame.where(F.col(FATE) == HEADER).select(*shape).withColumn("_place", place).where("_place > 1")
    return refused.unionByName(headers.withColumn("rules", F.array(F.lit(REPEATED_HEADER))).drop("_place"))


def source_file(files: Sequence[SourceFile] = ()) -> Column:
    """Return the path of a row's file as ``list_files`` writes it: Spark's metadata URL-encodes it and puts ``file:`` before it.

    ``files`` are all that are read, where they are known: local ones without odd characters need no decoding, and one that is read by a
    link has its own path.
    """
    read_as = _path_read([file.readable for file in files])
    links = [F.lit(path) for file in files if file.link for path in (file.link, file.path)]
    return F.coalesce(F.try_element_at(F.create_map(*links), read_as), read_as) if links else read_as


def _path_read(paths: Sequence[str]) -> Column:
    given = F.col("_metadata.file_path")
    if paths and all(path.startswith("/") and _NEVER_ENCODED.fullmatch(path) for path in paths):
        return F.when(F.startswith(given, F.lit("file:///")), F.substring(given, 8, 1 << 20)).otherwise(F.ltrim(given, F.lit("file:")))
    plain = (
        F.when(F.startswith(given, F.lit("file:///")), F.substring(given, 8, 1 << 20))
        .when(F.startswith(given, F.lit("file:/")), F.substring(given, 6, 1 << 20))
        .otherwise(given)
    )
    # url_decode takes a plus for a space, which a path does not.
    return F.when(F.contains(plain, F.lit("%")), F.url_decode(F.replace(plain, F.lit("+"), F.lit("%2B")))).otherwise(plain)


def row_hash(text: Column) -> Column:
    """Return the hash of a record's raw text: 16 hexadecimal digits."""
    return hash_digits(F.xxhash64(text))


def hash_digits(number: Column) -> Column:
    """Return a hash as its 16 hexadecimal digits; ``number`` is looked at three times, so it had better be a column of its own."""
    digits = F.lower(F.hex(number))
    # Only one number in sixteen has fewer digits, and padding costs more than asking.
    is_short = (number >= 0) & (number < 16 ** (_HASH_DIGITS - 1))
    return F.when(is_short, F.lpad(digits, _HASH_DIGITS, "0")).otherwise(digits)


def broken(rules: Sequence[Column]) -> Column:
    """Return the array of the rules that are not null, in order."""
    return F.array_compact(F.array(*rules)) if rules else no_rules()


def no_rules() -> Column:
    """Return the empty array of rules: the record is good."""
    return F.array().cast("array<string>")


def is_not_finite(number: Column) -> Column:
    """Return true for NaN and the infinities, which no aggregate or model survives; false for null."""
    return F.coalesce(F.isnan(number) | (F.abs(number) == float("inf")), F.lit(False))


def rule(name: str, is_broken: Column) -> Column:
    """Return the rule's name where it is broken, else null."""
    return F.when(is_broken, F.lit(name))
