"""The rows of `tidemill score --input` as they enter the pipeline: read as ingest reads them, each with why it cannot be scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlglot
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.column_names import BATCH_ID, INGESTED_AT, PROVENANCE, RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.model_registry import Manifest
from tidemill.quality.expectations.quarantine import held
from tidemill.quality.expectations.row_rules import as_json, columns_of
from tidemill.quality.expectations.rules import Rule
from tidemill.runtime.caching import cache_frame
from tidemill.sources.files.damaged import READ_FAILURES, reason
from tidemill.sources.files.listing import list_files
from tidemill.sources.records import IS_HEADER, NOTED, RAW, REPEATED_HEADER, RULES
from tidemill.steps.ingest.history import FULL_BATCH
from tidemill.steps.ingest.staged_records import source_rules
from tidemill.steps.prepare.expectations import require_rules
from tidemill.steps.result import StepContext
from tidemill.steps.score.entry import Entry
from tidemill.steps.score.records import read_input, source_of_files, wanted_columns
from tidemill.steps.score.routes import CARRIER, DATASET

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
class Arrived:
    """The rows of the input.

    ``frame`` has the columns of the place where they enter, ``CARRIER`` BIGINT (which tells the rows apart, in their order), ``WHY``
    STRING (null for a row that can go on) and ``RECORD`` STRING (the raw text of one that cannot). ``given`` are the columns that the
    input brings, ``missing`` those of the place that it lacks as a whole: they are null, but where rows enter as those of the dataset
    they are not in the frame. ``is_by_record`` says that a record may leave columns out (JSON), so that one that all leave out is null.
    """

    frame: DataFrame
    given: tuple[str, ...]
    missing: tuple[str, ...] = ()
    is_by_record: bool = False


@contextmanager
def arrived_rows(context: StepContext, entry: Entry, manifest: Manifest, unknown: Sequence[str]) -> Iterator[Arrived]:
    """Give the rows of the input, cached for the length of the block.

    ``unknown`` are columns that need not be there and that no expectation is asked of where the input lacks them.

    Raises:
        SourceError: a file cannot be read, or has none of the columns.
        UsageError: an option of the source is wrong.
    """
    if entry.table is not None:
        rows = context.lake.read(context.spark, entry.table)
        with cache_frame(rows.withColumn(CARRIER, F.monotonically_increasing_id())) as numbered:
            none = F.lit(None).cast("string")
            yield Arrived(numbered.withColumns({WHY: none, RECORD: none}), tuple(rows.columns))
        return
    with ExitStack() as stack:
        files = list_files([entry.path], context.spark)
        source = source_of_files(context.spec, entry, files)
        schema = wanted_columns(context, entry, manifest)
        try:
            records = read_input(context, source, files, schema)
            if entry.place == DATASET and set(records.missing) & set(context.spec.pipeline.dataset.key):
                # Nothing but all of its columns tells which row it is.
                schema = T.StructType([*schema.fields, *records.new])
                records = read_input(context, source, files, schema)
            numbered = stack.enter_context(cache_frame(records.frame.withColumn(CARRIER, F.monotonically_increasing_id())))
            headers = numbered.agg(F.count_if(IS_HEADER)).collect()[0][0]
        except READ_FAILURES as error:
            if isinstance(error, SourceError):
                raise SourceError(f"--input {entry.given}: {error}") from error
            raise SourceError(f"--input {entry.given}: {reason(error)}") from error
        rules: list[Rule] = []
        if entry.source is not None:
            declared = context.spec.pipeline.sources[entry.source]
            lacking = set(unknown) & set(records.missing)
            rules = [each for each in source_rules(declared) if not lacking & set(columns_of_rule(each))]
            require_rules(entry.place, rules, numbered.select(*columns_of(schema.names)))
        rows = _without_headers(numbered) if headers > len(files) else numbered.where(~F.col(IS_HEADER))
        frame = _judged(rows, schema, rules)
        names = [name for name in schema.names if entry.place != DATASET or name not in records.missing]
        own = [*PROVENANCE] if entry.place.startswith("bronze.") else []
        yield Arrived(frame.select(*columns_of(names), *own, CARRIER, WHY, RECORD), records.given, records.missing, records.is_by_record)


def columns_of_rule(judged: Rule) -> tuple[str, ...]:
    """Return the columns that a rule looks at."""
    if judged.condition is None:
        return judged.columns
    try:
        return tuple(each.name for each in sqlglot.parse_one(judged.condition, read="databricks").find_all(exp.Column))
    except SqlglotError:
        return ()


def _without_headers(numbered: DataFrame) -> DataFrame:
    """Return the records without the header of each file; a line that repeats it is refused."""
    place = F.row_number().over(Window.partitionBy(SOURCE_FILE).orderBy(CARRIER))
    headers = numbered.where(F.col(IS_HEADER)).withColumn("_place", place).where("_place > 1").drop("_place")
    repeated = headers.withColumn(RULES, F.array(F.lit(REPEATED_HEADER)))
    return numbered.where(~F.col(IS_HEADER)).unionByName(repeated)


def _judged(numbered: DataFrame, schema: T.StructType, rules: Sequence[Rule]) -> DataFrame:
    """Return the records with ``WHY`` and ``RECORD``; they are held to the source's expectations."""
    none = F.array().cast("array<string>")
    records = held(numbered, rules, F.size(RULES) == 0, RULES, NOTED) if rules else numbered.withColumn(NOTED, none)
    stopping = F.array(*[F.lit(each.name) for each in rules if each.action in ("fail", "drop")]).cast("array<string>")
    told = F.array_distinct(F.concat(RULES, F.coalesce(F.array_intersect(NOTED, stopping), none)))
    # One literal: as many of them as a wide table has columns would take Spark long to plan.
    sentences = F.from_json(F.lit(json.dumps(_sentences(schema, rules))), "map<string,string>")
    words = F.array_join(F.transform(told, lambda each: F.coalesce(F.try_element_at(sentences, each), each)), "; ")
    is_refused = F.size(told) > 0
    return records.select(
        *columns_of(schema.names),
        SOURCE_FILE,
        ROW_HASH,
        F.lit(datetime.now(UTC)).alias(INGESTED_AT),
        F.lit(FULL_BATCH).cast("bigint").alias(BATCH_ID),
        RESCUED,
        CARRIER,
        F.when(is_refused, words).alias(WHY),
        F.when(is_refused, F.coalesce(RAW, as_json(schema.names))).alias(RECORD),
    )


def _sentences(schema: T.StructType, rules: Sequence[Rule]) -> dict[str, str]:
    """Return what to say of a record that breaks a rule, by the rule's name."""
    cast = {f"cast:{part.name}": f"{part.name} is not a value of type {part.dataType.simpleString()}" for part in schema.fields}
    finite = {f"not_finite:{part.name}": f"{part.name} is not a finite number" for part in schema.fields}
    return _SENTENCES | cast | finite | {each.name: f"it breaks the expectation {each.name} ({each.described})" for each in rules}
