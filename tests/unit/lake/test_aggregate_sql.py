"""Aggregate expressions: which are formulas of sums, and that the formula of the sums is what the aggregates give."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from tidemill.errors import UsageError
from tidemill.lake.aggregate_sql import parse_aggregate


class CountIf:
    """SQLite has no ``count_if``."""

    def __init__(self) -> None:
        self.count = 0

    def step(self, condition: int | None) -> None:
        self.count += bool(condition)

    def finalize(self) -> int:
        return self.count


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"x": rng.normal(size=200), "weight": rng.random(200)})
    rows["label"], rows["prediction"] = rng.random(200) < 0.5, rng.random(200) < 0.5
    rows.loc[::7, "x"] = np.nan
    with sqlite3.connect(":memory:") as connection:
        rows.to_sql("given", connection, index=False)
        connection.create_function("try_divide", 2, lambda a, b: None if a is None or not b else a / b, deterministic=True)
        connection.create_aggregate("count_if", 1, CountIf)
        yield connection


@pytest.mark.parametrize(
    "text",
    [
        "sum(CASE WHEN prediction AND label THEN 5 ELSE -1 END)",
        "avg(x) - 2 * count(*)",
        "sum(x * weight) / sum(weight)",
        "1.0 * count_if(label = prediction) / count(*)",
        "-avg(abs(x)) + sqrt(avg(x * x))",
        "count(x) + sum(x)",
    ],
)
def test_formula_of_the_sums_is_the_aggregate(database, text):
    [(expected,)] = database.execute(f"SELECT {text} FROM given")
    parsed = parse_aggregate(text)
    assert parsed.is_additive
    terms = ", ".join(f"sum({term}) AS term_{place}" for place, term in enumerate(parsed.terms))
    [(actual,)] = database.execute(f"SELECT {parsed.formula} FROM (SELECT {terms} FROM given)")
    assert actual == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["max(x)", "percentile(x, 0.5)", "count(DISTINCT x)", "sum(x) FILTER (WHERE y > 1)", "stddev(x)", "bool_or(x)"]
)
def test_other_aggregates_have_no_terms(text):
    parsed = parse_aggregate(text)
    assert not parsed.is_additive
    assert "x" in parsed.columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x + 1", "aggregates no rows"),
        ("sum(x) + y", "the column y is outside of sum"),
        ("1 +", "does not parse"),
        ("sum(x) OVER (PARTITION BY y)", "is not one expression over the rows"),
        ("SELECT 1", "is not one expression over the rows"),
        ("sum((SELECT max(a) FROM silver.flights))", "is not one expression over the rows"),
    ],
)
def test_what_is_no_aggregate_of_the_rows_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_aggregate(text)


def test_a_sum_of_no_values_is_null(database):
    [(actual,)] = database.execute(f"SELECT {parse_aggregate('sum(x)').formula} FROM (SELECT 0.0 AS term_0, 0 AS term_1)")
    assert actual is None
