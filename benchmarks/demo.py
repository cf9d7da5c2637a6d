"""Measures the flights example from empty lake to predictions: wall time, its split by node, peak memory.

    python benchmarks/demo.py [--spec conf/flight_delays/pipeline.yml] [--runs 1] [--json]

Each run is a process of its own on a scratch lake; the raw files are written once. Memory is the peak of the resident sets of the
run's processes, seen every half second: of the largest (the driver's JVM), and of all together. CPU seconds are theirs too, and move
less than the wall where the machine is shared. A second run over the same lake shows what a run with nothing to do costs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

from watch import Watch

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spec", type=Path, default=ROOT / "conf" / "flight_delays" / "pipeline.yml")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        _tidemill("demo-data", str(data), environ={})
        runs = [_measure(options.spec, data, Path(scratch) / f"lake{number}") for number in range(options.runs)]
    result = {
        "cpus": os.cpu_count(),
        "seconds": [round(run["seconds"], 1) for run in runs],
        "seconds_again": [round(run["again"], 1) for run in runs],
        "cpu_seconds": [round(run["watch"].cpu_seconds, 1) for run in runs],
        "peak_largest_gib": [round(run["watch"].largest / 1024**3, 2) for run in runs],
        "peak_all_gib": [round(run["watch"].together / 1024**3, 2) for run in runs],
        "nodes": {node: round(median(run["nodes"][node] for run in runs), 1) for node in runs[0]["nodes"]},
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['cpus']} CPUs; whole run {result['seconds']} s; again, with nothing to do {result['seconds_again']} s")
    print(f"CPU {result['cpu_seconds']} s; peak memory: largest process {result['peak_largest_gib']}, all {result['peak_all_gib']} GiB")
    for node, seconds in result["nodes"].items():
        print(f"  {node:<20} {seconds:7.1f} s")


def _measure(spec: Path, data: Path, lake: Path) -> dict:
    environ = {"DATA": str(data), "TIDEMILL_LAKE": str(lake)}
    watch = Watch()
    began = time.monotonic()
    sys.stderr.write(_tidemill("run", str(spec), environ=environ))
    seconds = time.monotonic() - began
    watch.stop()
    steps = json.loads(_tidemill("status", str(spec), "--json", environ=environ))["steps"]
    began = time.monotonic()
    _tidemill("run", str(spec), "--json", environ=environ)
    return {
        "seconds": seconds,
        "again": time.monotonic() - began,
        "watch": watch,
        "nodes": {step["node"]: _seconds(step) for step in steps},
    }


def _seconds(step: dict) -> float:
    return (datetime.fromisoformat(step["ended_at"]) - datetime.fromisoformat(step["started_at"])).total_seconds()


def _tidemill(*words: str, environ: dict[str, str]) -> str:
    command = [sys.executable, "-m", "tidemill", *words]
    ended = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, **environ}, text=True, cwd=ROOT, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(words)} ended with exit code {ended.returncode}")
    return ended.stdout


if __name__ == "__main__":
    main()
