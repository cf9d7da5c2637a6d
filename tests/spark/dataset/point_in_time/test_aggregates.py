"""Aggregates: against a look at every fact, and against pandas on the flights an aircraft flew before."""

import math
import statistics
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from tests.tiers import parametrize_product

from tidemill.dataset.point_in_time import add_aggregates, aggregate_faults
from tidemill.examples import write_demo_data
from tidemill.spec.models import Aggregate

BY = ["plane", "day no"]
FEATURES = {
    "n": "count",
    "ranks": "count(rank)",
    "values": "count(value)",
    "high": "avg(value > 50)",
    "total": "sum(rank)",
    "amount": "sum(value)",
    "mean": "avg(value)",
    "low": "min(value)",
    "top": "max(rank)",
    "spread": "stddev(value)",
}


def _block(**keys):
    return Aggregate.model_validate({"over": "silver.facts", "by": BY, "time": "seen at", "windows": ["1d"], "features": FEATURES, **keys})


def _figures(facts):
    """The features of a list of facts, from Python's own arithmetic."""
    ranks = [fact[5] for fact in facts if fact[5] is not None]
    values = [fact[6] for fact in facts if fact[6] is not None and math.isfinite(fact[6])]
    return {
        "n": len(facts),
        "ranks": len(ranks),
        "values": len(values),
        "high": statistics.fmean(value > 50 for value in values) if values else None,
        "total": sum(ranks) if ranks else None,
        "amount": math.fsum(values) if values else None,
        "mean": statistics.fmean(values) if values else None,
        "low": min(values, default=None),
        "top": max(ranks, default=None),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
    }


@parametrize_product(("kind", "events_per_partition"), ["timestamp", "date", "whole", "fraction"], [10**6, 20])
def test_each_window_holds_what_was_known_then(make_case, kind, events_per_partition):
    known = kind in ("timestamp", "fraction")
    case = make_case(kind)
    facts = case.facts_frame.selectExpr("*", "CASE WHEN isnan(value) THEN NULL ELSE value END > 50 AS unused").drop("unused")
    features = {**FEATURES, "high": "avg(CASE WHEN NOT isnan(value) AND value < 1e300 THEN value > 50 END)"}
    block = _block(windows=[case.step(2), case.step(30)], known_at="known" if known else None, features=features)
    assert aggregate_faults("", block, "event at", case.rows_frame, facts) == []
    frame = add_aggregates(case.rows_frame, facts, "", block, "event at", events_per_partition=events_per_partition)
    labels = {width: str(case.step(width)).replace(".", "_") for width in (2, 30)}
    assert frame.columns[4:] == [f"{feature}_{label}" for feature in FEATURES for label in labels.values()]
    actual = {row["id"]: row for row in frame.collect()}
    assert sorted(actual) == [row[0] for row in case.rows]
    empty = 0
    for i, plane, day, time in case.rows:
        for width, label in labels.items():
            inside = [
                fact for fact in case.facts
                if None not in (plane, day, time, fact[3]) and fact[1:3] == (plane, day) and time - width <= fact[3] < time
                and (not known or (fact[4] is not None and fact[4] <= time))
            ]  # fmt: skip
            empty += not inside
            for feature, value in _figures(inside).items():
                shown = actual[i][f"{feature}_{label}"]
                if None in (plane, day, time):
                    assert shown is None
                elif value is None or shown is None:
                    assert shown is value is None, (i, feature, label)
                else:
                    assert shown == pytest.approx(value, rel=1e-11, abs=1e-8), (i, feature, label)
    assert 50 < empty < 2 * len(case.rows) - 200


def test_what_leaves_a_window_leaves_nothing_behind(spark):
    # 1e17 and 0.1 as doubles: added and taken away again, the small one would be gone.
    facts = spark.createDataFrame([(1, 0, 1e17, 10**17), (1, 10, 0.1, 3), (1, 11, 0.1, 3)], "k INT, t INT, x DOUBLE, i BIGINT")
    rows = spark.createDataFrame([(1, 5), (1, 12), (1, 30)], "k INT, t INT")
    features = {"s": "sum(x)", "i": "sum(i)", "d": "stddev(i)", "m": "avg(CAST(i AS DECIMAL(20, 2)))"}
    actual = add_aggregates(rows, facts, "", _block(by=["k"], time="t", windows=[5], features=features), "t").orderBy("t").collect()
    assert [row["i_5"] for row in actual] == [10**17, 6, None]
    assert [row["m_5"] for row in actual] == [1e17, 3.0, None]
    assert [row["s_5"] for row in actual] == [1e17, pytest.approx(0.2, rel=1e-8), None]
    assert [row["d_5"] for row in actual] == [None, 0.0, None]
    steady = spark.createDataFrame([(1, t, 39.02) for t in range(50)] + [(1, -3, 7000.3)], "k INT, t INT, x DOUBLE")
    probes = spark.createDataFrame([(1, 50)], "k INT, t INT")
    block = _block(by=["k"], time="t", windows=[50], features={"d": "stddev(x)", "s": "sum(x)"})
    [row] = add_aggregates(probes, steady, "", block, "t").collect()
    assert (row["d_50"], row["s_50"]) == (0.0, pytest.approx(50 * 39.02, rel=1e-13))


def test_a_deviation_keeps_its_digits_beside_great_values(spark):
    # Each key has its deviation from Python's exact fractions; elsewhere the column holds 1e15.
    rng = np.random.default_rng(11)
    values = {
        "small": (5 + rng.normal(0, 1, 40)).tolist(),
        "tiny": (0.25 + rng.normal(0, 1e-3, 40)).tolist(),
        "far": (1e9 + rng.normal(0, 1e-2, 40)).tolist(),
        "half": [2.0**46 * 2.0**-42 + step * 1e-9 for step in range(-20, 20)],  # around the border of the halves
        "great": (1e15 * rng.normal(0, 1, 40)).tolist(),
        "equal": [123456.789] * 40,
    }
    facts = [(key, place, value, int(value), f"{value:.2f}") for key, some in values.items() for place, value in enumerate(some)]
    facts += [(key, 2000, 1e15, 10**15, "1000000000000000.00") for key in values]  # in each key too, after the requested windows
    frame = spark.createDataFrame(facts, "k STRING, t INT, x DOUBLE, i BIGINT, text STRING").selectExpr(
        "*", "CAST(text AS DECIMAL(30, 2)) AS d"
    )
    rows = spark.createDataFrame([(key, time) for key in values for time in (40, 2050)], "k STRING, t INT")
    features = {"x": "stddev(x)", "i": "stddev(i)", "d": "stddev(d)"}
    block = _block(by=["k"], time="t", windows=[40, 3000], features=features)
    actual = {(row["k"], row["t"]): row for row in add_aggregates(rows, frame, "", block, "t").collect()}
    for key, some in values.items():
        for column, exact in {"x": some, "i": [int(value) for value in some], "d": [Decimal(f"{value:.2f}") for value in some]}.items():
            near = statistics.pstdev(map(Fraction, exact)) * math.sqrt(40 / 39)
            assert actual[key, 40][f"{column}_40"] == pytest.approx(near, rel=1e-9), (key, column)
            whole = statistics.stdev([*map(Fraction, exact), Fraction(10**15)])
            assert actual[key, 2050][f"{column}_3000"] == pytest.approx(whole, rel=1e-12), (key, column)


def test_what_cancels_out_is_nothing(spark):
    facts = spark.createDataFrame([(1, 0, -3.0), (1, 1, 1.0), (1, 2, 2.0), (1, 3, 1000.7)], "k INT, t INT, x DOUBLE")
    rows = spark.createDataFrame([(1, 3)], "k INT, t INT")
    [row] = add_aggregates(rows, facts, "", _block(by=["k"], time="t", windows=[5], features={"s": "sum(x)"}), "t").collect()
    assert row["s_5"] == 0.0


def test_names_and_faults(spark):
    rows = spark.sql("SELECT 1 AS a, 2 AS n_1d, timestamp '2013-01-01' AS t")
    facts = spark.sql("SELECT 1 AS a, timestamp '2013-01-01' AS t, 'x' AS word, 5 AS number")
    keys = {"by": ["a"], "time": "t"}
    actual = add_aggregates(rows, facts, "past", _block(**keys, windows=["1 d", "36h"], features={"n": "count"}), "t")
    assert actual.columns == ["a", "n_1d", "t", "past_n_1d", "n_36h"]

    def faults(name="", **more):
        return [str(fault) for fault in aggregate_faults(name, _block(**keys, **more), "t", rows, facts)]

    assert faults(features={"x": "avg(numbr)"}) == [
        "pipeline.yml: dataset.aggregates.features.x: column 'numbr' is not in silver.facts; did you mean 'number'?"
    ]
    assert faults("past", features={"x": "sum(word)"}) == [
        "pipeline.yml: dataset.aggregates.past.features.x: sum needs a number, and word is of type string; CAST it"
    ]
    assert "a second column 'n_1d'; rename the feature" in faults(features={"n": "count"})[0]
    assert faults(features={"x": "max(word)"}) == []


@pytest.mark.long("aggregates a month of real flights")
def test_an_aircraft_knows_its_past_as_pandas_does(spark, tmp_path):
    write_demo_data(tmp_path)
    flights = pd.read_csv(tmp_path / "flights/2013-03.csv.gz")
    flights["at"] = pd.to_datetime(flights["time_hour"]).dt.tz_localize(None) + pd.to_timedelta(flights["minute"], unit="m")
    flights["arrived_at"] = flights["at"] + pd.to_timedelta(flights["dep_delay"] + flights["air_time"] + 30, unit="m")
    flights = flights[flights["at"] < "2013-03-12"].reset_index(names="id")[["id", "tailnum", "origin", "at", "arrived_at", "arr_delay"]]
    features = {"flights": "count", "mean_delay": "avg(arr_delay)", "worst": "max(arr_delay)"}
    block = _block(by=["tailnum"], time="at", known_at="arrived_at", windows=["1d", "7d"], features=features)
    frame = spark.createDataFrame(
        flights.astype(object).where(flights.notna(), None),
        "id INT, tailnum STRING, origin STRING, at TIMESTAMP, arrived_at TIMESTAMP, arr_delay DOUBLE",
    )
    rows = frame.select("id", "tailnum", "at")
    actual = add_aggregates(rows, frame, "", block, "at").toPandas().set_index("id").sort_index()
    assert len(actual) == len(flights) > 9000
    for _, plane in flights.dropna(subset="tailnum").groupby("tailnum"):
        past = plane.dropna(subset="arrived_at")
        time, known = past["at"].to_numpy(), past["arrived_at"].to_numpy()
        now = plane["at"].to_numpy()[:, None]
        for days in (1, 7):
            is_in = (time < now) & (time >= now - np.timedelta64(days, "D")) & (known <= now)
            delays = np.where(is_in, past["arr_delay"].to_numpy(), np.nan)
            counts = is_in.sum(axis=1)
            mine = actual.loc[plane["id"]]
            np.testing.assert_array_equal(mine[f"flights_{days}d"], counts)
            has = (~np.isnan(delays)).any(axis=1)
            if has.any():
                np.testing.assert_allclose(mine[f"mean_delay_{days}d"][has], np.nanmean(delays[has], axis=1), rtol=1e-12)
                np.testing.assert_array_equal(mine[f"worst_{days}d"][has], np.nanmax(delays[has], axis=1))
            assert mine[f"mean_delay_{days}d"][~has].isna().all()
    lost = flights.loc[flights["tailnum"].isna(), "id"]
    assert len(lost) > 50
    assert actual.loc[lost, "flights_1d"].isna().all()
