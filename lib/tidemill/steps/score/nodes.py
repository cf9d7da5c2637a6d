"""One node of the pipeline for rows that have just arrived: its SQL or function, and the expectations of its table, row by row."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.errors import StepError, UsageError
from tidemill.lake.row_sql import add_carrier
from tidemill.quality.expectations.row_rules import BROKEN, DROPPED, FATE, QUARANTINED, SUPERSEDED
from tidemill.quality.expectations.rules import Rule
from tidemill.quoting import quote_name
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.spark_errors import raise_step_error
from tidemill.spec.loading.table_inputs import SESSION, function_arguments
from tidemill.steps.expectations import rules_for
from tidemill.steps.prepare.step import table_rows
from tidemill.steps.result import StepContext
from tidemill.steps.score.input import WHY, columns_of_rule
from tidemill.steps.score.routes import CARRIER, DATASET, SCORING, node_name

if TYPE_CHECKING:
    from tidemill.spec import Spec


_NODE = re.compile(r"^([ :]*(?:[+:]- )?)(\w+)(.*)$")
_MOST_FAILING = 100
_WHOLE = re.compile(
    r"Aggregate\w*|Window\w*|Distinct|Deduplicate\w*|\w*Limit|Tail|Offset|Union|Intersect|Except|Sample|Pivot|FlatMap(Co)?Groups\w+"
)
"""Nodes of a plan that look at several rows at once."""


@contextmanager
def taken_through(context: StepContext, node: str, table: str, rows: DataFrame, unknown: Collection[str]) -> Iterator[DataFrame]:
    """Give what ``node`` makes of ``rows``, which stand for its table ``table``: its columns, ``CARRIER`` and ``WHY``.

    ``WHY`` says why the pipeline would not take a row of the result on, null where it does. No expectation is asked of the columns
    ``unknown``, which the input lacks. The result is computed once and cached for the length of the block.

    A row on which the SQL or the function fails has nulls, and ``WHY`` says how; the others go on.

    Raises:
        UsageError: a function looks at several rows at once, or a row cannot be told apart behind it.
        StepError: the SQL or the function fails whatever the rows, or on very many of them.
    """
    with ExitStack() as stack:
        try:
            made = stack.enter_context(_made_of(context, node, table, rows, unknown))
        except StepError:
            reasons = _rows_that_fail(context, node, table, rows, unknown)
            if not reasons:
                raise
            good = stack.enter_context(cache_frame(rows.where(~F.col(CARRIER).isin(list(reasons)))))
            made = stack.enter_context(_made_of(context, node, table, good, unknown))
            failed = context.spark.createDataFrame(list(reasons.items()), f"{CARRIER} BIGINT, {WHY} STRING")
            made = made.unionByName(failed, allowMissingColumns=True)
        yield made


@contextmanager
def _made_of(context: StepContext, node: str, table: str, rows: DataFrame, unknown: Collection[str]) -> Iterator[DataFrame]:
    """Give what ``taken_through`` gives for rows of which none fails.

    Raises:
        StepError: the SQL or the function failed, on one of the rows or on all.
    """
    view = f"_tidemill_input_{uuid.uuid4().hex}"
    rows.createOrReplaceTempView(view)
    try:
        with ExitStack() as stack:
            with raise_step_error(node_name(context.spec, node)):
                made = _judged(context, node, _made(context, node, table, view, rows.columns), unknown)
                stack.enter_context(cache_frame(made)).count()
            yield made
    finally:
        context.spark.catalog.dropTempView(view)


def _rows_that_fail(context: StepContext, node: str, table: str, rows: DataFrame, unknown: Collection[str]) -> dict[int, str]:
    """Return why a node fails on each row on which it does, by carrier; empty where it fails without any row.

    The rows are halved until each that fails stands alone, so that it takes some queries for each of them.

    Raises:
        StepError: it fails on more than ``_MOST_FAILING`` rows.
    """
    carriers = sorted(row[0] for row in rows.select(CARRIER).collect())
    reasons: dict[int, str] = {}

    def fault_of(part: Sequence[int]) -> str | None:
        chosen = rows.where(F.col(CARRIER).between(part[0], part[-1]) if part else F.lit(False))
        try:
            # Cached, so that no expression of the node is asked of the rows that are left out.
            with cache_frame(chosen), _made_of(context, node, table, chosen, unknown):
                return None
        except StepError as error:
            return str(error)

    def search(part: Sequence[int]) -> None:
        fault = fault_of(part)
        if fault is None:
            return
        if len(part) == 1:
            reasons[part[0]] = fault
            if len(reasons) > _MOST_FAILING:
                raise StepError(f"{fault}; so it is with more than {_MOST_FAILING} rows of the input: correct them, or the SQL")
            return
        search(part[: len(part) // 2])
        search(part[len(part) // 2 :])

    if carriers and fault_of(()) is None:
        search(carriers)
    return reasons


def may_drop(spec: Spec, node: str) -> bool:
    """Return True where rows may be lost in a node: all but those that hand a table on as it is."""
    pipeline = spec.pipeline
    return not ((node == DATASET and pipeline.dataset.from_ is not None) or (node == SCORING and pipeline.scoring.from_ is not None))


def _made(context: StepContext, node: str, table: str, view: str, columns: Sequence[str]) -> DataFrame:
    pipeline, spark = context.spec.pipeline, context.spark
    if node in (DATASET, SCORING):
        block = pipeline.dataset if node == DATASET else pipeline.scoring
        if block.from_ is not None:
            return spark.table(view)
        sql = str(block.sql)
    else:
        declared = pipeline.tables[node.partition(".")[2]]
        if declared.sql is None:
            return _made_by_function(context, node, table, view, columns)
        sql = declared.sql
    text = add_carrier(context.spec.sql_text(sql), table, CARRIER)
    return context.lake.sql(spark, text, context.inputs, {table: view}, trust=pipeline.trust)


def _made_by_function(context: StepContext, node: str, table: str, view: str, columns: Sequence[str]) -> DataFrame:
    """Return what a function makes of the rows; where it does not hand the carrier on, the key of its table tells the rows apart."""
    declared = context.spec.pipeline.tables[context.item]
    arguments = [each for each in function_arguments(context.spec, context.item) if each != SESSION]
    assert arguments[0] == table  # a route goes through the first table alone
    name = node_name(context.spec, node)
    rows = _called(context, view, table, with_row=True)
    has_row = rows is not None and CARRIER in rows.columns
    if not has_row and not (declared.key and set(declared.key) <= set(columns)):
        raise UsageError(
            f"{name} neither hands the column {CARRIER} on nor has a key that {table} has, so its rows cannot be told apart; "
            f"give rows with its columns: --at {node}"
        )
    if rows is None or not has_row:
        rows = _called(context, view, table, with_row=False)
        assert rows is not None  # it has raised otherwise
    fault = plan_fault(context.spark, rows, view)
    if fault:
        raise UsageError(f"{name} {fault}, so a row cannot be taken through it alone; give rows with its columns: --at {node}")
    return rows if has_row else _numbered_by_key(context, name, rows, view, declared.key)


def _numbered_by_key(context: StepContext, name: str, rows: DataFrame, view: str, key: Sequence[str]) -> DataFrame:
    """Return the rows with the carrier of the input's row of the same key."""
    numbers = context.spark.table(view).select(*[column(each) for each in key], CARRIER)
    if numbers.groupBy(*[column(each) for each in key]).count().where("count > 1").limit(1).count():
        raise UsageError(f"{name}: the key ({', '.join(key)}) stands in several rows of the input, which cannot be told apart behind it")
    return rows.join(numbers, list(key), "inner").select(*[column(each) for each in rows.columns], CARRIER)


def _called(context: StepContext, view: str, table: str, *, with_row: bool) -> DataFrame | None:
    """Return what the function makes of the view; None where it fails over the carrier, so that it is to be called without."""
    given = context.spark.table(view)
    declared = context.spec.pipeline.tables[context.item]
    if not with_row:
        return table_rows(context, declared, {table: given.drop(CARRIER)})
    try:
        return table_rows(context, declared, {table: given})
    except (StepError, PySparkException):
        return None


def plan_fault(spark: SparkSession, rows: DataFrame, view: str) -> str:
    """Return what in a frame's plan looks at several rows of a temporary view at once, or makes rows without one; empty where nothing does.

    The plan's text is the only form of it that Spark has for everyone.
    """
    whole = f"_tidemill_plan_{uuid.uuid4().hex}"
    rows.createOrReplaceTempView(whole)
    try:
        text = str(spark.sql(f"EXPLAIN EXTENDED SELECT * FROM {quote_name(whole)}").collect()[0][0])
    finally:
        spark.catalog.dropTempView(whole)
    plan = text.partition("== Analyzed Logical Plan ==\n")[2].partition("\n== ")[0].split("\n")[1:]
    leaves = [place for place, line in enumerate(plan) if view in line and _NODE.match(line) and "SubqueryAlias" in line]
    if len(leaves) != 1:
        return "reads it more than once" if leaves else "does not read it"
    return _fault_above(plan, leaves[0])


def _fault_above(plan: Sequence[str], leaf: int) -> str:
    """Return what stands above a line of a plan and needs more than a row; a plan that is not understood is a fault too."""
    depth, child = _depth(plan[leaf]), leaf
    for place in range(leaf - 1, -1, -1):
        found = _NODE.match(plan[place])
        if found is None or _depth(plan[place]) >= depth:
            continue
        name, told = found.group(2), found.group(3)
        if _WHOLE.fullmatch(name):
            return f"looks at several of its rows at once ({name})"
        if name == "Join":
            siblings = [each for each in range(place + 1, child) if _depth(plan[each]) == depth]
            kind = told.split(",")[0].strip()
            allowed = ("Inner", "Cross", "RightOuter") if siblings else ("Inner", "Cross", "LeftOuter", "LeftSemi", "LeftAnti")
            if kind not in allowed:
                return f"joins it on the side of a join ({kind}) that may be missing"
        depth, child = _depth(plan[place]), place
    return "" if depth == 0 else "cannot be followed"


def _depth(line: str) -> int:
    found = _NODE.match(line)
    return len(found.group(1)) if found else 0


def _judged(context: StepContext, node: str, rows: DataFrame, unknown: Collection[str]) -> DataFrame:
    none = F.lit(None).cast("string")
    table = context.spec.pipeline.tables.get(node.partition(".")[2])
    if table is None or node in (DATASET, SCORING):
        return rows.withColumn(WHY, none)
    rules = rules_for(context, node, table, rows)
    rules = replace(rules, rows=tuple(each for each in rules.rows if not set(unknown) & set(columns_of_rule(each))))
    if not rules.rows and rules.latest is None:
        return rows.withColumn(WHY, none)
    judged = rules.judged(rows, (CARRIER,))
    return judged.select(*[column(each) for each in rows.columns], _why(node, rules.rows, table.latest_by).alias(WHY))


def _why(node: str, rules: Sequence[Rule], latest_by: str | None) -> Column:
    """Return why the table of ``node`` does not take a judged row; null where it does."""
    told = {each.name: f"{each.name} ({each.described})" for each in rules}
    sentences = F.from_json(F.lit(json.dumps(told)), "map<string,string>")
    names = F.array_join(F.transform(BROKEN, lambda each: F.try_element_at(sentences, each)), ", ")
    strict = [each.name for each in rules if each.action == "fail"]
    has_strict = F.arrays_overlap(F.col(BROKEN), F.array(*[F.lit(each) for each in strict]).cast("array<string>"))
    return (
        F.when(F.col(FATE) == QUARANTINED, F.concat(F.lit(f"{node} quarantines it: it breaks the expectation "), names))
        .when(F.col(FATE) == DROPPED, F.concat(F.lit(f"{node} drops it: it breaks the expectation "), names))
        .when(F.col(FATE) == SUPERSEDED, F.lit(f"{node} drops it: another row of its key has a later {latest_by}, or the same"))
        .when(has_strict, F.concat(F.lit(f"{node} refuses it: it breaks the expectation "), names))
    )
