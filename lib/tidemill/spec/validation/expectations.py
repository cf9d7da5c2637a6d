"""Rules between the keys of a table's expectations: which action fits which kind, and what their values must be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tidemill.errors import UsageError
from tidemill.spec.loading.document import Key, Node
from tidemill.spec.models import KINDS, RECORD_KINDS, RECORD_RULES, ROW_KINDS, TABLE_KINDS

Path = tuple[Key, ...]
Found = Iterator[tuple[Path, str]]


def expectation_problems(root: Node) -> Found:
    """Yield path and message of each fault."""
    sources = root.at("sources")
    for source, block in (sources.mapping if sources else {}).items():
        rules = block.at("expectations")
        for name, rule in (rules.mapping if rules else {}).items():
            path: Path = ("sources", source, "expectations", name)
            yield from _of_a_source(path, name, rule)
            yield from _condition(path, rule)
            yield from _columns(path, rule)
    tables = root.at("tables")
    for table, block in (tables.mapping if tables else {}).items():
        latest = block.at("latest_by")
        if latest is not None and latest.value is not None and not _names(block.at("key")):
            yield ("tables", table, "latest_by"), "says which of the rows with the same key stays, and there is no `key:`; give one"
        rules = block.at("expectations")
        for name, rule in (rules.mapping if rules else {}).items():
            path = ("tables", table, "expectations", name)
            if name == "key":
                yield path, "`key` is what the rule of the table's own key is called; choose another name"
            yield from _condition(path, rule)
            yield from _action(path, rule)
            yield from _columns(path, rule)
            yield from _row_count(path, rule)
            yield from _freshness(path, rule)
            yield from _sum(path, rule)


def condition_problem(text: str) -> str | None:
    """Return why ``text`` is no SQL condition or expression, None where it is one."""
    from tidemill.lake.sql import is_query

    try:
        is_query(f"SELECT\n({text}\n) AS is_good")
    except UsageError as error:
        return str(error).replace("SQL that does not parse", "a condition that does not parse").replace("at line 2, ", "")
    return None


def _of_a_source(path: Path, name: str, rule: Node) -> Found:
    """A source's records are judged one by one as they are read, and none of them is ever dropped."""
    if name in RECORD_RULES:
        yield path, f"{name!r} is what records are refused for that cannot be read; choose another name"
    kind = next((kind for kind in KINDS if kind not in RECORD_KINDS and rule.at(kind) is not None), None)
    if kind is not None:
        yield (*path, kind), f"`{kind}` needs more than the record itself; write it in `tables.<name>.expectations`, where rows are judged"
    action = rule.at("on_violation")
    if action is not None and action.value == "drop":
        yield (*path, "on_violation"), "a source drops no record, as it could not be told from a lost one; write quarantine, warn or fail"


def _condition(path: Path, rule: Node) -> Found:
    node = rule.at("check")
    if node is None or node.string is None:
        return
    if not node.string.strip():
        yield (*path, "check"), "empty; write a condition that is true for good rows, such as `distance > 0`"
    elif problem := condition_problem(node.string):
        yield (*path, "check"), problem


def _action(path: Path, rule: Node) -> Found:
    """A rule for the whole table has no rows to drop, to quarantine or to count."""
    kind = next((kind for kind in TABLE_KINDS if rule.at(kind) is not None), None)
    if kind is None:
        return
    action, at_most = rule.at("on_violation"), rule.at("at_most")
    if action is not None and action.value in ("drop", "quarantine"):
        yield (*path, "on_violation"), f"`{kind}` judges the table, not its rows, so there is none to {action.value}; write warn or fail"
    if at_most is not None and at_most.value is not None:
        inside = ", which has its own `at_most` inside" if kind in ("row_count", "distribution") else ""
        yield (*path, "at_most"), f"counts rows that break a rule, and `{kind}` judges the table{inside}; it fits {', '.join(ROW_KINDS)}"


def _columns(path: Path, rule: Node) -> Found:
    for kind in ("not_null", "unique"):
        node = rule.at(kind)
        names = node.strings if node else []
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield (*path, kind), f"{name!r} is listed twice"


def _row_count(path: Path, rule: Node) -> Found:
    node = rule.at("row_count")
    if node is None:
        return
    low, high = (node.at(bound) for bound in ("at_least", "at_most"))
    if isinstance(node.value, dict) and all(bound.value is None for bound in node.mapping.values()):
        yield (*path, "row_count"), "empty; give a number of rows, or `at_least:`, `at_most:` or both"
    if low and high and isinstance(low.value, int) and isinstance(high.value, int) and low.value > high.value:
        yield (*path, "row_count", "at_least"), f"{low.value} is above `at_most` ({high.value}); no number of rows is both"


def _freshness(path: Path, rule: Node) -> Found:
    node = rule.at("freshness", "of")
    if node is None or node.string is None:
        return
    try:
        datetime.fromisoformat(node.string)
    except ValueError:
        yield (*path, "freshness", "of"), f'expected an instant such as "2013-12-31T00:00:00Z", found {node.string!r}'


def _sum(path: Path, rule: Node) -> Found:
    node = rule.at("sum", "column")
    if node is not None and node.string is not None and not node.string.strip():
        yield (*path, "sum", "column"), "empty; give a column, or a SQL expression such as `distance * 1.609`"
    elif node is not None and node.string is not None and (problem := condition_problem(node.string)):
        yield (*path, "sum", "column"), problem.replace("a condition", "an expression")


def _names(node: Node | None) -> list[str]:
    return node.strings if node else []
