"""Lookups: against a search through every fact, and against pandas.merge_asof on real flights and weather."""

import pandas as pd
import pytest
from pyspark.sql import functions as F
from tests.tiers import parametrize_product

from tidemill.dataset.point_in_time import add_lookup, lookup_faults, tie_column
from tidemill.examples import write_demo_data
from tidemill.spec.models import Lookup

BY = ["plane", "day no"]


def _lookup(**keys):
    return Lookup.model_validate({"table": "silver.facts", "by": BY, "time": "seen at", **keys})


def _null_first(value):
    return (value is not None, value)


def _expected(case, *, at_most=None, known=False, ranked=False):
    """For each row the numbers of the facts that may be taken, by looking at every one."""
    numbers = {}
    for i, plane, day, time in case.rows:
        usable = [
            fact for fact in case.facts
            if None not in (plane, day, time, fact[3]) and fact[1:3] == (plane, day) and fact[3] <= time
            and (not known or (fact[4] is not None and fact[4] <= time))
            and (at_most is None or time - fact[3] <= at_most)
        ]  # fmt: skip
        order = [(fact[3], _null_first(fact[5]) if ranked else 0) for fact in usable]
        numbers[i] = {fact[0] for fact, place in zip(usable, order, strict=True) if place == max(order)}
    return numbers


@parametrize_product(("kind", "events_per_partition"), ["timestamp", "date", "whole", "fraction"], [10**6, 15])
def test_the_latest_fact_is_found_as_by_looking_at_every_one(make_case, kind, events_per_partition):
    case = make_case(kind)
    options = {
        "timestamp": ({}, {}),
        "date": ({"at_most": case.step(4)}, {"at_most": 4}),
        "whole": ({"at_most": case.step(9), "known_at": "known"}, {"at_most": 9, "known": True}),
        "fraction": ({"latest_by": "rank", "known_at": "known"}, {"known": True, "ranked": True}),
    }[kind]
    actual = add_lookup(
        case.rows_frame, case.facts_frame, "f", _lookup(**options[0]), "event at", events_per_partition=events_per_partition
    ).collect()
    expected = _expected(case, **options[1])
    assert sorted(row["id"] for row in actual) == [row[0] for row in case.rows]
    for row in actual:
        numbers = expected[row["id"]]
        assert row["number"] in numbers if numbers else row["number"] is None and row["seen at"] is None
        assert row[tie_column("f")] == (len(numbers) > 1)
    assert sum(len(numbers) > 1 for numbers in expected.values()) > 3, "the case has ties"
    assert sum(not numbers for numbers in expected.values()) > 20, "the case has rows without a fact"


def test_what_a_hash_decides_is_decided_alike_in_any_layout(make_case):
    case = make_case("date")
    results = []
    for rows, facts, events_per_partition in (
        (case.rows_frame, case.facts_frame, 10**6),
        (case.rows_frame.orderBy(F.desc("id")).coalesce(1), case.facts_frame.repartition(3, "value"), 10**6),
        (case.rows_frame.repartition(5), case.facts_frame.orderBy("rank"), 20),
    ):
        actual = (
            add_lookup(rows, facts, "f", _lookup(), "event at", events_per_partition=events_per_partition)
            .select("id", "number", tie_column("f"))
            .collect()
        )
        results.append(sorted(map(tuple, actual)))
    assert results[0] == results[1] == results[2]


def test_an_empty_table_finds_nothing_and_loses_nothing(make_case):
    case = make_case("whole", rows=30)
    actual = add_lookup(case.rows_frame, case.facts_frame.limit(0), "f", _lookup(), "event at").collect()
    assert [(row["number"], row[tie_column("f")]) for row in actual] == [(None, False)] * 30
    assert add_lookup(case.rows_frame.limit(0), case.facts_frame, "f", _lookup(), "event at").count() == 0


def test_names_that_are_there_already_get_the_prefix(spark):
    rows = spark.sql("SELECT 1 AS a, 5 AS t, 'x' AS Temp, 0 AS `split`")
    facts = spark.sql("SELECT 1 AS a, 5 AS u, 7.5 AS temp, map('k', 1) AS notes, 3 AS fold")
    lookup = _lookup(by=["a"], time="u")
    actual = add_lookup(rows, facts, "w", lookup, "t").drop(tie_column("w"))
    assert actual.columns == ["a", "t", "Temp", "split", "u", "w_temp", "notes", "w_fold"]
    assert actual.collect()[0][4:] == (5, pytest.approx(7.5), {"k": 1}, 3)
    chosen = add_lookup(rows, facts, "w", _lookup(by=["a"], time="u", columns=["temp"], prefix="at "), "t").drop(tie_column("w"))
    assert chosen.columns == ["a", "t", "Temp", "split", "at temp"]
    bronze = Lookup.model_validate({"table": "bronze.facts", "by": ["a"], "time": "u"})
    hidden = add_lookup(rows, facts.withColumn("_batch_id", F.lit(1)), "w", bronze, "t")
    assert "_batch_id" not in hidden.columns


def test_every_fault_of_the_columns_is_named(spark):
    rows = spark.sql("SELECT 1 AS a, 'x' AS b, timestamp '2013-01-01' AS t, 1 AS u")
    facts = spark.sql("SELECT 'y' AS a, 'x' AS b, 5 AS u, 'z' AS v, map(1, 1) AS m")

    def faults(**keys):
        return [str(fault) for fault in lookup_faults("w", _lookup(**keys), "t", rows, facts)]

    assert faults(by=["c"], time="w", columns=["uu"], latest_by="m") == [
        "pipeline.yml: dataset.lookups.w.by: column 'c' is not in the dataset",
        "pipeline.yml: dataset.lookups.w.by: column 'c' is not in its table",
        "pipeline.yml: dataset.lookups.w.time: column 'w' is not in its table",
        "pipeline.yml: dataset.lookups.w.latest_by: m is of type map<int,int>, which has no order",
        "pipeline.yml: dataset.lookups.w.columns: column 'uu' is not in silver.facts; did you mean 'u'?",
    ]
    assert faults(by=["a"], time="v")[0].endswith("w.by: a is of type int in the dataset and string in the table; CAST one of them")
    assert faults(by=["b"], time="v")[0].endswith("v is of type string; expected TIMESTAMP, DATE or a number: CAST it")
    assert "expected both to be times or both to be numbers" in faults(by=["b"], time="u")[0]
    rows = rows.withColumn("t", F.lit(3))
    assert faults(by=["b"], time="u", prefix="")[0].endswith("a second column 'a'; choose another `prefix`, or take fewer `columns`")


def test_flights_meet_the_weather_that_pandas_finds(spark, tmp_path):
    write_demo_data(tmp_path)
    months = [pd.read_csv(tmp_path / f"flights/2013-{month:02d}.csv.gz") for month in (1, 11)]
    flights = pd.concat(months, ignore_index=True)
    flights["at"] = pd.to_datetime(flights["time_hour"]) + pd.to_timedelta(flights["minute"], unit="m")
    flights = flights.reset_index(names="id")[["id", "origin", "at"]]
    weather = pd.read_json(tmp_path / "weather.jsonl", lines=True)[["origin", "time_hour", "temp", "wind_speed"]]
    weather["observed_at"] = pd.to_datetime(weather.pop("time_hour"))
    # Hours are left out, so that some flights have weather of hours before and some none at all.
    weather = weather[weather["observed_at"].dt.hour % 7 != 3]
    lookup = Lookup.model_validate({"table": "silver.weather", "by": ["origin"], "time": "observed_at", "at_most": "1h"})
    frames = [spark.createDataFrame(frame) for frame in (flights, weather)]
    actual = (
        add_lookup(*frames, "weather", lookup, "at", events_per_partition=5000)
        .drop(tie_column("weather"))
        .toPandas()
        .sort_values("id", ignore_index=True)
    )
    weather["observed at"] = weather["observed_at"]
    expected = pd.merge_asof(
        flights.sort_values("at"),
        weather.sort_values("observed_at"),
        left_on="at",
        right_on="observed_at",
        by="origin",
        tolerance=pd.Timedelta("1h"),
    ).sort_values("id", ignore_index=True)
    assert len(actual) == len(flights) == 27_004 + 27_268
    assert 0.05 < expected["temp"].isna().mean() < 0.2
    for frame in (actual, expected):
        frame["observed_at"] = pd.to_datetime(frame["observed_at"], utc=True)
        frame["at"] = pd.to_datetime(frame["at"], utc=True)
    pd.testing.assert_frame_equal(actual, expected[actual.columns], check_dtype=False, check_exact=True)
