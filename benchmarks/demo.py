"""Measures the flights example from empty lake to predictions: wall time, its split by node, peak memory.

    python benchmarks/demo.py [--spec conf/flight_delays/pipeline.yml] [--runs 1] [--json]

Each run is a process of its own on a scratch lake; the raw files are written once. Memory is the largest process's peak resident
set, which is the driver's JVM. A second run over the same lake shows what a run with nothing to do costs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

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
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    result = {
        "cpus": os.cpu_count(),
        "seconds": [round(run["seconds"], 1) for run in runs],
        "seconds_again": [round(run["again"], 1) for run in runs],
        "peak_memory_gib": round(peak, 2),
        "nodes": {node: round(median(run["nodes"][node] for run in runs), 1) for node in runs[0]["nodes"]},
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['cpus']} CPUs; whole run {result['seconds']} s; again, with nothing to do {result['seconds_again']} s")
    print(f"largest process {result['peak_memory_gib']} GiB")
    for node, seconds in result["nodes"].items():
        print(f"  {node:<20} {seconds:7.1f} s")


def _measure(spec: Path, data: Path, lake: Path) -> dict:
    environ = {"DATA": str(data), "TIDEMILL_LAKE": str(lake)}
    began = time.monotonic()
    told = _tidemill("run", str(spec), "--json", environ=environ)
    seconds = time.monotonic() - began
    began = time.monotonic()
    _tidemill("run", str(spec), "--json", environ=environ)
    return {
        "seconds": seconds,
        "again": time.monotonic() - began,
        "nodes": {step["node"]: step["seconds"] for step in json.loads(told)["steps"]},
    }


def _tidemill(*words: str, environ: dict[str, str]) -> str:
    command = [sys.executable, "-m", "tidemill", *words]
    ended = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, **environ}, text=True, cwd=ROOT, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(words)} ended with exit code {ended.returncode}")
    return ended.stdout


if __name__ == "__main__":
    main()
