"""Records of a source written once, judged, below the table that they are for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import BATCH_ID, INGESTED_AT, PROVENANCE, RESCUED, ROW_HASH
from tidemill.columns import column
from tidemill.errors import ExpectationRefused
from tidemill.lake.staging import Stage, StagedRows
from tidemill.quality.expectations.quarantine import (
    annotate_records,
    count_record_violations,
    describe_refusal,
    describe_violations,
    find_refusing_rules,
    rules_hold,
)
from tidemill.quality.expectations.row_rules import BROKEN, as_json, sample_violations, to_columns
from tidemill.quality.expectations.rules import Rule, build_rules, errors_count_as_violations
from tidemill.runtime.session import task_slots
from tidemill.sources.records import FATE, GOOD, IS_HEADER, IS_PLAIN, NOTED, RAW, RULES, Quick, Records, judged_records, judged_schema
from tidemill.spec.models import SOURCE_KINDS, Source
from tidemill.steps.expectations import record_expectations, require_rules, what_stays
from tidemill.steps.result import StepContext

_BYTES_A_FILE = 64 * 2**20


def hold_to_expectations(context: StepContext, kept: StagedRows, schema: T.StructType, good: int) -> tuple[str, ...]:
    """Record what the source's expectations found in ops.expectations, and return a remark for each that is broken.

    ``good`` is the number of records that no rule refuses.

    Raises:
        ExpectationRefused: one of them fails the batch; nothing of it is in the tables.
    """
    rules = source_rules(context.spec.pipeline.sources[context.item])
    if not rules:
        return ()
    table = f"bronze.{context.item}"
    counts = count_record_violations(kept.frame, rules, good, RULES, NOTED)
    record_expectations(context, table, rules, counts)
    refused = find_refusing_rules(rules, counts)
    if refused:
        stays = what_stays(context, table)
        rows = kept.frame.select(*to_columns(schema.names), F.coalesce(F.col(RULES), F.col(NOTED)).alias(BROKEN))
        raise ExpectationRefused(
            "\n".join(describe_refusal(table, rule, counts, sample_violations(rows, rule, ()), stays) for rule in refused)
        )
    return tuple(describe_violations(table, rules, counts))


def source_rules(source: Source) -> list[Rule]:
    """Return the rules for the records of a source."""
    return build_rules(source.expectations, ())


_VARIED = (ROW_HASH,)
_CUT, _OPENING = "spark.sql.files.maxPartitionBytes", "spark.sql.files.openCostInBytes"
# What opening a file counts for among bytes that are parsed.
_OPENING_BYTES = 64 * 2**10
# Files do not end where a partition is full.
_SLACK = 1.03


@dataclass(frozen=True)
class Judge:
    """What all records of a batch get: the rules of the source, and the stamps of the batch."""

    rules: Sequence[Rule]
    columns: Sequence[str]
    number: int
    at: datetime
    partitions: int

    @property
    def kept(self) -> list[str]:
        """The columns of a judged record, but for the marks of ``judged_records``."""
        return [*self.columns, *PROVENANCE, *([NOTED] if self.rules else [])]

    def stamped(self, frame: DataFrame) -> DataFrame:
        """Add when the records came, and in which batch."""
        return frame.withColumns({INGESTED_AT: F.lit(self.at), BATCH_ID: F.lit(self.number).cast("bigint")})

    def judged(self, records: DataFrame) -> DataFrame:
        """Return the records as of ``judged_records``; those that their reader finds whole are held to the rules."""
        if self.rules:
            records = annotate_records(records, self.rules, (F.size(RULES) == 0) & ~F.col(IS_HEADER), RULES, NOTED)
        return judged_records(self.stamped(records), *self.kept).coalesce(self.partitions)

    def plain(self, quick: Quick) -> DataFrame:
        """Return the quick look at records with ``IS_PLAIN`` true only for those that break no rule of the source either; never null."""
        is_plain: Column = F.col(IS_PLAIN)
        if self.rules:
            is_plain = F.when(is_plain, rules_hold(self.rules)).otherwise(F.lit(False))
        return quick.frame.withColumn(IS_PLAIN, F.coalesce(is_plain, F.lit(False)))


def staged_records(
    stack: ExitStack, context: StepContext, source: Source, records: Records, schema: T.StructType, number: int, sizes: Sequence[int] = ()
) -> StagedRows:
    """Write the records of batch ``number`` below their table, judged (as of ``judged_records``), for the length of the stack.

    They are held to the source's expectations in the same pass, and come in no more partitions than they are worth, as each becomes a
    file; ``sizes`` are the bytes of the files that they are read from.
    """
    frame, table = records.frame, f"bronze.{context.item}"
    assert frame is not None  # the caller has looked
    if not SOURCE_KINDS.get(source.format, context.spec.folder).gives_raw_text:
        frame = _with_raw(frame, schema)
    judge = Judge(source_rules(source), schema.names, number, datetime.now(UTC), most_partitions(context, sum(sizes)))
    if judge.rules:
        require_rules(table, judge.rules, frame.select(*to_columns(schema.names)))
        stack.enter_context(errors_count_as_violations(context.spark))
    stack.enter_context(_evenly_read(context, sizes, judge.partitions))
    # The quick way asks each rule of a record that is not plain once more, so it must say the same then.
    if records.quick and all(rule.is_repeatable for rule in judge.rules):
        with ExitStack() as attempt:
            stage = attempt.enter_context(context.lake.open_stage(table, judged_schema(schema, *judge.kept), FATE))
            if stage is not None and _is_staged_quickly(stage, records.quick, judge):
                stack.push(attempt.pop_all())
                return StagedRows(stage.rows(context.spark), stage)
    return stack.enter_context(context.lake.stage_rows(judge.judged(frame), table, FATE, varied=_VARIED))


def most_partitions(context: StepContext, size: int) -> int:
    """Return how many partitions rows read from so many bytes are worth: a multiple of the cores, so that none of these waits."""
    cores = task_slots(context.spark)
    return max(1, -(-size // (_BYTES_A_FILE * cores))) * cores


@contextmanager
def _evenly_read(context: StepContext, sizes: Sequence[int], partitions: int) -> Iterator[None]:
    """Let Spark read files of these sizes in so many partitions of one size; its own are of a fixed size, but for the last."""
    conf = context.spark.conf
    before = {name: conf.get(name) for name in (_CUT, _OPENING)}
    whole = sum(sizes) + _OPENING_BYTES * len(sizes)
    if sizes:
        conf.set(_OPENING, str(_OPENING_BYTES))
        conf.set(_CUT, str(int(whole / partitions * _SLACK) + 1))
    try:
        yield
    finally:
        for name, value in before.items():
            conf.set(name, str(value))


def _is_staged_quickly(stage: Stage, ways: Sequence[Quick], judge: Judge) -> bool:
    """Write the plain records as they are, and only where there are others look at those closely; tell whether all are there.

    Both passes read the files: one that was written to in between shows in the count.
    """
    looks = [(way, judge.plain(way)) for way in ways]
    names = [name for name in judge.kept if name != NOTED]
    plain = reduce(DataFrame.unionByName, [judge.stamped(look.where(F.col(IS_PLAIN))).select(*map(column, names)) for _, look in looks])
    written = stage.write(plain.coalesce(judge.partitions), GOOD, _VARIED)
    rows, headers = sum(way.rows() for way in ways), sum(way.headers for way in ways)
    if rows == written + headers:
        return True
    others = reduce(DataFrame.unionByName, [way.closely(look.where(~F.col(IS_PLAIN))) for way, look in looks])
    return rows == written + stage.write(judge.judged(others), varied=_VARIED)


def _with_raw(records: DataFrame, schema: T.StructType) -> DataFrame:
    """Return the records with the raw text that their reader leaves out: a JSON object, with what was rescued."""
    whole = F.when(F.col(RESCUED).isNull(), as_json(schema.names)).otherwise(as_json([*schema.names, RESCUED]))
    return records.withColumn(RAW, F.coalesce(F.col(RAW), whole))
