"""The population stability index against numpy on the same rows."""

import math

import numpy as np
import pandas as pd
import pytest

from tidemill.errors import StepError
from tidemill.monitoring.drift import level, measure_drift
from tidemill.monitoring.methods import DriftMethod
from tidemill.monitoring.methods import population_stability_index as psi


def _psi(p, q):
    p, q = np.maximum(p / p.sum(), 1e-4), np.maximum(q / q.sum(), 1e-4)
    return float(((q - p) * np.log(q / p)).sum())


def _numeric(reference, scored):
    """Deciles of the reference by numpy, counts by numpy; nulls in a bin of their own."""
    known = reference[~np.isnan(reference)]
    edges = np.unique(np.percentile(known, np.arange(10, 100, 10), method="inverted_cdf"))

    def counts(values):
        bins = np.searchsorted(edges, values[~np.isnan(values)], side="left")
        return np.append(np.bincount(bins, minlength=len(edges) + 1), np.isnan(values).sum())

    return _psi(counts(reference), counts(scored))


def test_by_hand():
    # Shares 1/2, 1/2 against 1/4, 3/4: (-1/4) ln(1/2) + (1/4) ln(3/2) = (1/4) ln 3.
    assert psi([5, 5], [1, 3]) == pytest.approx(math.log(3) / 4)
    assert psi([5, 5], [10, 10]) == 0
    # A value never seen before: the reference's share counts as 1e-4.
    assert psi([4, 0], [2, 2]) == pytest.approx(-0.5 * math.log(0.5) + (0.5 - 1e-4) * math.log(0.5 / 1e-4))
    assert psi([1, 2], [0, 0]) is None


def test_levels():
    assert [level(value, 0.1, 0.25) for value in (None, 0.0999, 0.1, 0.2499, 0.25)] == ["ok", "ok", "warn", "warn", "alert"]


def test_columns_agree_with_numpy(spark):
    rng = np.random.default_rng(1)
    n, m = 900, 600  # few enough for the approximate deciles to be exact
    letters = [f"v{i}" for i in range(60)]
    weights = np.array([60 - i for i in range(60)], dtype=float)
    ties = 2.0 ** -rng.integers(0, 6, size=n)  # deciles coincide
    frames = []
    for rows, shift in ((n, 0.0), (m, 0.5)):
        wide = rng.normal(size=rows) + shift
        wide[: rows // 10] = np.nan
        p = weights ** (1 + shift)
        frames.append(
            pd.DataFrame(
                {
                    "wide": wide,
                    "ties": ties[:rows],
                    "many": np.where(np.arange(rows) % 15 == 3, None, rng.choice(letters, size=rows, p=p / p.sum())),
                    "flag": rng.uniform(size=rows) < 0.3 + shift / 5,
                    "same": 1.0,
                    "seen_at": pd.Timestamp("2013-01-01"),
                }
            )
        )
    reference, scored = frames
    frame = spark.createDataFrame(scored).selectExpr("string(wide) AS wide", "ties", "many", "flag", "same", "seen_at")  # another type
    found = {d.column: d for d in measure_drift(spark.createDataFrame(reference), frame, list(reference.columns))}

    assert set(found) == {"wide", "ties", "many", "flag", "same"}
    assert {(d.rows_reference, d.rows_scored) for d in found.values()} == {(n, m)}
    for column in ("wide", "ties", "same"):
        expected = _numeric(reference[column].to_numpy(dtype=float), scored[column].to_numpy(dtype=float))
        assert found[column].value == pytest.approx(expected, abs=1e-6), column
    counts = reference["many"].value_counts()
    assert counts.iloc[49] > counts.iloc[50]  # no tie about the last place
    top = counts.index[:50]
    shares = []
    for series in (reference["many"], scored["many"]):
        known, empty = [(series == value).sum() for value in top], series.isna().sum()
        shares.append(np.array([*known, empty, len(series) - sum(known) - empty]))
    assert found["many"].value == pytest.approx(_psi(*shares), abs=1e-9)
    flags = [np.array([(~f["flag"]).sum(), f["flag"].sum()]) for f in frames]
    assert found["flag"].value == pytest.approx(_psi(*flags), abs=1e-9)


def test_nothing_scored_and_nothing_to_watch(spark):
    frame = spark.createDataFrame([(1.0, "a"), (2.0, None)], "x double, c string")
    found = measure_drift(frame, frame.where("x > 5"), ["x", "c"])
    assert [(d.value, d.rows_reference, d.rows_scored) for d in found] == [(None, 2, 0), (None, 2, 0)]
    assert measure_drift(frame, frame, ["absent"]) == []


def test_a_method_of_ones_own(spark):
    frame = spark.createDataFrame([("a",), ("a",), ("b",)], "c string")
    seen = []
    method = DriftMethod("rows", lambda reference, scored: seen.append(sorted(zip(reference, scored, strict=True))) or 7)
    (drift,) = measure_drift(frame, frame.where("c = 'b'"), ["c"], method)
    assert (drift.value, drift.rows_reference, drift.rows_scored) == (7.0, 3, 1)
    assert seen == [[(1, 1), (2, 0)]]
    with pytest.raises(StepError, match="the drift method broken gives 'far' for c; return a finite number"):
        measure_drift(frame, frame, ["c"], DriftMethod("broken", lambda reference, scored: "far"))
    assert measure_drift(frame, frame.where("c = 'z'"), ["c"], method)[0].value is None
