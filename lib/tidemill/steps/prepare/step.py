"""The step prepare: SQL or a Python function → ``silver.<table>``, its rows held to the table's rules."""

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
from tidemill.steps.commit_stats import blank, is_blank, rows_written
from tidemill.steps.expectations import TableRules, record_expectations, rules_for, verdicts_of, what_stays
from tidemill.steps.result import StepContext, StepResult


def prepare(context: StepContext) -> StepResult:
    """Make ``silver.<table>`` from its inputs at their pinned versions, and ``silver.<table>_quarantine`` where rules ask for it.

    Grain: as the key says. Columns: those of the SQL or the function. ``rows_in`` is what these return. Each rule, and the key, is a
    row of ops.expectations, also when the step fails.

    Raises:
        ExpectationRefused: a rule does not hold, or a key stands in more than one row; the table stays as it was.
        StepError: the SQL or the function failed, or rows were lost on the way.
    """
    table = context.spec.pipeline.tables[context.item]
    name = f"silver.{context.item}"
    with _told(_place(context, table)):
        rows = table_rows(context, table)
        rules = rules_for(context, name, table, rows)
    if rules.is_empty:
        return _without_rules(context, name, table, rows)
    catching = errors_count_as_violations(context.spark) if table.expectations else nullcontext()
    with _told(_place(context, table)), catching, cache_frame(rules.judged(rows)) as checked:
        counts = count_violations(checked, rules.rows, table.key, rules.measures)
        verdicts = verdicts_of(context, rules, counts, checked)
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


def table_rows(context: StepContext, table: Table, given: Mapping[str, DataFrame] | None = None) -> DataFrame:
    """Return the rows that the table's SQL or function gives; ``given`` are frames that a function gets in place of tables."""
    spec, spark, given = context.spec, context.spark, given or {}
    if table.sql is not None:
        return context.lake.sql(spark, spec.sql_text(table.sql), context.inputs, trust=spec.pipeline.trust)
    arguments = function_arguments(spec, context.item)
    unpinned = [name for name in arguments if name != SESSION and name not in context.inputs and name not in given]
    if unpinned:
        raise StepError(f"{table.python} reads {', '.join(unpinned)}, which is no input of this step; give `inputs:`")

    def argument(name: str) -> object:
        if name == SESSION:
            return spark
        return given[name] if name in given else context.lake.read(spark, name, context.inputs[name])

    try:
        with contain_exit("it"):
            rows = spec.function(str(table.python))(*[argument(name) for name in arguments])
    except TidemillError:
        raise
    except Exception as error:
        is_sparks = isinstance(error, PySparkException | Py4JJavaError)
        said = (
            format_spark_error(error)
            if is_sparks
            else f"it raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
        raise StepError(describe_machine_fault(f"{type(error).__name__}: {error}") or said) from error
    if not isinstance(rows, DataFrame):
        raise StepError(f"it returned {type(rows).__name__}, expected a Spark DataFrame; end it with `return <frame>`")
    return rows


def _place(context: StepContext, table: Table) -> str:
    """Return what to name in a message about the table's definition."""
    if table.python is not None:
        return f"silver.{context.item} ({table.python})"
    is_file = table.sql is not None and not any(character.isspace() for character in table.sql.strip())
    return f"silver.{context.item} ({table.sql})" if is_file else f"silver.{context.item}"


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Say where it happened for what Spark and the table's own code raise inside."""
    try:
        with raise_step_error(place):
            yield
    except StepError as error:
        if str(error).startswith("silver."):
            raise
        raise StepError(f"{place}: {error}") from (error.__cause__ or error)


def _without_rules(context: StepContext, name: str, table: Table, rows: DataFrame) -> StepResult:
    """Commit rows that nothing is asked of: one write, whose own count is the number of rows."""
    with _told(_place(context, table)):
        version = context.lake.replace(rows, name, meta=context.meta())
    written = rows_written(context.lake, name, version)
    if written is None:
        written = context.lake.read(context.spark, name, version).count()
    return StepResult({name: version}, rows_in=written, rows_out=written)


def _refuse(context: StepContext, rules: TableRules, counts: ViolationCounts, verdicts: Sequence[TableVerdict], checked: DataFrame) -> None:
    name, stays = rules.name, what_stays(context, rules.name)
    refused = find_refusing_rules(rules.rows, counts)
    reasons = [describe_refusal(name, rule, counts, sample_violations(checked, rule, rules.key), stays) for rule in refused]
    reasons += [describe_table_refusal(name, verdict, stays) for verdict in verdicts if verdict.action == "fail" and not verdict.passed]
    if counts.repeated_keys:
        reasons.append(describe_repeated_key(name, rules.key, counts, sample_repeated_keys(checked, rules.key), stays))
    if reasons:
        raise ExpectationRefused("\n".join(reasons))


def _commit_quarantine(context: StepContext, rules: TableRules, counts: ViolationCounts, checked: DataFrame) -> None:
    """Replace the quarantine of the table; a table without a rule that quarantines has none."""
    quarantine = f"{rules.name}_quarantine"
    is_asked_for = any(rule.action == "quarantine" for rule in rules.rows)
    if not is_asked_for or (counts.quarantined == 0 and is_blank(context.lake, quarantine)):
        return
    stamp = {"run_id": F.lit(context.run_id), "quarantined_at": F.lit(datetime.now(UTC))}
    refused = select_quarantined_rows(checked).withColumns(stamp)
    version = context.lake.replace(refused if counts.quarantined else blank(refused), quarantine, meta=_meta(context, counts))
    _check_written(context, quarantine, version, counts.quarantined)


def _check_written(context: StepContext, table: str, version: int, expected: int) -> None:
    written = rows_written(context.lake, table, version)
    if written not in (None, expected):
        raise StepError(f"{table}: version {version} holds {written} rows, expected {expected}; run the step again")


def _meta(context: StepContext, counts: ViolationCounts) -> dict[str, object]:
    return context.meta(
        rows_in=counts.rows, rows_out=counts.kept, rows_quarantined=counts.quarantined, rows_dropped=counts.dropped + counts.superseded
    )
