"""Prepare makes a table from SQL or Python, holds it to its rules, and accounts for every row."""

from pathlib import Path

import pytest
from tests.spark.tables import read_rows, write_table

from tidemill.errors import ExpectationRefused, SpecError, StepError, UsageError
from tidemill.spec import Spec, load_spec
from tidemill.spec.loading.table_inputs import function_arguments, parameter_tables
from tidemill.spec.models import Pipeline
from tidemill.steps.prepare.step import prepare

FUNCTIONS = """
from pyspark.sql import functions as F

def counted(spark, x):
    return x.select("id", F.length("v").alias("length"))

def nothing(bronze_x):
    return None

def broken(anything):
    raise KeyError("no such thing")

def leaves(x):
    import sys
    sys.exit(0)

def leaves_later(x):
    import sys
    return x.mapInArrow(lambda batches: sys.exit(0), "id INT")
"""


def pipeline(**table: object) -> dict:
    return {
        "pipeline": "p",
        "sources": {"x": {"format": "csv", "path": "x.csv"}, "t": {"format": "csv", "path": "t.csv"}},
        "tables": {"t": table},
        "dataset": {"from": "silver.t", "key": ["id"], "label": "v"},
        "training": {"task": "regression"},
    }


@pytest.fixture
def bronze(spark, lake) -> int:
    """bronze.x and bronze.t: nine rows, a null key, a number that is none."""
    rows = [(1, "5"), (2, "-1"), (3, "200"), (4, None), (None, "7"), (5, "x"), (6, "-300"), (7, "8"), (8, "9")]
    df = spark.createDataFrame(rows, "id INT, v STRING")
    write_table(lake, df, "bronze.t")
    return write_table(lake, df, "bronze.x")


@pytest.fixture
def run(make_context, bronze, tmp_path: Path):
    """Prepare silver.t."""

    def _run(run_id: str = "r1", inputs: dict | None = None, **table: object):
        (tmp_path / "functions.py").write_text(FUNCTIONS)
        return prepare(make_context(pipeline(**table), "prepare.t", inputs or {"bronze.x": bronze, "bronze.t": bronze}, run_id))

    return _run


def rules(lake, run_id: str = "r1") -> dict[str, tuple]:
    rows = lake.ledger.rows("ops.expectations", run_id=run_id)
    assert {row["table_name"] for row in rows} == {"silver.t"}
    return {row["expectation"]: (row["rows_checked"], row["rows_failed"], row["action"], row["passed"]) for row in rows}


def test_sql_with_every_kind_of_rule(run, lake, spark, tmp_path) -> None:
    (tmp_path / "t.sql").write_text("SELECT id, v, bronze.x.v AS again FROM bronze.x")
    expectations = {
        "known": {"check": "v IS NOT NULL", "on_violation": "drop"},
        "number": {"check": "CAST(v AS INT) IS NOT NULL OR v IS NULL", "on_violation": "quarantine", "at_most": 0.2},
        "small": {"check": "abs(CAST(v AS INT)) < 100"},
        "sane": {"check": "v IS NULL OR length(v) < 9", "on_violation": "fail"},
    }
    result = run(sql="t.sql", key=["id"], expectations=expectations)
    assert (result.rows_in, result.rows_out, result.rows_quarantined, result.rows_dropped) == (9, 6, 2, 1)
    silver = lake.read(spark, "silver.t", result.outputs["silver.t"])
    assert silver.columns == ["id", "v", "again"]
    assert sorted(row["id"] for row in silver.collect()) == [1, 2, 3, 6, 7, 8]
    refused = {row["raw"]: row["rules"] for row in read_rows(lake, "silver.t_quarantine")}
    assert refused == {'{"id":null,"v":"7","again":"7"}': ["key"], '{"id":5,"v":"x","again":"x"}': ["number", "small"]}
    assert rules(lake) == {
        "key": (9, 1, "quarantine", False),
        "known": (9, 1, "drop", False),
        "number": (9, 1, "quarantine", True),
        "small": (9, 4, "warn", False),
        "sane": (9, 0, "fail", True),
    }
    assert any("'small' (kept)" in note for note in result.notes)

    again = run("r2", sql="SELECT id, v FROM bronze.x WHERE id < 3", key=["id"])
    assert (again.rows_in, again.rows_out, again.rows_quarantined) == (2, 2, 0)
    assert read_rows(lake, "silver.t_quarantine") == []
    assert rules(lake, "r2") == {"key": (2, 0, "quarantine", True)}


def test_refusals_leave_the_table_as_it_was(run, lake) -> None:
    before = run(sql="SELECT 1 AS id, 1 AS v").outputs
    with pytest.raises(ExpectationRefused, match=r"silver\.t: expectation 'small' .* 4 of 9 rows \(44\.44%\).*\"id\":"):
        run("r2", sql="SELECT * FROM bronze.x", key=["id"], expectations={"small": {"check": "id < 6", "on_violation": "fail"}})
    assert rules(lake, "r2")["small"] == (9, 4, "fail", False)
    with pytest.raises(ExpectationRefused, match=r"2 values of the key \(id\) .* more than one row, such as \{\"id\":0\}, \{\"id\":1\}"):
        run("r3", sql="SELECT id % 2 AS id FROM bronze.x WHERE id IS NOT NULL", key=["id"])
    assert rules(lake, "r3") == {"key": (8, 6, "fail", False)}
    with pytest.raises(ExpectationRefused, match=r"at most 10\.00% allowed"):
        run("r4", sql="SELECT * FROM bronze.x", expectations={"v": {"check": "v > 0", "on_violation": "drop", "at_most": 0.1}})
    assert lake.version("silver.t") == before["silver.t"]
    assert not lake.exists("silver.t_quarantine")


def test_a_table_without_rules_is_written_in_one_go(run, lake, spark) -> None:
    result = run(sql="SELECT id FROM bronze.x")
    assert (result.rows_in, result.rows_out, len(read_rows(lake, "silver.t"))) == (9, 9, 9)
    assert not lake.exists("silver.t_quarantine")


def test_faults_are_one_clear_sentence(run, tmp_path) -> None:
    (tmp_path / "t.sql").write_text("SELECT idd FROM bronze.x")
    for table, message in (
        ({"sql": "t.sql"}, r"silver\.t \(t\.sql\): .*`idd` cannot be resolved"),
        ({"sql": "SELECT CAST(v AS INT) AS v FROM bronze.x"}, r"silver\.t: The value 'x' .* cannot be cast"),
        ({"sql": "SELECT CAST(v AS INT) AS v FROM bronze.x", "key": ["v"]}, r"silver\.t: The value 'x' .* cannot be cast"),
        ({"sql": "SELECT id FROM bronze.x", "key": ["idd"]}, "did you mean 'id'"),
        ({"sql": "SELECT id FROM bronze.x", "expectations": {"e": {"check": "w > 0"}}}, r"expectation 'e' \(w > 0\): .*`w` cannot be"),
        ({"python": "functions.nothing"}, r"silver\.t \(functions\.nothing\): it returned NoneType"),
        ({"python": "functions.broken"}, r"silver\.t \(functions\.broken\): it raised KeyError: 'no such thing'"),
        (
            {"python": "functions.leaves"},
            r"silver\.t \(functions\.leaves\): it called sys\.exit\(0\) \(functions\.py, line \d+, in leaves\)",
        ),
        (
            {"python": "functions.leaves_later"},
            r"silver\.t \(functions\.leaves_later\): it called sys\.exit\(0\) \(functions\.py, line \d+,",
        ),
    ):
        with pytest.raises(StepError, match=message) as raised:
            run(**table)
        assert "\n" not in str(raised.value)
        assert "at org.apache" not in str(raised.value)


def test_python_function(run, lake, spark) -> None:
    result = run(python="functions.counted", key=["id"])
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (9, 8, 1)
    assert {row["id"]: row["length"] for row in read_rows(lake, "silver.t")} == {
        1: 1, 2: 2, 3: 3, 4: None, 5: 1, 6: 4, 7: 1, 8: 1,
    }  # fmt: skip


def test_inputs_of_tables(tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    sources, tables = ("x", "t", "both"), ("t", "both", "other")
    for names, expected in (
        (["x", "t"], ("bronze.x", "bronze.t")),
        (["both", "other", "spark"], ("silver.both", "silver.other", "spark")),
        (["bronze_both", "silver_other"], ("bronze.both", "silver.other")),
        (["df"], ("bronze.t",)),
        (["spark", "df"], ("spark", "bronze.t")),
    ):
        assert parameter_tables(names, "t", sources, tables) == expected
    for names, table in ((["df", "x"], "t"), (["df"], "other"), (["silver_t", "x"], "t")):
        with pytest.raises(UsageError, match="names no source or table"):
            parameter_tables(names, table, sources, tables)

    def spec(**table: object) -> Spec:
        return Spec(pipeline=Pipeline.model_validate(pipeline(**table)), file=tmp_path / "pipeline.yml", folder=tmp_path)

    assert spec(sql="SELECT * FROM bronze.x JOIN silver.other USING (id)").table_inputs("t") == ["bronze.x", "silver.other"]
    assert spec(python="functions.counted").table_inputs("t") == ["bronze.x"]
    assert function_arguments(spec(python="functions.counted", inputs=["bronze.t"]), "t") == ("spark", "bronze.t")
    assert function_arguments(spec(python="functions.nothing"), "t") == ("bronze.x",)
    assert function_arguments(spec(python="functions.broken"), "t") == ("bronze.t",)


DOLLARS = """\
pipeline: p
vars: {WORD: b}
sources:
  x: {format: csv, path: x.csv}
tables:
  t:
    sql: "SELECT v, '$${HOME}' AS home FROM bronze.x"
    expectations:
      words: {check: "v IN ('$${HOME}', '$${env:HOME}', '${WORD}')", on_violation: drop}
      total: {sum: {column: "length('$${spark.master}')", equals: 45}, on_violation: fail}
dataset: {from: silver.t, key: [v], label: home}
training: {task: binary}
"""


def test_a_dollar_sign_in_a_text_is_a_dollar_sign(spark, lake, make_context, tmp_path) -> None:
    texts = ["${HOME}", "${env:HOME}", "${WORD}", "", "b"]
    version = write_table(lake, spark.createDataFrame([(text,) for text in texts], "v STRING"), "bronze.x")
    file = tmp_path / "pipeline.yml"
    file.write_text(DOLLARS)
    prepare(make_context(load_spec(file, environ={}), "prepare.t", {"bronze.x": version}))
    # The spec's own variable is put in, what it escapes stands as it is. Three rows of 15 characters each: 45.
    found = lake.read(spark, "silver.t").collect()
    assert sorted(map(tuple, found)) == [("${HOME}", "${HOME}"), ("${env:HOME}", "${HOME}"), ("b", "${HOME}")]
    file.write_text(DOLLARS.replace("$${env:HOME}", "${env:HOME}"))
    with pytest.raises(SpecError, match=r"words\.check: '\$\{env:HOME\}' is no variable"):
        load_spec(file, environ={})
