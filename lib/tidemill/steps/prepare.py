"""The step prepare: SQL or a Python function → ``silver.<table>``, its rows held to the table's rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.caching import cached
from tidemill.errors import ExpectationRefused, StepError, TidemillError, did_you_mean
from tidemill.quality.refusals import expectation_rows, refusal, refused_rules, repeated_key, warnings
from tidemill.quality.rules import Rule, errors_count_as_violations, rules_of
from tidemill.quality.verdicts import Tally, judged, kept_rows, quarantined_rows, repeated_keys, samples, tally
from tidemill.spark_errors import as_step_error
from tidemill.spec.models import Table
from tidemill.spec.table_inputs import SESSION, function_arguments
from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.written import blank, is_blank, rows_written


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
        rows = _rows(context, table)
    _require_key(name, table, rows)
    rules = _rules(name, table, rows)
    if not rules:
        return _without_rules(context, name, table, rows)
    catching = errors_count_as_violations(context.spark) if table.expectations else nullcontext()
    with _told(_place(context, table)), catching, cached(judged(rows, rules)) as checked:
        counts = tally(checked, rules, table.key)
        _record(context, name, rules, counts)
        _refuse(name, table, rules, counts, checked)
        _commit_quarantine(context, name, rules, counts, checked)
        version = context.lake.replace(kept_rows(checked), name, meta=_meta(context, counts))
    _check_written(context, name, version, counts.kept)
    if counts.rows != counts.kept + counts.quarantined + counts.dropped:
        raise StepError(f"{name}: {counts.rows} rows in, {counts.kept} + {counts.quarantined} + {counts.dropped} out; report this")
    notes = tuple(warnings(name, rules, counts))
    return StepResult({name: version}, counts.rows, counts.kept, counts.quarantined, counts.dropped, notes)


def _rows(context: StepContext, table: Table) -> DataFrame:
    """Return the rows that the table's SQL or function gives."""
    spec, spark = context.spec, context.spark
    if table.sql is not None:
        return context.lake.sql(spark, spec.sql_text(table.sql), context.inputs)
    arguments = function_arguments(spec, context.item)
    unpinned = [name for name in arguments if name != SESSION and name not in context.inputs]
    if unpinned:
        raise StepError(f"{table.python} reads {', '.join(unpinned)}, which is no input of this step; give `inputs:`")
    given = [spark if name == SESSION else context.lake.read(spark, name, context.inputs[name]) for name in arguments]
    try:
        rows = spec.function(str(table.python))(*given)
    except TidemillError:
        raise
    except Exception as error:
        raise StepError(f"it raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
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
        with as_step_error(place):
            yield
    except StepError as error:
        if str(error).startswith("silver."):
            raise
        raise StepError(f"{place}: {error}") from (error.__cause__ or error)


def _require_key(name: str, table: Table, rows: DataFrame) -> None:
    for column in table.key:
        if column not in rows.columns:
            near = did_you_mean(column, rows.columns)
            raise StepError(f"{name}: no column {column!r}, which `key` names{near}; it has {', '.join(rows.columns)}")


def _rules(name: str, table: Table, rows: DataFrame) -> list[Rule]:
    """Return the table's rules, each tried on the columns, so that a wrong one is named."""
    rules = rules_of(table.expectations, table.key)
    for rule in rules:
        with as_step_error(f"{name}: expectation {rule.name!r} ({rule.told})"):
            rows.select(rule.is_broken)
    return rules


def _without_rules(context: StepContext, name: str, table: Table, rows: DataFrame) -> StepResult:
    """Commit rows that nothing is asked of: one write, whose own count is the number of rows."""
    with _told(_place(context, table)):
        version = context.lake.replace(rows, name, meta=context.meta())
    written = rows_written(context.lake, name, version)
    if written is None:
        written = context.lake.read(context.spark, name, version).count()
    return StepResult({name: version}, rows_in=written, rows_out=written)


def _record(context: StepContext, name: str, rules: Sequence[Rule], counts: Tally) -> None:
    stamp = {"pipeline": context.pipeline, "run_id": context.run_id, "table": name}
    rows = [{**stamp, **row} for row in expectation_rows(rules, counts)]
    context.lake.ledger.put("ops.expectations", rows, where={"run_id": context.run_id, "table": name})


def _refuse(name: str, table: Table, rules: Sequence[Rule], counts: Tally, checked: DataFrame) -> None:
    reasons = [refusal(name, rule, counts, samples(checked, rule.name, table.key)) for rule in refused_rules(rules, counts)]
    if counts.repeated_keys:
        reasons.append(repeated_key(name, table.key, counts, repeated_keys(checked, table.key)))
    if reasons:
        raise ExpectationRefused("\n".join(reasons))


def _commit_quarantine(context: StepContext, name: str, rules: Sequence[Rule], counts: Tally, checked: DataFrame) -> None:
    """Replace the quarantine of the table; a table without a rule that quarantines has none."""
    quarantine = f"{name}_quarantine"
    is_asked_for = any(rule.action == "quarantine" for rule in rules)
    if not is_asked_for or (counts.quarantined == 0 and is_blank(context.lake, quarantine)):
        return
    stamp = {"run_id": F.lit(context.run_id), "quarantined_at": F.lit(datetime.now(UTC))}
    refused = quarantined_rows(checked).withColumns(stamp)
    version = context.lake.replace(refused if counts.quarantined else blank(refused), quarantine, meta=_meta(context, counts))
    _check_written(context, quarantine, version, counts.quarantined)


def _check_written(context: StepContext, table: str, version: int, expected: int) -> None:
    written = rows_written(context.lake, table, version)
    if written not in (None, expected):
        raise StepError(f"{table}: version {version} holds {written} rows, expected {expected}; run the step again")


def _meta(context: StepContext, counts: Tally) -> dict[str, object]:
    return context.meta(rows_in=counts.rows, rows_out=counts.kept, rows_quarantined=counts.quarantined, rows_dropped=counts.dropped)
