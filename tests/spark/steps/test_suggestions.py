"""What is suggested for a table can be pasted into a spec, loads, and holds for the data it comes from."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from tests.spark.tables import write_table

from tidemill.errors import UsageError
from tidemill.spec import load_spec
from tidemill.steps.prepare.step import prepare
from tidemill.steps.profile import profile_table, suggest_yaml

SPEC = """\
pipeline: p
sources:
  x: {format: csv, path: x.csv}
tables:
  other: {sql: SELECT * FROM bronze.x}
  t:
    sql: SELECT * FROM bronze.t
%s
dataset: {from: silver.t, key: [id], label: n}
training: {task: regression}
"""

NASTY = [
    "it's",
    'say "so"',
    "back\\slash\\",
    "two\nlines\ttab",
    "${HOME}",
    "$${x}",
    "日本 😀",
    "",
    " ",
    "# no: [comment]",
    "\x07\x7f\u2028",
    "%_",
]
SCHEMA = (
    "id STRING, n INT, big BIGINT, tiny TINYINT, x DOUBLE, huge DOUBLE, small FLOAT, bad DOUBLE, price DECIMAL(38,10), nasty STRING, "
    '`on` STRING, `null` INT, `a.b-c` STRING, `1st` INT, `it``s"odd"` INT, _hidden INT, `Ä` INT, `A-B_C` STRING, code INT, '
    "fresh TIMESTAMP, old TIMESTAMP, ahead DATE, tags ARRAY<INT>, gone STRING, maybe BOOLEAN, dest STRING"
)


@pytest.fixture(scope="module")
def rows() -> list[tuple]:
    now = datetime.now(UTC)
    found = []
    for i in range(240):
        row = (
            f"id-{i}", i % 50 - 20, 2**63 - 1 - i % 3, i % 3, i / 7 - 3, 1.7e308 * (1 if i % 2 else -1), i / 10,
            float("nan") if i == 3 else 1.0,
            i - 100, NASTY[i % len(NASTY)], ["yes", "no"][i % 2], i % 9 or None, ["u", None][i % 2], i % 4, i % 5, -(i % 5) - 1, 7, "w",
            1000 + i, now - timedelta(hours=i), datetime(2001, 1, 1, tzinfo=UTC) + timedelta(hours=i), (now + timedelta(days=i)).date(),
            [i], None, None if i % 5 == 0 else bool(i % 2), ["BOS", "ORD", "SEA", None][i % 4],
        )  # fmt: skip
        found.append(row)
    return found


@pytest.fixture
def suggest(spark, lake):
    def _suggest(table: str = "silver.t", **options: object) -> str:
        return suggest_yaml(spark, lake, profile_table(spark, lake, table, **options))

    return _suggest


@pytest.mark.long("profiles a table, then prepares it with all rules that were suggested")
def test_it_loads_and_all_of_it_holds(spark, lake, rows, suggest, make_context, tmp_path) -> None:
    frame = spark.createDataFrame([(*row[:8], str(row[8]), *row[9:]) for row in rows], SCHEMA.replace("DECIMAL(38,10)", "STRING"))
    frame = frame.withColumn("price", frame["price"].cast("decimal(38,10)"))
    inputs = {"bronze.t": write_table(lake, frame, "bronze.t")}
    write_table(lake, frame, "silver.t")
    text = suggest()
    assert suggest(exact_cells=1).splitlines()[1:5] == text.splitlines()[1:5]

    file = tmp_path / "pipeline.yml"
    file.write_text((SPEC % text).replace("bronze.t\n", "bronze.x\n"), encoding="utf-8")
    spec = load_spec(file, environ={})
    table = spec.pipeline.tables["t"]
    assert table.key == ["id"]
    kinds = {name: rule.kind for name, rule in table.expectations.items()}
    assert {
        "rows": "row_count",
        "never_null": "not_null",
        "code_once": "unique",
        "nasty_values": "check",
        "fresh_fresh": "freshness",
    }.items() <= kinds.items()
    assert {"n_range", "big_range", "tiny_range", "x_range", "small_range", "price_range", "null_range", "on_values", "ahead_fresh"} <= set(
        kinds
    )
    assert not {"huge_range", "bad_range", "old_fresh", "gone_values", "tags_values", "id_range"} & set(kinds)
    assert {"gone", "maybe", "null", "dest", "a.b-c"}.isdisjoint(table.expectations["never_null"].not_null or [])
    assert all(rule.on_violation == "warn" for rule in table.expectations.values())
    assert '      # from -20 to 29\n      n_range: {check: "n BETWEEN -25 AND 34"}\n' in text

    expectations = table.model_dump(by_alias=True, exclude_unset=True)["expectations"]
    again = {
        "pipeline": "p",
        "sources": {"t": {"format": "csv", "path": "x"}},
        "tables": {"t": {"sql": "SELECT * FROM bronze.t", "key": table.key, "expectations": expectations}},
        "dataset": {"from": "silver.t", "key": ["id"], "label": "n"},
        "training": {"task": "regression"},
    }
    result = prepare(make_context(again, "prepare.t", inputs))
    assert (result.rows_in, result.rows_out, result.notes) == (240, 240, ())
    recorded = lake.ledger.rows("ops.expectations", run_id="r1")
    assert {row["expectation"] for row in recorded} == {*expectations, "key"}
    assert all(row["passed"] for row in recorded)


def test_a_profile_is_a_table_and_wrong_names_are_one_sentence(spark, lake, suggest) -> None:
    frame = spark.createDataFrame([(1, "a"), (2, None)], "n INT, `odd.name` STRING")
    write_table(lake, frame, "silver.t")
    write_table(lake, frame.limit(0), "silver.t")
    assert yaml.safe_load(suggest()) is None
    assert "The table is empty" in suggest()
    made = profile_table(spark, lake, "silver.t", 0, ["odd.name", "n"])
    stored = [row for row in lake.ledger.rows("ops.profiles") if row["profile_id"] == made.profile_id]
    assert [
        (row["table_name"], row["table_version"], row["column_name"], row["position"], row["rows"], row["nulls"]) for row in stored
    ] == [
        ("silver.t", 0, "odd.name", 0, 2, 1),
        ("silver.t", 0, "n", 1, 2, 0),
    ]
    assert json.loads(str(stored[1]["quantiles"]))["0.5"] == 1.0
    assert json.loads(str(stored[0]["top_values"])) == [{"value": "a", "rows": 1}]
    assert len(json.loads(str(stored[1]["histogram"]))) == 20
    assert (stored[0]["is_distinct_exact"], stored[0]["histogram"]) == (True, None)
    for arguments, message in (
        (("silver.u",), r"silver\.u is not in "),
        (("silver.t", 7), r"latest version is 1"),
        (("silver.t", 0, ["odd-name"]), r"silver\.t has no column 'odd-name'; did you mean 'odd.name'\?"),
    ):
        with pytest.raises(UsageError, match=message):
            profile_table(spark, lake, *arguments)
