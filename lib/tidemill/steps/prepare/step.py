"""The step prepare: SQL or a Python function → ``silver.<table>``, with the expectations of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.errors import ExpectationRefused, StepError, TidemillError
from tidemill.quality.expectations.quarantine import (
    describe_refusal,
    describe_repeated_key,
    describe_table_refusal,
    describe_violations,
    find_refusing_rules,
)
from tidemill.quality.expectations.row_rules import (
    ViolationCounts,
    count_violations,
    sample_repeated_keys,
    sample_violations,
    select_kept_rows,
    select_quarantined_rows,
)
from tidemill.quality.expectations.rules import errors_count_as_violations
from tidemill.quality.expectations.table_rules import TableVerdict
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.machine_faults import describe_machine_fault
from tidemill.runtime.spark_errors import format_spark_error, raise_step_error
from tidemill.runtime.user_code import contain_exit
from tidemill.spec.loading.table_inputs import SESSION, function_arguments
from tidemill.spec.models import Table
from tidemill.steps.commit_stats import count_written_rows, is_empty_table, make_empty_frame
from tidemill.steps.expectations import TableRules, build_table_rules, describe_unchanged_table, judge_table_rules, record_expectations
from tidemill.steps.result import StepContext, StepResult


def prepare(context: StepContext) -> StepResult:
    """Write ``silver.<table>`` from its inputs at their pinned versions, and ``silver.<table>_quarantine`` where rules quarantine.

    Grain: one row per key. Columns: those of the SQL or the function. ``rows_in`` is the number of rows that it returns. Each rule, and
    the key, is a row of ``ops.expectations``, also when the step fails.

    Raises:
        ExpectationRefused: a rule does not hold, or a key has more than one row; the table is unchanged.
        StepError: the SQL or the function failed, or rows were lost on the way.
    """
    table = context.spec.pipeline.tables[context.item]
    name = f"silver.{context.item}"
    with _name_table_in_errors(_describe_table(context, table)):
        rows = compute_table_rows(context, table)
        rules = build_table_rules(context, name, table, rows)
    if rules.is_empty:
        return _commit_without_rules(context, name, table, rows)
    catching = errors_count_as_violations(context.spark) if table.expectations else nullcontext()
    with _name_table_in_errors(_describe_table(context, table)), catching, cache_frame(rules.annotate(rows)) as checked:
        counts = count_violations(checked, rules.rows, table.key, rules.measures)
        verdicts = judge_table_rules(context, rules, counts, checked)
        record_expectations(context, rules.name, rules.rows, counts, verdicts)
        _refuse(context, rules, counts, verdicts, checked)
        _commit_quarantine(context, rules, counts, checked)
        version = context.lake.replace(select_kept_rows(checked), name, meta=_meta(context, counts))
    _check_written(context, name, version, counts.kept)
    dropped = counts.dropped + counts.superseded
    if counts.rows != counts.kept + counts.quarantined + dropped:
        raise StepError(f"{name}: {counts.rows} rows in, {counts.kept} + {counts.quarantined} + {dropped} out; report this")
    notes = describe_violations(name, rules.rows, counts, verdicts)
    if counts.superseded:
        notes.append(f"{name}: {counts.superseded} rows are dropped: a row of the same key has a later {table.latest_by}, or the same")
    return StepResult({name: version}, counts.rows, counts.kept, counts.quarantined, dropped, tuple(notes))


def compute_table_rows(context: StepContext, table: Table, replacements: Mapping[str, DataFrame] | None = None) -> DataFrame:
    """Run the table's SQL or function; ``replacements`` are frames that a function gets instead of tables."""
    spec, spark, replacements = context.spec, context.spark, replacements or {}
    if table.sql is not None:
        return context.lake.sql(spark, spec.sql_text(table.sql), context.inputs, trust=spec.pipeline.trust)
    arguments = function_arguments(spec, context.item)
    unpinned = [name for name in arguments if name != SESSION and name not in context.inputs and name not in replacements]
    if unpinned:
        raise StepError(f"{table.python} reads {', '.join(unpinned)}, which is no input of this step; give `inputs:`")

    def argument(name: str) -> object:
        if name == SESSION:
            return spark
        return replacements[name] if name in replacements else context.lake.read(spark, name, context.inputs[name])

    try:
        with contain_exit("it"):
            rows = spec.function(str(table.python))(*[argument(name) for name in arguments])
    except TidemillError:
        raise
    except Exception as error:
        is_spark_error = isinstance(error, PySparkException | Py4JJavaError)
        message = (
            format_spark_error(error)
            if is_spark_error
            else f"it raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
        raise StepError(describe_machine_fault(f"{type(error).__name__}: {error}") or message) from error
    if not isinstance(rows, DataFrame):
        raise StepError(f"it returned {type(rows).__name__}, expected a Spark DataFrame; end it with `return <frame>`")
    return rows


def _describe_table(context: StepContext, table: Table) -> str:
    """Return the name of the table and its definition for messages."""
    if table.python is not None:
        return f"silver.{context.item} ({table.python})"
    is_file = table.sql is not None and not any(character.isspace() for character in table.sql.strip())
    return f"silver.{context.item} ({table.sql})" if is_file else f"silver.{context.item}"


@contextmanager
def _name_table_in_errors(table_name: str) -> Iterator[None]:
    """Name the table in errors of Spark and of the table's code inside the block."""
    try:
        with raise_step_error(table_name):
            yield
    except StepError as error:
        if str(error).startswith("silver."):
            raise
        raise StepError(f"{table_name}: {error}") from (error.__cause__ or error)


def _commit_without_rules(context: StepContext, name: str, table: Table, rows: DataFrame) -> StepResult:
    """Commit the rows of a table without rules in one write, which counts them."""
    with _name_table_in_errors(_describe_table(context, table)):
        version = context.lake.replace(rows, name, meta=context.meta())
    written_rows = count_written_rows(context.lake, name, version)
    if written_rows is None:
        written_rows = context.lake.read(context.spark, name, version).count()
    return StepResult({name: version}, rows_in=written_rows, rows_out=written_rows)


def _refuse(context: StepContext, rules: TableRules, counts: ViolationCounts, verdicts: Sequence[TableVerdict], checked: DataFrame) -> None:
    name, unchanged = rules.name, describe_unchanged_table(context, rules.name)
    refused = find_refusing_rules(rules.rows, counts)
    reasons = [describe_refusal(name, rule, counts, sample_violations(checked, rule, rules.key), unchanged) for rule in refused]
    reasons += [describe_table_refusal(name, verdict, unchanged) for verdict in verdicts if verdict.action == "fail" and not verdict.passed]
    if counts.repeated_keys:
        reasons.append(describe_repeated_key(name, rules.key, counts, sample_repeated_keys(checked, rules.key), unchanged))
    if reasons:
        raise ExpectationRefused("\n".join(reasons))


def _commit_quarantine(context: StepContext, rules: TableRules, counts: ViolationCounts, checked: DataFrame) -> None:
    """Replace the quarantine of the table; a table without a rule that quarantines has none."""
    quarantine = f"{rules.name}_quarantine"
    has_quarantine = any(rule.action == "quarantine" for rule in rules.rows)
    if not has_quarantine or (counts.quarantined == 0 and is_empty_table(context.lake, quarantine)):
        return
    stamp = {"run_id": F.lit(context.run_id), "quarantined_at": F.lit(datetime.now(UTC))}
    refused = select_quarantined_rows(checked).withColumns(stamp)
    version = context.lake.replace(refused if counts.quarantined else make_empty_frame(refused), quarantine, meta=_meta(context, counts))
    _check_written(context, quarantine, version, counts.quarantined)


def _check_written(context: StepContext, table: str, version: int, expected: int) -> None:
    written_rows = count_written_rows(context.lake, table, version)
    if written_rows not in (None, expected):
        raise StepError(f"{table}: version {version} holds {written_rows} rows, expected {expected}; run the step again")


def _meta(context: StepContext, counts: ViolationCounts) -> dict[str, object]:
    return context.meta(
        rows_in=counts.rows, rows_out=counts.kept, rows_quarantined=counts.quarantined, rows_dropped=counts.dropped + counts.superseded
    )
