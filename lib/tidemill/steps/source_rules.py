"""What a source's own expectations ask of its records: judged as these are staged, decided before the table takes them in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.errors import ExpectationRefused
from tidemill.lake.staging import Staged
from tidemill.quality.records import held, tally_records
from tidemill.quality.refusals import expectation_rows, refusal, refused_rules, warnings
from tidemill.quality.rules import Rule, errors_count_as_violations, rules_of
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
from tidemill.steps.table_expectations import require_rules

_BYTES_A_FILE = 64 * 2**20
_SAMPLES = 3


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
        require_rules(f"bronze.{context.item}", rules, records.select(*[column(name) for name in schema.names]))
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
    stamp = {"pipeline": context.pipeline, "run_id": context.run_id, "table": table}
    rows = [{**stamp, **row} for row in expectation_rows(rules, counts)]
    context.lake.ledger.put("ops.expectations", rows, where={"run_id": context.run_id, "table": table})
    version = context.lake.version(table)
    stays = f"{table} is not written; " if version is None else f"{table} stays at version {version}; "
    refused = refused_rules(rules, counts)
    if refused:
        raise ExpectationRefused("\n".join(refusal(table, rule, counts, _samples(kept.frame, rule, schema), stays) for rule in refused))
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
    known = [column(name) for name in schema.names]
    whole = F.when(F.col(RESCUED).isNull(), _json(known)).otherwise(_json([*known, F.col(RESCUED)]))
    return records.withColumn(RAW, F.coalesce(F.col(RAW), whole))


def _json(columns: Sequence[Column]) -> Column:
    return F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})


def _samples(frame: DataFrame, rule: Rule, schema: T.StructType) -> list[str]:
    """Return up to three records that break the rule, as JSON."""
    broken = frame.where(F.array_contains(F.coalesce(F.col(RULES), F.col(NOTED)), rule.name))
    names = list(rule.columns) or schema.names
    found = broken.select(_json([column(name) for name in names]).alias("sample"))
    return [row["sample"][:200] for row in found.limit(_SAMPLES).collect()]
