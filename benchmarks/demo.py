"""Measure the flights example from an empty lake to predictions: wall time by node, CPU time, peak memory, test metrics.

    python benchmarks/demo.py [--spec conf/flight_delays/pipeline.yml] [--runs 1] [--set a.b=c] [--json]
    python benchmarks/demo.py --engines auto,spark [--runs 1]

With ``--engines`` the engines take turns, and a table of both is printed: the seconds of the whole run and of its training, the metrics on
the test rows, and which library trained each family. The figures go to benchmarks/results/demo.json.

Each run is a process of its own on a scratch lake; the raw files are written once. Memory is the peak of the resident sets of the
run's processes, sampled five times a second: of the largest (the driver's JVM), and of all together. CPU seconds are theirs too, and vary
less than the wall time on a shared machine. A second run on the same lake shows what a run with nothing to do costs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

from watch import Watch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results" / "demo.json"


def main() -> None:
    """Run the example as the options say and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spec", type=Path, default=ROOT / "conf" / "flight_delays" / "pipeline.yml")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="passed to tidemill run")
    parser.add_argument("--engines", help="compare these values of training.engine, such as auto,spark")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    engines = options.engines.split(",") if options.engines else [None]
    runs: dict[str | None, list[dict]] = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        _tidemill("demo-data", str(data), environ={})
        for number in range(options.runs):
            for engine in engines:
                settings = [*options.settings, *([f"training.engine={engine}"] if engine else [])]
                lake = Path(scratch) / f"lake{number}{engine or ''}"
                runs[engine].append(_measure(options.spec, data, lake, settings))
    results = {engine: _summarize(measured) for engine, measured in runs.items()}
    if options.engines:
        RESULTS.write_text(json.dumps({"cpus": os.cpu_count(), "engines": results}, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(results if options.engines else results[None]))
    elif options.engines:
        _print_comparison(results)
    else:
        _print_one(results[None])


def _print_one(result: dict) -> None:
    print(f"{result['cpus']} CPUs; whole run {result['seconds']} s; again, with nothing to do {result['seconds_again']} s")
    print(f"CPU {result['cpu_seconds']} s; peak memory: largest process {result['peak_largest_gib']}, all {result['peak_all_gib']} GiB")
    print(f"test metrics: {', '.join(f'{name} {value:.4f}' for name, value in result['metrics'].items())}")
    for node, seconds in result["nodes"].items():
        print(f"  {node:<20} {seconds:7.1f} s")


def _print_comparison(results: dict[str, dict]) -> None:
    """Print a Markdown table with a column per engine."""
    metrics = list(dict.fromkeys(name for result in results.values() for name in result["metrics"]))
    families = list(dict.fromkeys(name for result in results.values() for name in result["families"]))
    rows = [("", *(f"`training.engine: {engine}`" for engine in results))]
    rows.append(("---",) * len(rows[0]))
    rows.append(("whole run, seconds", *(f"{median(result['seconds']):.0f}" for result in results.values())))
    rows.append(("train, seconds", *(f"{result['nodes']['train']:.0f}" for result in results.values())))
    rows.append(("whole run, CPU seconds", *(f"{median(result['cpu_seconds']):.0f}" for result in results.values())))
    rows.append(("peak memory of all processes, GiB", *(f"{max(result['peak_all_gib']):.1f}" for result in results.values())))
    for metric in metrics:
        rows.append((f"champion, test {metric}", *(f"{result['metrics'].get(metric, float('nan')):.4f}" for result in results.values())))
    for family in families:
        rows.append((f"{family}, cross-validated", *(_family_cell(result["families"].get(family)) for result in results.values())))
    rows.append(("champion", *(str(result["champion"]) for result in results.values())))
    for row in rows:
        print(f"| {' | '.join(row)} |")


def _family_cell(family: dict | None) -> str:
    return "not trained" if family is None else f"{family['value']:.4f} in {family['seconds']:.1f} s by {family['library']}"


def _summarize(runs: list[dict]) -> dict:
    """Summarize the runs of one engine; metrics and families are those of the last run, as all runs give the same ones."""
    return {
        "cpus": os.cpu_count(),
        "seconds": [round(run["seconds"], 1) for run in runs],
        "seconds_again": [round(run["again"], 1) for run in runs],
        "cpu_seconds": [round(run["watch"].cpu_seconds, 1) for run in runs],
        "peak_largest_gib": [round(run["watch"].largest / 1024**3, 2) for run in runs],
        "peak_all_gib": [round(run["watch"].together / 1024**3, 2) for run in runs],
        "nodes": {node: round(median(run["nodes"][node] for run in runs), 1) for node in runs[0]["nodes"]},
        "metrics": runs[-1]["metrics"],
        "families": runs[-1]["families"],
        "champion": runs[-1]["champion"],
    }


def _measure(spec: Path, data: Path, lake: Path, settings: Sequence[str]) -> dict:
    environ = {"DATA": str(data), "TIDEMILL_LAKE": str(lake)}
    options = [word for setting in settings for word in ("--set", setting)]
    watch = Watch()
    began = time.monotonic()
    sys.stderr.write(_tidemill("run", str(spec), *options, environ=environ))
    seconds = time.monotonic() - began
    watch.stop()
    steps = json.loads(_tidemill("status", str(spec), "--json", environ=environ))["steps"]
    began = time.monotonic()
    _tidemill("run", str(spec), *options, "--json", environ=environ)
    again = time.monotonic() - began
    trials = json.loads(_tidemill("trials", str(spec), "--json", environ=environ))  # the best one first
    return {
        "seconds": seconds,
        "again": again,
        "watch": watch,
        "nodes": {step["node"]: _seconds(step) for step in steps},
        "metrics": _champion_metrics(json.loads(_tidemill("models", str(spec), "--json", environ=environ))),
        "families": _best_trials(trials),
        "champion": trials[0]["family"],
    }


def _best_trials(trials: list[dict]) -> dict[str, dict]:
    """Return the value of each family's best trial, the seconds of all its trials, and the library; the best trial comes first."""
    families: dict[str, dict] = {}
    for trial in trials:
        best = families.setdefault(trial["family"], {"value": trial["value"], "seconds": 0.0, "library": trial["library"]})
        best["seconds"] += trial["seconds"]
    return families


def _champion_metrics(models: list[dict]) -> dict[str, float]:
    champion = next(model for model in models if model["state"] == "CHAMPION")
    return {name: value for name, value in champion.items() if isinstance(value, float)}


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
