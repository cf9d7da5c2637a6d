"""Check the records of a batch and write them once to scratch storage below their table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from tidemill.sources.records import (
    IS_HEADER,
    IS_PLAIN,
    RAW,
    RULES,
    STATUS,
    VALID,
    WARNINGS,
    FastPath,
    FileCount,
    Records,
    add_status,
    count_by_file,
    count_by_rule,
    status_schema,
)
from tidemill.spec.models import SOURCE_KINDS, Source
from tidemill.steps.expectations import check_rules, describe_unchanged_table, record_expectations
from tidemill.steps.result import StepContext

_BYTES_A_FILE = 64 * 2**20


def hold_to_expectations(context: StepContext, staged: StagedRows, schema: T.StructType, valid: int) -> tuple[str, ...]:
    """Record the results of the source's expectations in ops.expectations, and return a remark for each that is broken.

    ``valid`` is the number of records that no rule rejects.

    Raises:
        ExpectationRefused: an expectation fails the batch; nothing of it is in the tables.
    """
    rules = source_rules(context.spec.pipeline.sources[context.item])
    if not rules:
        return ()
    table = f"bronze.{context.item}"
    counts = count_record_violations(staged.frame, rules, valid, RULES, WARNINGS)
    record_expectations(context, table, rules, counts)
    rejected = find_refusing_rules(rules, counts)
    if rejected:
        stays = describe_unchanged_table(context, table)
        rows = staged.frame.select(*to_columns(schema.names), F.coalesce(F.col(RULES), F.col(WARNINGS)).alias(BROKEN))
        reasons = [describe_refusal(table, rule, counts, sample_violations(rows, rule, ()), stays) for rule in rejected]
        raise ExpectationRefused("\n".join(reasons))
    return tuple(describe_violations(table, rules, counts))


def source_rules(source: Source) -> list[Rule]:
    """Return the rules for the records of a source."""
    return build_rules(source.expectations, ())


_VARYING_COLUMNS = (ROW_HASH,)
_PARTITION_BYTES, _OPEN_COST = "spark.sql.files.maxPartitionBytes", "spark.sql.files.openCostInBytes"
# The cost of opening a file, in bytes that are parsed.
_OPEN_COST_BYTES = 64 * 2**10
# Files do not end where a partition is full.
_SLACK = 1.03


@dataclass(frozen=True)
class BatchJob:
    """The batch of a source that is being ingested; ``stack`` releases its scratch data at the end."""

    stack: ExitStack
    context: StepContext
    source: Source
    number: int

    @property
    def table(self) -> str:
        """The table that the batch is for."""
        return f"bronze.{self.context.item}"


@dataclass(frozen=True)
class StagedRecords:
    """Records with their status in scratch storage, counted by file, and the rejected ones counted by rule."""

    rows: StagedRows
    counts: Mapping[str, FileCount]
    rejections: Mapping[str, int]


@dataclass(frozen=True)
class BatchRules:
    """The rules that all records of a batch are checked by, and the columns that they get."""

    rules: Sequence[Rule]
    columns: Sequence[str]
    number: int
    ingested_at: datetime
    partitions: int

    @property
    def column_names(self) -> list[str]:
        """The columns of a checked record besides those that ``add_status`` adds."""
        return [*self.columns, *PROVENANCE, *([WARNINGS] if self.rules else [])]

    def add_stamps(self, frame: DataFrame) -> DataFrame:
        """Add ``_ingested_at`` and ``_batch_id``."""
        return frame.withColumns({INGESTED_AT: F.lit(self.ingested_at), BATCH_ID: F.lit(self.number).cast("bigint")})

    def apply(self, records: DataFrame) -> DataFrame:
        """Check the records that their reader accepts by the rules, and add the status of all."""
        if self.rules:
            records = annotate_records(records, self.rules, (F.size(RULES) == 0) & ~F.col(IS_HEADER), RULES, WARNINGS)
        return add_status(self.add_stamps(records), *self.column_names).coalesce(self.partitions)

    def apply_to_fast_path(self, path: FastPath) -> DataFrame:
        """Return the frame of a fast path, with ``IS_PLAIN`` true only for records that break no rule; never null."""
        is_plain: Column = F.col(IS_PLAIN)
        if self.rules:
            is_plain = F.when(is_plain, rules_hold(self.rules)).otherwise(F.lit(False))
        return path.frame.withColumn(IS_PLAIN, F.coalesce(is_plain, F.lit(False)))


def stage_records(job: BatchJob, records: Records, schema: T.StructType, sizes: Sequence[int] = ()) -> StagedRecords:
    """Check the records of a batch by the source's expectations, write them to scratch storage below their table, and count them.

    The frame has the columns of ``add_status``. ``sizes`` are the sizes of the source's files, in bytes; they decide the number of
    partitions, each of which becomes a file.
    """
    rows = _stage_rows(job, records, schema, sizes)
    counts = count_by_file(rows.frame)
    return StagedRecords(rows, counts, count_by_rule(rows.frame) if any(count.rejected for count in counts.values()) else {})


def _stage_rows(job: BatchJob, records: Records, schema: T.StructType, sizes: Sequence[int]) -> StagedRows:
    context, frame = job.context, records.frame
    assert frame is not None  # the caller has checked
    if not SOURCE_KINDS.get(job.source.format, context.spec.folder).gives_raw_text:
        frame = _add_raw(frame, schema)
    checks = BatchRules(source_rules(job.source), schema.names, job.number, datetime.now(UTC), max_partitions(context, sum(sizes)))
    if checks.rules:
        check_rules(job.table, checks.rules, frame.select(*to_columns(schema.names)))
        job.stack.enter_context(errors_count_as_violations(context.spark))
    job.stack.enter_context(_partition_evenly(context, sizes, checks.partitions))
    # The fast path checks the rules of some records twice, which must give the same result.
    if records.fast_paths and all(rule.is_repeatable for rule in checks.rules):
        with ExitStack() as attempt:
            stage = attempt.enter_context(context.lake.open_stage(job.table, status_schema(schema, *checks.column_names), STATUS))
            if stage is not None and _stage_by_fast_paths(stage, records.fast_paths, checks):
                job.stack.push(attempt.pop_all())
                return StagedRows(stage.rows(context.spark), stage)
    return job.stack.enter_context(context.lake.stage_rows(checks.apply(frame), job.table, STATUS, varied=_VARYING_COLUMNS))


def max_partitions(context: StepContext, size: int) -> int:
    """Return the number of partitions for rows that are read from so many bytes: a multiple of the task slots."""
    slots = task_slots(context.spark)
    return max(1, -(-size // (_BYTES_A_FILE * slots))) * slots


@contextmanager
def _partition_evenly(context: StepContext, sizes: Sequence[int], partitions: int) -> Iterator[None]:
    """Let Spark read files of these sizes in so many partitions of equal size; by default partitions have a fixed size."""
    conf = context.spark.conf
    before = {name: conf.get(name) for name in (_PARTITION_BYTES, _OPEN_COST)}
    whole = sum(sizes) + _OPEN_COST_BYTES * len(sizes)
    if sizes:
        conf.set(_OPEN_COST, str(_OPEN_COST_BYTES))
        conf.set(_PARTITION_BYTES, str(int(whole / partitions * _SLACK) + 1))
    try:
        yield
    finally:
        for name, value in before.items():
            conf.set(name, str(value))


def _stage_by_fast_paths(stage: Stage, paths: Sequence[FastPath], checks: BatchRules) -> bool:
    """Write the plain records unchanged, and apply the full checks to the others if there are any; return True if all were written.

    Both passes read the files, so the count differs if a file changes in between.
    """
    frames = [(path, checks.apply_to_fast_path(path)) for path in paths]
    names = [name for name in checks.column_names if name != WARNINGS]
    plain = [checks.add_stamps(frame.where(F.col(IS_PLAIN))).select(*map(column, names)) for _, frame in frames]
    written = stage.write(reduce(DataFrame.unionByName, plain).coalesce(checks.partitions), VALID, _VARYING_COLUMNS)
    rows, headers = sum(path.count_rows() for path in paths), sum(path.headers for path in paths)
    if rows == written + headers:
        return True
    others = reduce(DataFrame.unionByName, [path.check_closely(frame.where(~F.col(IS_PLAIN))) for path, frame in frames])
    return rows == written + stage.write(checks.apply(others), varied=_VARYING_COLUMNS)


def _add_raw(records: DataFrame, schema: T.StructType) -> DataFrame:
    """Add the raw text where the reader has none: the record as a JSON object, with its rescued fields."""
    whole = F.when(F.col(RESCUED).isNull(), as_json(schema.names)).otherwise(as_json([*schema.names, RESCUED]))
    return records.withColumn(RAW, F.coalesce(F.col(RAW), whole))
