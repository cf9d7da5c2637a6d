"""Expectations of every kind, held against the same rows in pandas: what is kept, counted, refused, and what is written about it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from tests.spark.tables import read_rows, write_table

from tidemill.errors import ExpectationRefused, StepError
from tidemill.lake import Lake
from tidemill.steps.prepare.step import prepare

NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)


def flights() -> pd.DataFrame:
    """200 rows with what goes wrong in life: unknown airports, nulls, repeats, several versions of a row."""
    rng = np.random.default_rng(11)
    n = 200
    frame = pd.DataFrame(
        {
            "id": np.arange(n),
            "dest": rng.choice(["BOS", "ORD", "SEA", "ZZZ", None], n, p=[0.4, 0.3, 0.2, 0.05, 0.05]),
            "tail": rng.choice([f"N{i}" for i in range(120)], n),
            "day": rng.integers(1, 4, n),
            "distance": rng.integers(100, 3000, n),
            "speed": rng.normal(400, 30, n).round(3),
        }
    )
    frame.loc[rng.choice(n, 10, replace=False), "tail"] = None
    frame["seen_at"] = [NOON - timedelta(minutes=int(minutes)) for minutes in rng.integers(0, 600, n)]
    return frame


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return flights()


@pytest.fixture(scope="module")
def template(spark, data, tmp_path_factory) -> Lake:
    """bronze.flights, and bronze.airports with airports twice, so that a join by itself would multiply the rows."""
    lake = Lake(str(tmp_path_factory.mktemp("template") / "lake"))
    plain = data.assign(seen_at=data["seen_at"].map(datetime.isoformat))
    rows = [tuple(None if pd.isna(cell) else cell for cell in row) for row in plain.astype(object).itertuples(index=False)]
    schema = "id BIGINT, dest STRING, tail STRING, day INT, distance BIGINT, speed DOUBLE, seen_at STRING"
    frame = spark.createDataFrame(rows, schema).selectExpr("* EXCEPT (seen_at)", "CAST(seen_at AS TIMESTAMP) AS seen_at")
    airports = spark.createDataFrame([("BOS",), ("ORD",), ("SEA",), (None,), ("BOS",), ("SEA",)], "faa STRING")
    write_table(lake, frame.coalesce(1), "bronze.flights")
    write_table(lake, airports.coalesce(1), "bronze.airports")
    return lake


@pytest.fixture
def bronze(template, lake) -> dict[str, int]:
    """The two tables in the test's own lake."""
    shutil.copytree(template.root, lake.root)
    return {"bronze.flights": 0, "bronze.airports": 0}


@pytest.fixture
def run(make_context, bronze):
    """Prepare silver.t."""

    def _run(expectations: dict, run_id: str = "r1", sql: str = "SELECT * FROM bronze.flights", **table: object):
        spec = {
            "pipeline": "p",
            "sources": {name: {"format": "csv", "path": "x.csv"} for name in ("flights", "airports")},
            "tables": {"t": {"sql": sql, "expectations": expectations, **table}},
            "dataset": {"from": "silver.t", "key": ["id"], "label": "speed"},
            "training": {"task": "regression"},
        }
        return prepare(make_context(spec, "prepare.t", bronze, run_id))

    return _run


def recorded(lake, run_id: str = "r1") -> dict[str, dict]:
    return {str(row["expectation"]): row for row in lake.ledger.rows("ops.expectations", run_id=run_id)}


ALL = {
    "far": {"check": "distance > 150", "on_violation": "drop"},
    "known": {"not_null": ["dest", "tail"]},
    "airport": {"in_reference": "bronze.airports.faa", "column": "dest", "on_violation": "quarantine", "at_most": 60},
    "once": {"unique": ["tail", "day"], "on_violation": "quarantine"},
    "enough": {"row_count": {"at_least": 100, "at_most": 200}, "on_violation": "fail"},
    "fresh": {"freshness": {"column": "seen_at", "within": "2h", "of": "2013-06-01T13:00:00Z"}, "on_violation": "fail"},
    "whole": {"sum": {"column": "distance", "equals": "bronze.flights.distance"}},
    "miles": {"sum": {"column": "distance * 2 + 0 * speed", "equals": 1, "tolerance": 0.5}},
    "alike": {"distribution": {"column": "dest"}},
}


def test_rows_and_table_are_judged_as_pandas_judges_them(run, lake, spark, data) -> None:
    result = run(ALL, key=["id"])
    near = data["distance"] <= 150
    unknown_airport = data["dest"].notna() & ~data["dest"].isin(["BOS", "ORD", "SEA"])
    left = data[~near & ~unknown_airport]
    named = left[left["tail"].notna()]
    groups = named.groupby(["tail", "day"]).size()
    repeats = int((groups - 1).sum())
    assert repeats > 5
    kept = len(left) - repeats
    quarantined = int(unknown_airport.sum()) + repeats
    dropped = int((near & ~unknown_airport).sum())
    assert (result.rows_in, result.rows_out, result.rows_quarantined, result.rows_dropped) == (200, kept, quarantined, dropped)

    silver = pd.DataFrame([row.asDict() for row in lake.read(spark, "silver.t").collect()])
    assert set(silver["id"]) <= set(left["id"])
    once = silver[silver["tail"].notna()].groupby(["tail", "day"]).size()
    assert (once == 1).all()
    assert set(once.index) == set(groups.index)
    refused = [(json.loads(row["raw"])["id"], row["rules"]) for row in read_rows(lake, "silver.t_quarantine")]
    assert {id_ for id_, rules in refused if "airport" in rules} == set(data[unknown_airport]["id"])
    assert {id_ for id_, _ in refused} | set(silver["id"]) | set(data[near & ~unknown_airport]["id"]) == set(data["id"])

    rows = recorded(lake)
    nulls = int((data["dest"].isna() | data["tail"].isna()).sum())
    failed = {"key": 0, "far": near.sum(), "known": nulls, "airport": unknown_airport.sum(), "once": repeats}
    assert {name: rows[name]["rows_failed"] for name in failed} == failed
    assert [rows[name]["kind"] for name in ALL] == ["check", "not_null", "in_reference", "unique", "row_count", "freshness", "sum", "sum",
                                                    "distribution"]  # fmt: skip
    assert rows["known"]["value"] == nulls / 200
    assert rows["airport"]["passed"]
    assert rows["airport"]["expected"] == "dest is in bronze.airports.faa, broken by at most 60 rows"
    total = silver["distance"].sum()
    newest = (NOON + timedelta(hours=1) - silver["seen_at"].max().to_pydatetime().replace(tzinfo=UTC)).total_seconds()
    assert {name: rows[name]["value"] for name in ("enough", "fresh", "whole", "alike")} == {
        "enough": kept, "fresh": newest, "whole": total, "alike": None,
    }  # fmt: skip
    assert rows["miles"]["value"] == pytest.approx(2 * total)
    assert {name: rows[name]["passed"] for name in ("enough", "fresh", "whole", "miles", "alike")} == {
        "enough": True, "fresh": True, "whole": False, "miles": False, "alike": True,
    }  # fmt: skip
    assert rows["enough"]["rows_checked"] == kept
    assert rows["enough"]["rows_failed"] is None
    told = "\n".join(result.notes)
    assert f"silver.t: 'whole' wants sum of distance = {data['distance'].sum()} (bronze.flights.distance): it is {total}" in told
    assert f"{repeats} of 200 rows break 'once' (quarantined)" in told


def test_a_refused_table_stays_and_the_message_says_where_why_and_at_which_version(run, lake) -> None:
    first = run({"known": {"not_null": "tail", "on_violation": "quarantine"}}).outputs["silver.t"]
    assert lake.version("silver.t_quarantine") == 0
    fail = {"on_violation": "fail"}
    broken = {
        "airport": {"in_reference": "bronze.airports.faa", "column": "dest", "at_most": 3, **fail},
        "once": {"unique": "tail", "on_violation": "drop", "at_most": 0.01},
        "enough": {"row_count": {"at_least": 1000}, **fail},
        "fresh": {"freshness": {"column": "seen_at", "within": "30d"}, **fail},
        "whole": {"sum": {"column": "distance", "equals": 12}, **fail},
        "alike": {"distribution": {"column": "dest", "at_most": 0.1}, **fail},
    }
    with pytest.raises(ExpectationRefused) as raised:
        run(broken, "r2", sql="SELECT * EXCEPT (dest), 'ZZZ' AS dest FROM bronze.flights", key=["id"])
    told = str(raised.value).splitlines()
    assert len(told) == 6
    assert all(f"silver.t stays at version {first}; correct the data upstream" in line for line in told)
    assert "'airport' (dest is in bronze.airports.faa) is broken by 200 of 200 rows (100.00%, at most 3 rows allowed)" in told[0]
    assert '{"id":' in told[0]
    assert '"dest":"ZZZ"}' in told[0]
    assert '"tail":"N' in told[1]
    assert "'enough' (row_count: at least 1000 rows) does not hold: it holds " in told[2]
    assert "'fresh' (freshness: seen_at no older than 30d at 2" in told[3]
    assert "the newest is 2013-06-01 1" in told[3]
    assert "'whole' (sum: sum of distance = 12) does not hold" in told[4]
    assert "'alike' (distribution: psi of dest at most 0.1 against version 0) does not hold: it is " in told[5]
    assert (lake.version("silver.t"), lake.version("silver.t_quarantine")) == (first, 0)
    assert {name: row["passed"] for name, row in recorded(lake, "r2").items()} == {"key": True, **dict.fromkeys(broken, False)}


def test_the_distance_from_the_last_version_is_the_index_over_its_deciles_and_categories(run, lake, data) -> None:
    rules = {"speed": {"distribution": {"column": "speed", "at_most": 10}}, "dest": {"distribution": {"column": "dest", "at_most": 10}}}
    run({}, sql="SELECT * FROM bronze.flights WHERE id < 150")
    run(rules, "r2", sql="SELECT * EXCEPT (speed), speed + 20 AS speed FROM bronze.flights WHERE day < 3")

    before, after = data[data["id"] < 150], data[data["day"] < 3]
    edges = np.percentile(before["speed"], np.arange(10, 100, 10), method="inverted_cdf")

    def index(a: pd.Series, b: pd.Series) -> float:
        bins = sorted({*a, *b})
        p, q = (np.maximum([(values == one).mean() for one in bins], 1e-4) for values in (a, b))
        return float(((q - p) * np.log(q / p)).sum())

    binned = [pd.Series(np.searchsorted(edges, values, side="left")) for values in (before["speed"], after["speed"] + 20)]
    rows = recorded(lake, "r2")
    assert rows["speed"]["value"] == pytest.approx(index(*binned), rel=1e-9)
    assert rows["dest"]["value"] == pytest.approx(index(before["dest"].fillna("none"), after["dest"].fillna("none")), rel=1e-9)
    assert rows["speed"]["value"] > 0.2


@pytest.mark.long("prepares a table several times")
def test_the_latest_row_of_a_key_stays(run, lake, spark, data) -> None:
    late = {"odd": {"check": "distance < 2500", "on_violation": "quarantine"}, "once": {"unique": ["id"], "on_violation": "drop"}}
    sql = "SELECT * EXCEPT (day, id), nullif(day, 3) AS day, id % 60 AS id FROM bronze.flights"
    result = run(late, sql=sql, key=["id"], latest_by="day")
    good = data[data["distance"] < 2500].assign(id=data["id"] % 60, day=data["day"].where(data["day"] != 3))
    latest = good.groupby("id")["day"].max()  # null where the key has no other
    silver = pd.DataFrame([row.asDict() for row in lake.read(spark, "silver.t").collect()]).set_index("id")["day"]
    pd.testing.assert_series_equal(silver.sort_index().astype(float), latest.sort_index().astype(float))
    refused = 200 - len(good)
    older = len(good) - len(latest)
    assert (result.rows_in, result.rows_out, result.rows_quarantined, result.rows_dropped) == (200, len(latest), refused, older)
    assert any(f"{older} rows are dropped: a row of the same key has a later day" in note for note in result.notes)
    # Ties of `day` are broken by the row itself, not by where it lies.
    first = {tuple(row.values()) for row in read_rows(lake, "silver.t")}
    run(late, "r2", sql=sql + " DISTRIBUTE BY speed SORT BY distance", key=["id"], latest_by="day")
    assert {tuple(row.values()) for row in read_rows(lake, "silver.t")} == first


def test_rules_that_do_not_fit_their_columns_are_one_sentence(run) -> None:
    for rule, message in (
        (
            {"not_null": "tial"},
            r"silver\.t: expectation 'e' \(tial IS NOT NULL\): there is no column 'tial'; did you mean 'tail'\? it has id, ",
        ),
        ({"in_reference": "bronze.airports.fa", "column": "dest"}, r"bronze\.airports: there is no column 'fa'; did you mean 'faa'\?"),
        ({"in_reference": "bronze.airports.faa", "column": "day"}, "day is INT and the reference STRING; cast one of them"),
        (
            {"in_reference": "bronze.planes.tail", "column": "tail"},
            r"bronze\.planes is no input of this step; known here: bronze\.airports",
        ),
        ({"freshness": {"column": "day", "within": "1d"}}, "day is INT; a date or an instant was expected"),
        ({"sum": {"column": "dest", "equals": 1}}, "dest is STRING; a number was expected"),
        ({"sum": {"column": "distanc + 1", "equals": 1}}, "`distanc` cannot be resolved"),
        ({"sum": {"column": "day", "equals": "bronze.airports.faa"}}, "faa is STRING; a number was expected"),
        ({"distribution": {"column": "seen_at"}}, "seen_at is TIMESTAMP; a number, a text or a boolean was expected"),
    ):
        with pytest.raises(StepError, match=message) as raised:
            run({"e": rule})
        assert str(raised.value).startswith("silver.t: expectation 'e' (")
        assert "\n" not in str(raised.value)
    with pytest.raises(StepError, match=r"silver\.t: `latest_by`: there is no column 'dya'; did you mean 'day'\?"):
        run({}, key=["id"], latest_by="dya")
