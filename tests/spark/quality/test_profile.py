"""A profile says of each column what pandas says of it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import types as T

from tidemill.quality.profiling.profile import profile

SCHEMA = (
    "n INT, big BIGINT, x DOUBLE, f FLOAT, price DECIMAL(10,2), word STRING, flag BOOLEAN, day DATE, at TIMESTAMP, local TIMESTAMP_NTZ, "
    "tags ARRAY<STRING>, more MAP<STRING,INT>, raw BINARY, pair STRUCT<a: INT>, `odd, name` INT, nothing STRING"
)


def rows() -> list[tuple]:
    """300 rows; every 7th value of a column that has nulls is one."""
    rng = np.random.default_rng(3)
    found = []
    for i in range(300):
        known = i % 7 != 0
        found.append(
            (
                int(rng.integers(-5, 20)) if known else None,
                int(2**53 + rng.integers(0, 1000)),
                [float("nan"), float("inf"), -0.0, 0.0, float("-inf")][i] if i < 5 else float(rng.normal()),
                float(np.float32(rng.normal())),
                Decimal(int(rng.integers(-100, 10_000))) / 100,
                ["", "a", "bb", "日本", None][int(rng.integers(0, 5))],
                bool(i % 3) if known else None,
                date(2013, 1, 1 + i % 28) if known else None,
                datetime(2013, 1, 1 + i % 28, i % 24, tzinfo=UTC),
                datetime(2013, 1, 1, i % 24, 0, 0, i),
                ["t"] * (i % 4) if known else None,
                {str(key): key for key in range(i % 3)},
                bytes(i % 5),
                (i,) if known else None,
                i,
                None,
            )
        )
    return found


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame(rows(), SCHEMA).repartition(3)


@pytest.fixture(scope="module")
def pandas(frame) -> pd.DataFrame:
    return pd.DataFrame(rows(), columns=frame.columns)


@pytest.fixture(scope="module")
def profiles(frame) -> dict:
    return {each.column: each for each in profile(frame)}


def test_counts_distinct_and_frequent_values(profiles, pandas, frame) -> None:
    for field in frame.schema.fields:
        each, values = profiles[field.name], pandas[field.name]
        nulls = values.isna().sum() - (1 if field.name == "x" else 0)  # pandas takes a NaN for a null
        assert (each.rows, each.nulls, each.type) == (300, nulls, field.dataType.simpleString())
        if isinstance(field.dataType, T.ArrayType | T.MapType | T.BinaryType | T.StructType):
            assert (each.distinct, each.top_values) == (None, None)
            continue
        counts = values.value_counts(dropna=field.name != "x")
        assert each.distinct == len(counts), field.name
        assert [n for _, n in each.top_values] == sorted(counts, reverse=True)[:25], field.name
        assert each.is_exact
    assert dict(profiles["word"].top_values) == pandas["word"].value_counts().to_dict()
    assert profiles["flag"].top_values[0] == ("true", pandas["flag"].sum())
    assert dict(profiles["x"].top_values)["0.0"] == 2
    assert profiles["odd, name"].top_values[:3] == (("0", 1), ("1", 1), ("10", 1))


def test_numbers(profiles, pandas) -> None:
    for name in ("n", "big", "x", "f", "price", "odd, name"):
        values = pandas[name].dropna().astype(float)
        finite = values[np.isfinite(values)]
        summary = profiles[name].summary
        assert float(summary.min) == pytest.approx(finite.min(), rel=1e-6)
        assert float(summary.max) == pytest.approx(finite.max(), rel=1e-6)
        assert summary.mean == pytest.approx(finite.mean())
        assert summary.stddev == pytest.approx(finite.std(), rel=1e-2 if name == "big" else 1e-6)  # near 2^53 doubles are whole numbers
        assert (summary.zeros, summary.negatives) == ((values == 0).sum(), (values < 0).sum())
        assert summary.not_finite == (3 if name == "x" else 0)
        # 300 rows are fewer than the accuracy: the quantiles are exact, the least value with so many rows up to it.
        expected = [np.quantile(finite, share, method="inverted_cdf") for share in summary.quantiles]
        assert list(summary.quantiles.values()) == pytest.approx(expected)
        bins = profiles[name].histogram
        edges = [*[each.low for each in bins], bins[-1].high]
        assert edges == pytest.approx(np.linspace(finite.min(), finite.max(), 21))
        assert [each.rows for each in bins] == list(np.histogram(finite, edges)[0]), name
    assert profiles["big"].summary.max == str(pandas["big"].max())
    assert profiles["price"].summary.min == str(pandas["price"].min())


def test_texts_instants_and_nested_values(profiles, pandas) -> None:
    word = profiles["word"].summary
    lengths = pandas["word"].dropna().str.len()
    assert (word.empty, word.min, word.max) == ((pandas["word"] == "").sum(), "", "日本")
    assert (word.min_length, word.max_length, word.mean_length) == (0, 2, pytest.approx(lengths.mean()))
    for name, count in (("day", 1), ("at", 1), ("local", 1)):
        each = profiles[name]
        values = pd.to_datetime(pandas[name].dropna())
        assert pd.Timestamp(each.summary.min) == values.min().tz_localize(None)
        assert pd.Timestamp(each.summary.max) == values.max().tz_localize(None)
        median = values.sort_values().iloc[(len(values) + 1) // 2 - 1]
        assert pd.Timestamp(each.summary.quantiles[0.5]) == median.tz_localize(None)
        assert sum(b.rows for b in each.histogram) == len(values)
        assert each.histogram[0].rows >= count
        assert each.summary.mean is None
    assert len(profiles["day"].summary.min) == len("2013-01-01")
    tags = pandas["tags"].dropna().str.len()
    summary = profiles["tags"].summary
    assert (summary.min_length, summary.max_length, summary.mean_length) == (0, 3, pytest.approx(tags.mean()))
    assert (profiles["more"].summary.max_length, profiles["raw"].summary.max_length, profiles["pair"].summary.max_length) == (2, 4, None)
    assert profiles["tags"].histogram is None
    assert profiles["flag"].summary.min == "false"
    nothing = profiles["nothing"]
    assert (nothing.nulls, nothing.distinct, nothing.top_values, nothing.summary.min) == (300, 0, (), None)


@pytest.mark.long("profiles a table of many rows twice")
def test_beyond_the_size_values_are_estimated_and_said_to_be(frame, profiles, spark) -> None:
    found = {each.column: each for each in profile(frame, exact_cells=10)}
    for name, each in found.items():
        assert not each.is_exact
        exact = profiles[name]
        assert (each.summary.mean, each.histogram) == (exact.summary.mean, exact.histogram) or name == "x"
        if exact.distinct is None:
            assert each.distinct is None
        elif name != "x":
            assert each.distinct == pytest.approx(exact.distinct, rel=0.05)
            if len(exact.top_values) < 25:
                assert dict(each.top_values) == dict(exact.top_values)
    wide = spark.range(4).selectExpr(*[f"id * {place} AS c{place}" for place in range(60)])
    many = profile(wide)
    assert [each.summary.max for each in many] == [str(3 * place) for place in range(60)]
    assert [each.distinct for each in many] == [1, *[4] * 59]
    assert [len(each.histogram) for each in many] == [1, *[20] * 59]
    [empty] = profile(spark.range(0))
    assert (empty.rows, empty.distinct, empty.summary.max, empty.histogram) == (0, 0, None, None)
