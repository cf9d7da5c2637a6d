"""SQL in a spec that would run programs, call Java or read paths: refused with file, line and column, unless the spec is trusted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.errors import SpecError
from tidemill.spec import load_spec

RUN = "SELECT *, reflect('java.lang.System', 'getProperty', 'user.home') AS home FROM bronze.flights"


AGGREGATES = "aggregates: {over: silver.flights, by: [id], time: at, windows: [1d], features: {a: avg(reflect(x))}}"
BLOCK = f"sql: |\n      -- reflect(1)\n      SELECT 1,\n        {RUN[10:]}"


@pytest.mark.parametrize(
    ("old", "new", "line", "words", "key"),
    [
        ("sql: SELECT * FROM bronze.flights", f"sql: {RUN}", 11, "reflect", "tables.flights.sql"),
        ("sql: SELECT * FROM bronze.flights", BLOCK, 14, "reflect", "tables.flights.sql"),
        ("sql: SELECT * FROM silver.flights", "sql: SELECT * FROM csv.`/etc/passwd`", 16, "csv", "dataset.sql"),
        ("check: distance > 0", "check: 'id > 0 AND java_method(''a'') = 1'", 14, "java", "tables.flights.expectations.far.check"),
        ("{check: distance > 0, on_violation: drop}", "{sum: {column: try_reflect(distance), equals: 1}}", 14, "try_",
         "tables.flights.expectations.far.sum.column"),
        ("training:\n", "scoring:\n  sql: SELECT TRANSFORM(x) USING 'touch x' AS (a STRING)\ntraining:\n", 25, "x) USING", "scoring.sql"),
        ("    load: incremental\n", "    load: incremental\n    expectations: {far: {check: reflect(distance)}}\n", 9, "reflect",
         "sources.flights.expectations.far.check"),
        ("  exclude: [arr_time]\n", f"  {AGGREGATES}\n", 21, "reflect", "dataset.aggregates.features.a"),
    ],
)  # fmt: skip
def test_unsafe_sql_is_refused_with_its_place_and_trusted_on_demand(
    write: Callable, changed: Callable, old: str, new: str, line: int, words: str, key: str
) -> None:
    file = write(changed(old, new))
    column = file.read_text().splitlines()[line - 1].index(words) + 1
    with pytest.raises(SpecError) as raised:
        load_spec(file, environ={})
    [fault] = raised.value.faults
    assert (fault.line, fault.column, fault.key) == (line, column, key)
    assert "trust: true" in fault.message and str(fault).startswith(f"{file}:{line}:{column}: {key}: ")
    file.write_text("trust: true\n" + file.read_text())
    assert load_spec(file, environ={}).pipeline.trust


def test_the_place_is_in_the_sql_file(write: Callable, changed: Callable) -> None:
    write(f"-- reflect\nSELECT 1 AS x;\n-- {RUN}", "good.sql")
    assert load_spec(write(changed("sql: SELECT * FROM bronze.flights", "sql: good.sql")), environ={})
    other = write(f"-- reflect\n{RUN};\n", "flights.sql")
    with pytest.raises(SpecError) as raised:
        load_spec(write(changed("sql: SELECT * FROM bronze.flights", "sql: flights.sql")), environ={})
    [fault] = raised.value.faults
    assert (fault.file, fault.line, fault.column, fault.key) == (str(other), 2, 11, "tables.flights.sql")
