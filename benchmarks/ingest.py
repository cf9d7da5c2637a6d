"""Measures ingestion with full accounting against plain ways that check nothing, on flights repeated ten times.

    python benchmarks/ingest.py [--times 10] [--rounds 3] [--formats csv,json,parquet]

For each format, in turn, so that a slow spell of the machine hits all of them:
  plain       spark.read.schema(…) … .write.format("delta"): nothing counted, nothing checked
  accounted   the step ingest: every record good or refused, counted by file, with provenance
  tidemill    the same with ten expectations, judged in the same pass
  polars      polars and delta-rs, without Spark (where the extra `bench` is installed)
Prints wall seconds (medians) and ratios to plain, with the share of each part, and writes them with the machine's description to
benchmarks/results/ingest.json. That the ways load the same number of rows is checked.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable

from tidemill.examples import write_demo_data
from tidemill.lake import Lake
from tidemill.runtime.session import child_session, get_spark
from tidemill.spec import Spec
from tidemill.spec.models import Pipeline
from tidemill.steps.ingest.step import ingest
from tidemill.steps.result import StepContext

SCHEMA = (
    "year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT, arr_delay INT, "
    "carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING, air_time INT, distance INT, hour INT, minute INT, "
    "time_hour STRING"
)
RULES = {
    "year": "year = 2013",
    "month": "month BETWEEN 1 AND 12",
    "day": "day BETWEEN 1 AND 31",
    "origin": "origin IN ('EWR', 'JFK', 'LGA')",
    "carrier": "carrier IS NOT NULL AND length(carrier) = 2",
    "dest": "dest IS NOT NULL",
    "distance": "distance > 0",
    "hour": "hour BETWEEN 0 AND 23",
    "air_time": "air_time IS NULL OR air_time BETWEEN 10 AND 1200",
    "clock": "sched_dep_time % 100 < 60",
}
CSV = {"header": True, "nullValue": "NA"}
ROWS = 336_776
TABLES = {"plain": "plain", "accounted": "accounted/bronze/flights", "tidemill": "tidemill/bronze/flights", "polars": "polars"}


def lay_out(folder: Path, times: int) -> None:
    """Write the flights, a file a month and repetition, as CSV, JSON lines and Parquet."""
    write_demo_data(folder / "demo")
    for name in ("csv", "json", "parquet"):
        (folder / name).mkdir()
    for month in sorted((folder / "demo" / "flights").glob("*.csv.gz")):
        stem = month.name.split(".")[0]
        text = gzip.decompress(month.read_bytes())
        (folder / "csv" / f"{stem}-0.csv").write_bytes(text)
        rows = pd.read_csv(month)
        whole = [name for name in rows.columns if pd.api.types.is_float_dtype(rows[name])]
        rows = rows.astype(dict.fromkeys(whole, "Int64"))
        rows.to_json(folder / "json" / f"{stem}-0.json", orient="records", lines=True)
        numbers = [name for name in rows.columns if pd.api.types.is_integer_dtype(rows[name])]
        rows.astype(dict.fromkeys(numbers, "Int32")).to_parquet(folder / "parquet" / f"{stem}-0.parquet", index=False)
        for name in ("csv", "json", "parquet"):
            for copy in range(1, times):
                shutil.copy(folder / name / f"{stem}-0.{name}", folder / name / f"{stem}-{copy}.{name}")


def contestants(spark, folder: Path, kind: str) -> dict[str, Callable[[Path], None]]:  # type: ignore[no-untyped-def]
    """Return the ways to load the files of a kind, each into a lake of its own."""
    path = str(folder / kind)

    def plain(lake: Path) -> None:
        reader = spark.read.schema(SCHEMA)
        rows = {"csv": lambda: reader.options(**CSV).csv(path), "json": lambda: reader.json(path), "parquet": lambda: reader.parquet(path)}
        rows[kind]().write.format("delta").save(str(lake / "plain"))

    def load(lake: Path, rules: dict[str, str]) -> None:
        expectations = {name: {"check": check, "on_violation": "quarantine"} for name, check in rules.items()}
        source = {"format": kind, "path": path, "schema": SCHEMA, "options": CSV if kind == "csv" else {}, "load": "incremental"}
        pipeline = {
            "pipeline": "bench",
            "lake": str(lake),
            "sources": {"flights": {**source, "expectations": expectations}},
            "dataset": {"from": "bronze.flights", "key": ["flight"], "label": "arr_delay"},
            "training": {"task": "regression"},
        }
        spec = Spec(Pipeline.model_validate(pipeline), folder / "pipeline.yml", folder)
        ingest(StepContext(child_session(spark), spec, Lake(str(lake)), {}, "bench", "ingest.flights"))

    def accounted(lake: Path) -> None:
        load(lake / "accounted", {})

    def tidemill(lake: Path) -> None:
        load(lake / "tidemill", RULES)

    ways: dict[str, Callable[[Path], None]] = {"plain": plain, "accounted": accounted, "tidemill": tidemill}
    try:
        import polars
    except ImportError:
        return ways

    def with_polars(lake: Path) -> None:
        if kind == "csv":
            frame = polars.concat([polars.read_csv(file, null_values="NA") for file in sorted((folder / kind).iterdir())])
        elif kind == "json":
            frame = polars.concat([polars.read_ndjson(file) for file in sorted((folder / kind).iterdir())], how="vertical_relaxed")
        else:
            frame = polars.concat([polars.read_parquet(file) for file in sorted((folder / kind).iterdir())])
        frame.write_delta(str(lake / "polars"))

    return {**ways, "polars": with_polars}


def keep(results: dict[str, dict[str, float]], times: int, rounds: int, spark: str) -> None:
    """Write what was measured so far."""
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(), "spark": spark}
    target = Path(__file__).parent / "results" / "ingest.json"
    target.parent.mkdir(exist_ok=True)
    known = json.loads(target.read_text()) if target.exists() else {}
    if (known.get("rows"), known.get("machine")) == (ROWS * times, machine):  # formats that were not asked for now stay
        results = {**known["seconds"], **results}
    target.write_text(json.dumps({"rows": ROWS * times, "rounds": rounds, "machine": machine, "seconds": results}, indent=1) + "\n")


def main() -> None:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="how often the 336,776 flights are repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", default="csv,json,parquet")
    given = parser.parse_args()
    spark = get_spark("bench")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lay_out(folder, given.times)
        for kind in given.formats.split(","):
            seconds: dict[str, list[float]] = {}
            for turn in range(given.rounds + 1):  # the first one warms up
                lake = folder / f"lake-{kind}-{turn}"
                lake.mkdir()
                for name, load in contestants(spark, folder, kind).items():
                    began = time.monotonic()
                    load(lake)
                    took = time.monotonic() - began
                    rows = DeltaTable(str(lake / TABLES[name])).to_pyarrow_dataset().count_rows()
                    if rows != ROWS * given.times:
                        raise SystemExit(f"{name} loaded {rows} rows of {kind} instead of {ROWS * given.times}")
                    if turn:
                        seconds.setdefault(name, []).append(took)
                shutil.rmtree(lake)
            medians = {name: statistics.median(found) for name, found in seconds.items()}
            results[kind] = medians
            told = "  ".join(f"{name} {value:.1f} s ({value / medians['plain']:.2f}×)" for name, value in medians.items())
            of_it = [medians["accounted"] - medians["plain"], medians["tidemill"] - medians["accounted"]]
            parts = "accounting and provenance {:+.1f} s, ten expectations {:+.1f} s".format(*of_it)
            print(f"{kind:<8} {told}\n         of it {parts}", flush=True)
            keep(results, given.times, given.rounds, spark.version)


if __name__ == "__main__":
    main()
