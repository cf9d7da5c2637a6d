"""Measure what the history of a lake costs: `status`, `explain` and a run with nothing to do after 1, 100 and 1,000 recorded runs.

    python benchmarks/ops_tables.py [--runs 1,100,1000] [--rounds 5]

The quickstart runs once. Its ops rows are then recorded again under other run ids, commit by commit through the ledger, as that many runs
would have written them, and dated a day apart, files too. The commands run on each lake in turn, so that a slow spell of the machine hits
all of them: on the lake as it was left, and on a copy after `tidemill maintain`. Each is a process of its own; Python and its imports take
part of the time. Prints medians of wall and CPU seconds, the data files that the ops tables consist of, the log entries behind their
checkpoints, and the files in their folders, and writes them to benchmarks/results/ops_tables.json. That each run skips every node is
checked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

import pyarrow as pa
from deltalake import DeltaTable

from tidemill.lake import Lake
from tidemill.lake.ops import OPS_TABLES, DeploymentRow, OpsRow, SchemaRow

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results" / "ops_tables.json"
SPEC = "conf/quickstart/pipeline.yml"
COMMANDS = {"status": ("status", SPEC), "explain": ("explain", SPEC), "run": ("run", SPEC, "--json")}


def main() -> None:
    """Record the runs, measure the commands, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="1,100,1000", help="numbers of recorded runs, ascending")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        lakes = prepare_lakes(Path(scratch), [int(number) for number in options.runs.split(",")])
        files = {name: count_files(lake) for name, lake in lakes.items()}
        measured: dict[str, dict[str, list[tuple[float, float]]]] = {name: {command: [] for command in COMMANDS} for name in lakes}
        for _, (name, lake), (command, words) in itertools.product(range(options.rounds), lakes.items(), COMMANDS.items()):
            measured[name][command].append(time_command(words, lake))
    rows = [
        {"runs": name}
        | {f"{command}_s": [round(median(column), 2) for column in zip(*times, strict=True)] for command, times in measured[name].items()}
        | files[name]
        for name in lakes
    ]
    print_rows(rows)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    RESULTS.write_text(json.dumps({"machine": machine, "rounds": options.rounds, "lakes": rows}, indent=1) + "\n", encoding="utf-8")


def prepare_lakes(folder: Path, numbers: list[int]) -> dict[str, Path]:
    """Return a lake for each number of recorded runs, as it was left and after maintenance."""
    growing = folder / "growing"
    run_tidemill("run", SPEC, lake=growing)
    commits = read_commits(Lake(str(growing)))
    lakes, recorded = {}, 1
    for number in numbers:
        began = time.monotonic()
        record_runs(Lake(str(growing)), commits, range(recorded, number), numbers[-1])
        print(f"{number - recorded} runs recorded in {time.monotonic() - began:.0f} s", file=sys.stderr)
        recorded = number
        for label, is_maintained in ((f"{number:,}", False), (f"{number:,}, maintained", True)):
            lakes[label] = folder / f"lake{len(lakes)}"
            shutil.copytree(growing, lakes[label])
            if is_maintained:
                run_tidemill("maintain", lake=lakes[label])
    return lakes


def read_commits(lake: Lake) -> list[list[OpsRow]]:
    """Return the ops rows that every run writes, those of one commit together, in the order in which they were recorded."""
    commits: dict[tuple[str, object], list[OpsRow]] = defaultdict(list)
    for table, row_class in OPS_TABLES.items():
        if row_class is SchemaRow:  # only the first run has a new schema
            continue
        for row in lake.ledger.read(row_class) if lake.exists(table) else ():
            commits[table, row.recorded_at].append(row)
    return sorted(commits.values(), key=lambda rows: str(rows[0].recorded_at))


def record_runs(lake: Lake, commits: list[list[OpsRow]], numbers: range, count: int) -> None:
    """Record the commits of one run under other run ids; of ``count`` runs the last one is as old as the run that was made."""
    for number in numbers:
        began, age = time.time(), timedelta(days=count - 1 - number)
        for rows in commits:
            lake.ledger.append(list(_as_run(rows, number, age)))
        date_files(Path(lake.root), began, age)


def date_files(lake: Path, since: float, age: timedelta) -> None:
    """Date the files of the ops tables that are younger than ``since`` back by ``age``."""
    for folder in itertools.chain.from_iterable((table, table / "_delta_log") for table in (lake / "ops").iterdir()):
        for entry in os.scandir(folder):
            modified = entry.stat().st_mtime
            if entry.is_file() and modified >= since:
                os.utime(entry.path, (modified - age.total_seconds(),) * 2)


def _as_run(rows: list[OpsRow], number: int, age: timedelta) -> Iterator[OpsRow]:
    """Yield rows as another run has them; its model version is rejected, so that the champion stays."""
    for row in rows:
        changes: dict[str, object] = {"run_id": f"recorded-{number:04d}", "seq": None}
        for name in ("recorded_at", "started_at", "ended_at"):
            if getattr(row, name, None) is not None:
                changes[name] = getattr(row, name) - age
        if getattr(row, "model_version", None):
            changes["model_version"] = number + 1
        if isinstance(row, DeploymentRow) and row.to_state != "CANDIDATE":
            if row.to_state != "CHALLENGER":
                continue
            changes["to_state"] = "REJECTED"
        yield replace(row, **changes)


def count_files(lake: Path) -> dict[str, int]:
    """Return how many files the ops tables of a lake consist of, and how many lie in their folders."""
    counts = {"data_files": 0, "log_entries": 0, "files_in_folders": 0}
    for folder in sorted((lake / "ops").iterdir()):
        names = [path.name for path in (folder / "_delta_log").iterdir()]
        checkpoint = max((int(name[:20]) for name in names if re.match(r"\d{20}\.checkpoint", name)), default=-1)
        counts["data_files"] += pa.table(DeltaTable(str(folder)).get_add_actions()).num_rows
        counts["log_entries"] += sum(int(name[:20]) > checkpoint for name in names if re.fullmatch(r"\d{20}\.json", name))
        counts["files_in_folders"] += sum(path.is_file() for path in folder.rglob("*"))
    return counts


def time_command(words: tuple[str, ...], lake: Path) -> tuple[float, float]:
    """Return the wall and CPU seconds of a command; a run must have nothing to do."""
    began, used = time.monotonic(), os.times()
    output = run_tidemill(*words, lake=lake)
    now = os.times()
    took = time.monotonic() - began, now.children_user + now.children_system - used.children_user - used.children_system
    if words[0] == "run" and {step["state"] for step in json.loads(output)["steps"]} != {"SKIPPED"}:
        sys.exit(f"not every node was skipped: {output}")
    return took


def run_tidemill(*words: str, lake: Path) -> str:
    """Run a command on a lake and return what it prints; without a spec the lake is TIDEMILL_LAKE."""
    environ = {**os.environ, "TIDEMILL_LAKE": str(lake)}
    command = [sys.executable, "-m", "tidemill", *words]
    ended = subprocess.run(command, capture_output=True, env=environ, text=True, cwd=ROOT, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(words)} ended with exit code {ended.returncode}: {ended.stderr}")
    return ended.stdout


def print_rows(rows: list[dict[str, object]]) -> None:
    """Print a Markdown table."""
    titles = ["recorded runs", "`status`, wall and CPU s", "`explain`", "run, all skipped", "data files", "log entries", "files in folders"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for row in rows:
        cells = [", ".join(f"{value:.2f}" for value in cell) if isinstance(cell, list) else f"{cell:,}" for cell in list(row.values())[1:]]
        print(f"| {' | '.join([str(row['runs']), *cells])} |")


if __name__ == "__main__":
    main()
