"""Measures a point-in-time lookup and aggregates on made-up rows, half of which have one key, and compares every row with pandas.

    python benchmarks/point_in_time.py [--rows 10000000] [--facts 5000000] [--memory 4g] [--uncut] [--aggregates]

Half of the rows and of the facts have one key, the others one of 100,000. Prints wall seconds of Spark (the result is written as Parquet)
and of pandas.merge_asof on the same rows. `--uncut` leaves the hot key to one task, to show what cutting it into pieces saves;
`--aggregates` also measures counts and means over two windows, compared by numpy's searchsorted and cumulative sums.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.dataset.point_in_time import add_aggregates, add_lookup, tie_column
from tidemill.runtime.session import get_spark
from tidemill.spec.models import Aggregate, Lookup

YEAR = 365 * 86_400 * 1_000_000
KEYS = 100_000
LOOKUP = Lookup.model_validate({"table": "silver.facts", "by": ["place"], "time": "seen_at", "at_most": "1d", "latest_by": "number"})
BLOCK = Aggregate.model_validate(
    {"over": "silver.facts", "by": ["place"], "time": "seen_at", "windows": ["1d", "7d"], "features": {"n": "count", "mean": "avg(value)"}}
)


def main() -> None:
    """Make the rows, look them up both ways, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--facts", type=int, default=5_000_000)
    parser.add_argument("--memory", default="4g")
    parser.add_argument("--uncut", action="store_true")
    parser.add_argument("--aggregates", action="store_true")
    options = parser.parse_args()
    spark = get_spark("point-in-time", {"spark.driver.memory": options.memory})
    events = 2**40 if options.uncut else 1_000_000
    with tempfile.TemporaryDirectory() as scratch:
        rows, facts = (_made(spark, f"{scratch}/{name}", count, seed) for name, count, seed in
                       (("rows", options.rows, 1), ("facts", options.facts, 2)))  # fmt: skip
        print(f"{options.rows:,} rows and {options.facts:,} facts are made", flush=True)
        joined = add_lookup(rows, facts, "facts", LOOKUP, "seen_at", events_per_partition=events).drop(tie_column("facts"))
        found, seconds = _timed(joined, f"{scratch}/found")
        other = _compare_lookup(found, scratch)
        print(f"lookup: {len(found):,} rows, {options.facts:,} facts in {seconds:.1f} s; pandas: {other:.1f} s, equal", flush=True)
        if options.aggregates:
            aggregates = add_aggregates(rows, facts, "", BLOCK, "seen_at", events_per_partition=events)
            found, seconds = _timed(aggregates, f"{scratch}/figures")
            print(f"aggregates: {len(found):,} rows in {seconds:.1f} s; numpy: {_compare_figures(found, scratch):.1f} s, equal")


def _made(spark: SparkSession, path: str, count: int, seed: int) -> DataFrame:
    """Write rows with a number, a place of which one is hot, a random instant of a year, and a value."""
    number = F.col("id").alias("number")
    draw = [F.pmod(F.xxhash64("id", F.lit(seed * 10 + stream)), F.lit(bound)) for stream, bound in enumerate((2 * KEYS, YEAR, 1000))]
    place = F.when(draw[0] < KEYS, 0).otherwise(draw[0] - KEYS + 1).alias("place")
    spark.range(count).select(number, place, F.timestamp_micros(draw[1]).alias("seen_at"), (draw[2] / 8).alias("value")).write.parquet(path)
    return spark.read.parquet(path)


def _timed(result: DataFrame, path: str) -> tuple[pd.DataFrame, float]:
    started = time.perf_counter()
    result.write.parquet(path)
    return _frame(path), time.perf_counter() - started


def _frame(path: str) -> pd.DataFrame:
    frame = pd.read_parquet(Path(path))
    times = {name: frame[name].dt.tz_convert(None) for name in frame.columns if str(frame[name].dtype).startswith("datetime")}
    return frame.assign(**times)


def _compare_lookup(found: pd.DataFrame, scratch: str) -> float:
    """Compare with pandas; of facts of one instant the greatest number is behind the others."""
    rows, facts = _frame(f"{scratch}/rows"), _frame(f"{scratch}/facts").rename(columns={"number": "facts_number", "value": "facts_value"})
    started = time.perf_counter()
    facts["facts_seen_at"] = facts["seen_at"]
    expected = pd.merge_asof(
        rows.sort_values("seen_at"), facts.sort_values(["seen_at", "facts_number"]), on="seen_at", by="place", tolerance=pd.Timedelta("1D")
    ).sort_values("number", ignore_index=True)
    seconds = time.perf_counter() - started
    found = found.sort_values("number", ignore_index=True)
    pd.testing.assert_frame_equal(found, expected[found.columns], check_dtype=False)
    return seconds


def _compare_figures(found: pd.DataFrame, scratch: str) -> float:
    """Compare with two binary searches a row in facts sorted by place and instant."""
    facts = _frame(f"{scratch}/facts").sort_values(["place", "seen_at"])
    started = time.perf_counter()
    code = facts["place"].to_numpy() * 2 * YEAR + facts["seen_at"].astype("datetime64[us]").astype("int64").to_numpy()
    total = np.concatenate([[0], np.cumsum((facts["value"] * 8).to_numpy().astype("int64"))])
    at = found["place"].to_numpy() * 2 * YEAR + found["seen_at"].astype("datetime64[us]").astype("int64").to_numpy()
    for days in (1, 7):
        width = days * 86_400 * 1_000_000
        first = np.searchsorted(code, np.maximum(at - width, found["place"].to_numpy() * 2 * YEAR), side="left")
        last = np.searchsorted(code, at, side="left")
        np.testing.assert_array_equal(found[f"n_{days}d"], last - first)
        has = last > first
        mean = (total[last] - total[first])[has] / 8 / (last - first)[has]
        np.testing.assert_allclose(found[f"mean_{days}d"].to_numpy()[has], mean, rtol=1e-12)
        assert np.isnan(found[f"mean_{days}d"].to_numpy(dtype=float)[~has]).all()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
