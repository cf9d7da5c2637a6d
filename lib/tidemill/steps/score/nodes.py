"""One node of the pipeline for input rows: its SQL or function, and the expectations of its table, row by row."""

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
from tidemill.steps.expectations import build_table_rules
from tidemill.steps.prepare.step import compute_table_rows
from tidemill.steps.result import StepContext
from tidemill.steps.score.input import WHY, list_rule_columns
from tidemill.steps.score.routes import CARRIER, DATASET, SCORING, node_name

if TYPE_CHECKING:
    from tidemill.spec import Spec


_NODE = re.compile(r"^([ :]*(?:[+:]- )?)(\w+)(.*)$")
_MAX_FAILING_ROWS = 100
_MULTI_ROW_NODES = re.compile(
    r"Aggregate\w*|Window\w*|Distinct|Deduplicate\w*|\w*Limit|Tail|Offset|Union|Intersect|Except|Sample|Pivot|FlatMap(Co)?Groups\w+"
)
"""Nodes of a plan that look at several rows at once."""


@contextmanager
def run_node(context: StepContext, node: str, table: str, rows: DataFrame, unknown: Collection[str]) -> Iterator[DataFrame]:
    """Run ``node`` on ``rows``, which replace its table ``table``; yield its columns, ``CARRIER`` and ``WHY``.

    ``WHY`` is the reason why the pipeline would reject a row of the result, null where it would not. Expectations on the columns
    ``unknown``, which the input lacks, are not checked. The result is cached for the duration of the block.

    A row on which the SQL or the function fails has nulls, and the error in ``WHY``; the others pass.

    Raises:
        UsageError: a function reads several rows at once, or its result rows cannot be mapped to input rows.
        StepError: the SQL or the function fails without rows, or on very many of them.
    """
    with ExitStack() as stack:
        try:
            result = stack.enter_context(_run_without_failures(context, node, table, rows, unknown))
        except StepError:
            reasons = _find_failing_rows(context, node, table, rows, unknown)
            if not reasons:
                raise
            passing_rows = stack.enter_context(cache_frame(rows.where(~F.col(CARRIER).isin(list(reasons)))))
            result = stack.enter_context(_run_without_failures(context, node, table, passing_rows, unknown))
            failed = context.spark.createDataFrame(list(reasons.items()), f"{CARRIER} BIGINT, {WHY} STRING")
            result = result.unionByName(failed, allowMissingColumns=True)
        yield result


@contextmanager
def _run_without_failures(context: StepContext, node: str, table: str, rows: DataFrame, unknown: Collection[str]) -> Iterator[DataFrame]:
    """Run a node as `run_node` does, on rows of which none fails.

    Raises:
        StepError: the SQL or the function failed, on one of the rows or on all.
    """
    view = f"_tidemill_input_{uuid.uuid4().hex}"
    rows.createOrReplaceTempView(view)
    try:
        with ExitStack() as stack:
            with raise_step_error(node_name(context.spec, node)):
                result = _annotate_rows(context, node, _run_definition(context, node, table, view, rows.columns), unknown)
                stack.enter_context(cache_frame(result)).count()
            yield result
    finally:
        context.spark.catalog.dropTempView(view)


def _find_failing_rows(context: StepContext, node: str, table: str, rows: DataFrame, unknown: Collection[str]) -> dict[int, str]:
    """Return the error of each row on which a node fails, by carrier; empty where it fails without rows.

    The rows are bisected, which takes several queries per failing row.

    Raises:
        StepError: the node fails on more than ``_MAX_FAILING_ROWS`` rows.
    """
    carriers = sorted(row[0] for row in rows.select(CARRIER).collect())
    reasons: dict[int, str] = {}

    def find_error(part: Sequence[int]) -> str | None:
        selected = rows.where(F.col(CARRIER).between(part[0], part[-1]) if part else F.lit(False))
        try:
            # Cached, so that Spark evaluates no expression of the node on other rows.
            with cache_frame(selected), _run_without_failures(context, node, table, selected, unknown):
                return None
        except StepError as error:
            return str(error)

    def bisect(part: Sequence[int]) -> None:
        fault = find_error(part)
        if fault is None:
            return
        if len(part) == 1:
            reasons[part[0]] = fault
            if len(reasons) > _MAX_FAILING_ROWS:
                raise StepError(f"{fault}; so it is with more than {_MAX_FAILING_ROWS} rows of the input: correct them, or the SQL")
            return
        bisect(part[: len(part) // 2])
        bisect(part[len(part) // 2 :])

    if carriers and find_error(()) is None:
        bisect(carriers)
    return reasons


def may_drop_rows(spec: Spec, node: str) -> bool:
    """Return True where a node may lose rows: all nodes but those that pass a table unchanged."""
    pipeline = spec.pipeline
    return not ((node == DATASET and pipeline.dataset.from_ is not None) or (node == SCORING and pipeline.scoring.from_ is not None))


def _run_definition(context: StepContext, node: str, table: str, view: str, columns: Sequence[str]) -> DataFrame:
    pipeline, spark = context.spec.pipeline, context.spark
    if node in (DATASET, SCORING):
        block = pipeline.dataset if node == DATASET else pipeline.scoring
        if block.from_ is not None:
            return spark.table(view)
        sql = str(block.sql)
    else:
        declared = pipeline.tables[node.partition(".")[2]]
        if declared.sql is None:
            return _run_function(context, node, table, view, columns)
        sql = declared.sql
    text = add_carrier(context.spec.sql_text(sql), table, CARRIER)
    return context.lake.sql(spark, text, context.inputs, {table: view}, trust=pipeline.trust)


def _run_function(context: StepContext, node: str, table: str, view: str, columns: Sequence[str]) -> DataFrame:
    """Run a function on the rows; where it drops the carrier, the key of its table identifies the rows."""
    declared = context.spec.pipeline.tables[context.item]
    arguments = [each for each in function_arguments(context.spec, context.item) if each != SESSION]
    assert arguments[0] == table  # routes pass only through the first table
    name = node_name(context.spec, node)
    rows = _call_function(context, view, table, with_row=True)
    has_row = rows is not None and CARRIER in rows.columns
    if not has_row and not (declared.key and set(declared.key) <= set(columns)):
        raise UsageError(
            f"{name} neither keeps the column {CARRIER} nor has a key of columns of {table}, so its rows cannot be identified; "
            f"give rows with its columns: --at {node}"
        )
    if rows is None or not has_row:
        rows = _call_function(context, view, table, with_row=False)
        assert rows is not None  # otherwise it has raised
    fault = find_plan_fault(context.spark, rows, view)
    if fault:
        raise UsageError(f"{name} {fault}, so a row cannot be taken through it alone; give rows with its columns: --at {node}")
    return rows if has_row else _add_carrier_by_key(context, name, rows, view, declared.key)


def _add_carrier_by_key(context: StepContext, name: str, rows: DataFrame, view: str, key: Sequence[str]) -> DataFrame:
    """Add the carrier of the input row with the same key."""
    numbers = context.spark.table(view).select(*[column(each) for each in key], CARRIER)
    if numbers.groupBy(*[column(each) for each in key]).count().where("count > 1").limit(1).count():
        raise UsageError(f"{name}: the key ({', '.join(key)}) occurs in several rows of the input, which cannot be identified after it")
    return rows.join(numbers, list(key), "inner").select(*[column(each) for each in rows.columns], CARRIER)


def _call_function(context: StepContext, view: str, table: str, *, with_row: bool) -> DataFrame | None:
    """Call the function on the view; None where it fails with the carrier."""
    input_rows = context.spark.table(view)
    declared = context.spec.pipeline.tables[context.item]
    if not with_row:
        return compute_table_rows(context, declared, {table: input_rows.drop(CARRIER)})
    try:
        return compute_table_rows(context, declared, {table: input_rows})
    except (StepError, PySparkException):
        return None


def find_plan_fault(spark: SparkSession, rows: DataFrame, view: str) -> str:
    """Return the part of a plan that reads several rows of a temporary view at once, or creates rows; empty where there is none.

    It reads the text of the plan, the only form that Spark gives on every connection.
    """
    plan_view = f"_tidemill_plan_{uuid.uuid4().hex}"
    rows.createOrReplaceTempView(plan_view)
    try:
        text = str(spark.sql(f"EXPLAIN EXTENDED SELECT * FROM {quote_name(plan_view)}").collect()[0][0])
    finally:
        spark.catalog.dropTempView(plan_view)
    plan = text.partition("== Analyzed Logical Plan ==\n")[2].partition("\n== ")[0].split("\n")[1:]
    leaves = [place for place, line in enumerate(plan) if view in line and _NODE.match(line) and "SubqueryAlias" in line]
    if len(leaves) != 1:
        return "reads it more than once" if leaves else "does not read it"
    return _find_fault_above(plan, leaves[0])


def _find_fault_above(plan: Sequence[str], leaf: int) -> str:
    """Return the node above a line of a plan that needs several rows; a plan that cannot be parsed is a fault too."""
    depth, child = _depth(plan[leaf]), leaf
    for place in range(leaf - 1, -1, -1):
        node_match = _NODE.match(plan[place])
        if node_match is None or _depth(plan[place]) >= depth:
            continue
        name, arguments = node_match.group(2), node_match.group(3)
        if _MULTI_ROW_NODES.fullmatch(name):
            return f"looks at several of its rows at once ({name})"
        if name == "Join":
            siblings = [each for each in range(place + 1, child) if _depth(plan[each]) == depth]
            kind = arguments.split(",")[0].strip()
            allowed = ("Inner", "Cross", "RightOuter") if siblings else ("Inner", "Cross", "LeftOuter", "LeftSemi", "LeftAnti")
            if kind not in allowed:
                return f"joins it on the side of a join ({kind}) that may be missing"
        depth, child = _depth(plan[place]), place
    return "" if depth == 0 else "cannot be followed"


def _depth(line: str) -> int:
    node_match = _NODE.match(line)
    return len(node_match.group(1)) if node_match else 0


def _annotate_rows(context: StepContext, node: str, rows: DataFrame, unknown: Collection[str]) -> DataFrame:
    none = F.lit(None).cast("string")
    table = context.spec.pipeline.tables.get(node.partition(".")[2])
    if table is None or node in (DATASET, SCORING):
        return rows.withColumn(WHY, none)
    rules = build_table_rules(context, node, table, rows)
    rules = replace(rules, rows=tuple(each for each in rules.rows if not set(unknown) & set(list_rule_columns(each))))
    if not rules.rows and rules.latest is None:
        return rows.withColumn(WHY, none)
    annotated = rules.annotate(rows, (CARRIER,))
    return annotated.select(*[column(each) for each in rows.columns], _build_reason(node, rules.rows, table.latest_by).alias(WHY))


def _build_reason(node: str, rules: Sequence[Rule], latest_by: str | None) -> Column:
    """Return why the table of ``node`` rejects an annotated row; null where it does not."""
    descriptions = {each.name: f"{each.name} ({each.described})" for each in rules}
    sentences = F.from_json(F.lit(json.dumps(descriptions)), "map<string,string>")
    names = F.array_join(F.transform(BROKEN, lambda each: F.try_element_at(sentences, each)), ", ")
    strict = [each.name for each in rules if each.action == "fail"]
    has_strict = F.arrays_overlap(F.col(BROKEN), F.array(*[F.lit(each) for each in strict]).cast("array<string>"))
    return (
        F.when(F.col(FATE) == QUARANTINED, F.concat(F.lit(f"{node} quarantines it: it breaks the expectation "), names))
        .when(F.col(FATE) == DROPPED, F.concat(F.lit(f"{node} drops it: it breaks the expectation "), names))
        .when(F.col(FATE) == SUPERSEDED, F.lit(f"{node} drops it: another row of its key has a later {latest_by}, or the same"))
        .when(has_strict, F.concat(F.lit(f"{node} refuses it: it breaks the expectation "), names))
    )
