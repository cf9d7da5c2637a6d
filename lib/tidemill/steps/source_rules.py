"""What a source's own expectations ask of its records: judged as these are staged, decided before the table takes them in."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import ExpectationRefused
from tidemill.lake.staging import Staged
from tidemill.quality.records import held, tally_records
from tidemill.quality.refusals import refusal, refused_rules, warnings
from tidemill.quality.rules import Rule, errors_count_as_violations, rules_of
from tidemill.quality.verdicts import BROKEN, as_json, columns_of, samples
from tidemill.sources.records import (
    BATCH_ID,
    FATE,
    INGESTED_AT,
    IS_HEADER,
    NOTED,
    PROVENANCE,
    RAW,
    RESCUED,
    ROW_HASH,
    RULES,
    judged_records,
)
from tidemill.spec.models import Source
from tidemill.steps.result import StepContext
from tidemill.steps.table_expectations import record_expectations, require_rules, what_stays

_BYTES_A_FILE = 64 * 2**20


def staged_records(
    stack: ExitStack, context: StepContext, source: Source, records: DataFrame, schema: T.StructType, number: int, size: int = 0
) -> Staged:
    """Write the records of batch ``number`` below their table, judged (as of ``judged_records``), for the length of the stack.

    Those that the reader finds whole are held to the source's expectations in the same pass. They come in no more partitions than they
    are worth, as each becomes a file; ``size`` are the bytes that they were read from.
    """
    if "." in source.format:
        records = _with_raw(records, schema)
    kept = [*schema.names, *PROVENANCE]
    rules = source_rules(source)
    if rules:
        require_rules(f"bronze.{context.item}", rules, records.select(*columns_of(schema.names)))
        records = held(records, rules, (F.size(RULES) == 0) & ~F.col(IS_HEADER), RULES, NOTED)
        stack.enter_context(errors_count_as_violations(context.spark))
        kept.append(NOTED)
    stamps = {INGESTED_AT: F.lit(datetime.now(UTC)), BATCH_ID: F.lit(number).cast("bigint")}
    judged = judged_records(records.withColumns(stamps), *kept).coalesce(most_partitions(context, size))
    return stack.enter_context(context.lake.staged(judged, f"bronze.{context.item}", FATE, varied=[ROW_HASH]))


def hold_to_expectations(context: StepContext, kept: Staged, schema: T.StructType, good: int) -> tuple[str, ...]:
    """Record what the source's expectations found in ops.expectations, and return a remark for each that is broken.

    ``good`` is the number of records that no rule refuses.

    Raises:
        ExpectationRefused: one of them fails the batch; nothing of it is in the tables.
    """
    rules = source_rules(context.spec.pipeline.sources[context.item])
    if not rules:
        return ()
    table = f"bronze.{context.item}"
    counts = tally_records(kept.frame, rules, good, RULES, NOTED)
    record_expectations(context, table, rules, counts)
    refused = refused_rules(rules, counts)
    if refused:
        stays = what_stays(context, table)
        rows = kept.frame.select(*columns_of(schema.names), F.coalesce(F.col(RULES), F.col(NOTED)).alias(BROKEN))
        raise ExpectationRefused("\n".join(refusal(table, rule, counts, samples(rows, rule, ()), stays) for rule in refused))
    return tuple(warnings(table, rules, counts))


def source_rules(source: Source) -> list[Rule]:
    """Return the rules for the records of a source."""
    return rules_of(source.expectations, ())


def most_partitions(context: StepContext, size: int) -> int:
    """Return how many partitions rows read from so many bytes are worth."""
    cores = int(context.spark.conf.get("spark.sql.shuffle.partitions") or 1)
    return max(cores, size // _BYTES_A_FILE)


def _with_raw(records: DataFrame, schema: T.StructType) -> DataFrame:
    """Return the records of a class of one's own with the raw text that it leaves out: a JSON object, with what was rescued."""
    whole = F.when(F.col(RESCUED).isNull(), as_json(schema.names)).otherwise(as_json([*schema.names, RESCUED]))
    return records.withColumn(RAW, F.coalesce(F.col(RAW), whole))
