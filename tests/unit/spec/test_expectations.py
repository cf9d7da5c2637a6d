"""Expectations of every kind as they are written, and what is said of those that are written wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.spec import load_spec
from tidemill.spec.loading.grammar import json_schema
from tidemill.workflow import build_graph
from tidemill.workflow.fingerprint import fingerprint_definition

MORE = "  airports: {sql: SELECT * FROM bronze.flights}\n"
KINDS = "check, not_null, in_reference, unique, row_count, freshness, sum, distribution"


@pytest.mark.parametrize(
    ("rule", "key", "message"),
    [
        ("on_violation: drop", "", f"says nothing to expect; give one of {KINDS}"),
        ("check: x > 0, unique: [a]", "", "holds `check` and `unique`; an expectation is one rule, so make one of each"),
        ("uniqe: [a]", ".uniqe", "unknown key; did you mean 'unique'?"),
        ("in_reference: silver.airports.faa", "", "`in_reference` needs `column: <column>`, the column of this table that is looked up"),
        ("column: dest, unique: a", "", "`column` goes with `in_reference`; `unique` names its columns itself"),
        ("in_reference: silver.airprots.faa, column: dest", ".in_reference",
         "reads silver.airprots, which is not declared under `tables:`; did you mean 'silver.airports'?"),
        ("in_reference: airports, column: dest", ".in_reference",
         "expected a column of a table such as silver.airports.faa, found 'airports'"),
        ("in_reference: silver.flights.x, column: y", ".in_reference",
         "silver.flights is the table that is being judged; name another one"),
        ("sum: {column: x, equals: bronze.planes.x}", ".sum.equals", "reads bronze.planes, which is not declared under `sources:`"),
        ("row_count: {at_leest: 3}", ".row_count.at_leest", "unknown key; did you mean 'at_least'?"),
        ("row_count: {}", ".row_count", "empty; give a number of rows, or `at_least:`, `at_most:` or both"),
        ("row_count: {at_least: 3, at_most: 2}", ".row_count.at_least", "3 is above `at_most` (2); no number of rows is both"),
        ("row_count: 4, on_violation: drop", ".on_violation",
         "`row_count` judges the table, not its rows, so there is none to drop; write warn or fail"),
        ("freshness: {column: x, within: 2d}, at_most: 3", ".at_most",
         "counts rows that break a rule, and `freshness` judges the table; it fits check, not_null, in_reference, unique"),
        ("freshness: {column: x, within: 2 days}", ".freshness.within", "expected a duration such as 30m, 2h or 1d, found '2 days'"),
        ("freshness: {column: x, within: 2d, of: soon}", ".freshness.of",
         'expected an instant such as "2013-12-31T00:00:00Z", found \'soon\''),
        ("distribution: {column: x, method: ks}", ".distribution.method", "expected 'psi', found 'ks'"),
        ("unique: [a, a]", ".unique", "'a' is listed twice"),
        ("not_null: []", ".not_null", "expected at least 1 item, found a list of 0"),
        *(("not_null: a, at_most: " + value, ".at_most",
           f"expected a share of the rows such as 0.01, or a whole number of rows such as 20, found {shown}")
          for value, shown in (("1.5", "1.5"), ("-1", "-1"), ("few", "'few'"), ("true", "True"))),
    ],
)  # fmt: skip
def test_one_fault(faults: Callable, changed: Callable, rule: str, key: str, message: str) -> None:
    text = changed("far: {check: distance > 0, on_violation: drop}", "far: {" + rule + "}", "tables:\n", "tables:\n" + MORE)
    assert faults(text) == [(15, f"tables.flights.expectations.far{key}", message)]


@pytest.mark.parametrize(
    ("name", "rule", "key", "message"),
    [
        ("far", "unique: [a]", ".unique",
         "`unique` needs more than the record itself; write it in `tables.<name>.expectations`, where rows are judged"),
        ("far", "row_count: 4", ".row_count",
         "`row_count` needs more than the record itself; write it in `tables.<name>.expectations`, where rows are judged"),
        ("far", "check: a > 0, on_violation: drop", ".on_violation",
         "a source drops no record, since a dropped record looks like a lost one; write quarantine, warn or fail"),
        ("nul", "check: a > 0", "", "'nul' is what records are refused for that cannot be read; choose another name"),
        ("far", "check: a >", ".check", None),
        ("far", "not_null: [a, a]", ".not_null", "'a' is listed twice"),
    ],
)  # fmt: skip
def test_a_source_judges_single_records(faults: Callable, changed: Callable, name: str, rule: str, key: str, message: str | None) -> None:
    text = changed("    load: incremental\ntables", "    load: incremental\n    expectations: {" + name + ": {" + rule + "}}\ntables")
    [(_, place, fault_message)] = faults(text)
    assert place == f"sources.flights.expectations.{name}{key}"
    assert fault_message == message if message else "does not parse" in fault_message


def test_latest_by_needs_a_key(faults: Callable, changed: Callable) -> None:
    message = "says which of the rows with the same key stays, and there is no `key:`; give one"
    assert faults(changed("    key: [flight_id]\n    exp", "    latest_by: day\n    exp")) == [(12, "tables.flights.latest_by", message)]


def test_tables_that_rules_look_into_come_first(write: Callable[..., Path], changed: Callable[..., str], faults: Callable) -> None:
    rules = "far: {in_reference: silver.airports.faa, column: dest, at_most: 1}\n      all: {sum: {column: x, equals: bronze.flights.x}}"
    rules += "\n      share: {unique: [a], at_most: 1.0}"
    text = changed("far: {check: distance > 0, on_violation: drop}", rules, "dataset:\n", MORE + "dataset:\n")
    spec = load_spec(write(text), environ={})
    assert spec.table_inputs("flights") == ["bronze.flights", "silver.airports"]
    assert "prepare.airports" in build_graph(spec)["prepare.flights"].needs
    expectations = spec.pipeline.tables["flights"].expectations
    assert [type(expectations[name].at_most) for name in ("far", "share")] == [int, float]
    circle = text.replace(MORE, MORE.replace("bronze.flights", "silver.flights"))
    assert "silver.flights → silver.airports → silver.flights" in faults(circle)[0][2]


def test_the_json_schema_tells_a_share_from_a_count() -> None:
    rule = json_schema()["$defs"]["Expectation"]["properties"]
    assert set(KINDS.split(", ")) <= set(rule)
    shown = str(rule["at_most"])
    assert "'type': 'integer'" in shown
    assert "'maximum': 1" in shown


OWN = """
from pydantic import Field
from tidemill.options import Block
from tidemill.quality.expectations.kinds import ColumnUse, Judgement, RowKind, TableKind

class Bound(Block):
    column: str
    least: int = Field(ge=0)

class AtLeast(RowKind):
    options = Bound
    fits_records = True

    @property
    def uses(self):
        return (ColumnUse((self.name, "column"), self.value.column),)

    def describe(self):
        return f"{self.value.column} is at least {self.value.least}"

    def problems(self):
        if self.value.least == 13:
            yield (self.name, "least"), "13 brings bad luck"

class NoRows(TableKind):
    options = bool

    def judge(self, facts):
        return Judgement(facts.rows == 0, float(facts.rows), "no rows", f"it holds {facts.rows}")
"""


@pytest.mark.parametrize(
    ("rule", "key", "message"),
    [
        ("functions.AtLeast: {column: distance, least: 1}", None, ""),
        ("functions.NoRows: true, on_violation: fail", None, ""),
        ("functions.AtLeast: {column: distance, least: -1}", "functions.AtLeast.least", "expected a number of at least 0, found -1"),
        ("functions.AtLeast: {column: distance, leest: 1}", "functions.AtLeast.leest", "unknown key"),
        ("functions.AtLeast: {column: distance, least: 13}", "functions.AtLeast.least", "13 brings bad luck"),
        ("functions.NoRows: true, on_violation: drop", "on_violation", "`functions.NoRows` judges the table, not its rows"),
        ("functions.NoRows: true, check: x > 0", "", "an expectation is one rule, so make one of each"),
        ("functions.Bound: {}", "functions.Bound", "expected a subclass of RowKind or TableKind"),
        ("functions.None: {}", "functions.None", "defines no 'None'"),
    ],
)
def test_a_kind_of_ones_own(
    faults: Callable, changed: Callable, write: Callable, tmp_path: Path, rule: str, key: str | None, message: str
) -> None:
    (tmp_path / "functions.py").write_text(OWN)
    text = changed("far: {check: distance > 0, on_violation: drop}", "far: {" + rule + "}")
    if key is None:
        expectation = load_spec(write(text), environ={}).pipeline.tables["flights"].expectations["far"]
        assert expectation.kind == rule.partition(":")[0]
        assert expectation.model_dump()[expectation.kind] is not None
        return
    place = f"tables.flights.expectations.far.{key}".rstrip(".")
    assert (14, place) in [(line, actual) for line, actual, fault_message in faults(text) if message in fault_message]


def test_an_edit_of_a_kind_changes_the_fingerprint(changed: Callable, write: Callable, tmp_path: Path) -> None:
    file = write(changed("far: {check: distance > 0, on_violation: drop}", "far: {functions.NoRows: true}"))

    def definitions(code: str) -> dict[str, str]:
        (tmp_path / "functions.py").write_text(code)
        spec = load_spec(file, environ={})
        return {name: fingerprint_definition(spec, build_graph(spec)[name]) for name in ("ingest.flights", "prepare.flights")}

    before, after = definitions(OWN), definitions(OWN + "# edited\n")
    assert before["ingest.flights"] == after["ingest.flights"]
    assert before["prepare.flights"] != after["prepare.flights"]
