"""Measures the search against the ones that users write by hand, on the flights task of benchmarks/peers/search.py.

    python benchmarks/training.py [--rows 300000] [--folds 5] [--params 24] [--trials 40] [--rounds 1] [--ways naive,sklearn,spark,auto]
    python benchmarks/training.py --growth

Each way runs in a process of its own, one after the other, in as many rounds as asked for, on the same rows, columns and folds:
  naive, cached, sklearn   benchmarks/peers/search.py: CrossValidator over a Pipeline, the same on cached rows with four fits at once,
                           and GridSearchCV without Spark; logistic regression, PARAMS penalties
  spark, auto              tidemill with `engine: spark` and `engine: auto`: the same grid; auto_plain with scikit-learn's penalty
  spark_hyperband, auto_hyperband    the same with `early_stopping: hyperband`
  xgboost, auto_xgboost    Optuna and XGBoost in one process, and tidemill with `strategy: tpe`: TRIALS trials of one space
  grid, grid_hyperband     tidemill: a grid of 64 candidates of XGBoost, all of them and with `early_stopping: hyperband`
Seconds are those of the search with the fit of its choice on all rows, starting with the rows in a file (a table of pandas for the ones
without Spark); CPU seconds and the greatest resident memory are those of the process and its children. Prints a table and ratios, and
writes them with the machine's description to benchmarks/results/training.json.

With --growth tidemill is measured against itself, both engines, 3 folds, the driver and the executors each a process: rows × 1, 4 and 16,
penalties × 1 and 4, and one executor or two. The greatest resident memory of the driver's Java, whose
heap may have 1 GB, stands beside. It is written to benchmarks/results/training_growth.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import psutil
from watch import Watch

HERE = Path(__file__).parent
PEERS = ("naive", "cached", "sklearn", "xgboost")
OURS = ("spark", "auto", "auto_plain", "spark_hyperband", "auto_hyperband", "auto_xgboost", "grid", "grid_hyperband")
XGBOOST = {
    "max_depth": {"int": [3, 10]},
    "learning_rate": {"log": [0.02, 0.3]},
    "n_estimators": {"int": [30, 200]},
    "min_child_weight": {"log": [1, 50]},
}
GRID = {"max_depth": [3, 5, 7, 9], "learning_rate": [0.03, 0.08, 0.2, 0.5], "min_child_weight": [1, 5, 20, 80], "n_estimators": 50}
# Rows, penalties, executors.
GROWTH = ((20_000, 4, 2), (80_000, 4, 2), (320_000, 4, 2), (20_000, 16, 2), (320_000, 4, 1))


def run_ours(way: str, rows: int, folds: int, params: int, trials: int) -> dict[str, float | str]:
    """Search by tidemill in this process; return seconds and the best mean areaUnderROC."""
    import numpy as np
    from pyspark.sql import functions as F

    from tidemill.families import ENGINES
    from tidemill.features import FeaturePlan
    from tidemill.features.groups import Categorical, Numeric
    from tidemill.learners.class_labels import class_metadata
    from tidemill.runtime.session import get_spark
    from tidemill.spec.models import Training, Tuner
    from tidemill.training.engines.choice import Resources, choose_engines, max_copy_bytes
    from tidemill.training.folds import ORDER
    from tidemill.training.problem import Problem
    from tidemill.training.refit import refit
    from tidemill.training.selection import select_trial
    from tidemill.training.tuning.search import Search
    from tidemill.training.tuning.tune import tune

    peers = _peers(rows, folds, params)
    memory = {"spark.driver.memory": "4g"}
    if os.environ.get("TIDEMILL_MASTER", "").startswith("local-cluster"):
        memory = {"spark.driver.memory": "1g", "spark.executor.memory": "2g"}
    spark = get_spark("benchmark", memory)
    peers.frame.to_parquet("search.parquet", index=False)
    spark.read.parquet("search.parquet").count()
    plan = FeaturePlan.of(numeric=Numeric(columns=peers.NUM, impute="mean"), categorical=Categorical(columns=peers.CAT, encode="auto"))
    stopping: Literal["hyperband", "none"] = "hyperband" if way.endswith("hyperband") else "none"
    if way.startswith("grid"):
        declared, tuner = {"xgboost": GRID}, Tuner(strategy="grid", early_stopping=stopping)
    elif way == "auto_xgboost":
        declared, tuner = {"xgboost": XGBOOST}, Tuner(strategy="tpe", trials=trials, seed=1)
    else:
        # The penalty of the peers with MLlib is on columns of deviation 1, that of scikit-learn's on columns as they are.
        penalty = {"regParam": [float(value) for value in np.logspace(-5, -1, params)], "standardization": way != "auto_plain"}
        declared = {"logistic_regression": {**penalty, "maxIter": 20}}
        tuner = Tuner(strategy="grid", early_stopping=stopping)
    spaces = Training(task="binary", models=declared).models
    problem = Problem("binary", "areaUnderROC", 2, 7)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        table = spark.read.parquet("search.parquet").withColumn("key", F.xxhash64(*peers.CAT, *peers.NUM))
        ordered = table.repartition("key").sortWithinPartitions("key")
        frame = ordered.select(
            *plan.columns,
            F.col("label").alias("label", metadata=class_metadata(2)),
            F.col("fold").cast("int"),
            F.xxhash64("key").alias(ORDER),
        ).persist()
        count = frame.count()
        engines = choose_engines(
            ENGINES.get("auto" if way.startswith("grid") else way.partition("_")[0]),
            spaces,
            problem,
            Resources(scratch=scratch, rows=count, columns=len(plan.columns), most_bytes=max_copy_bytes(spark)),
        )
        search = Search(frame, plan, spaces, problem, engines=engines)
        tuned = tune(search, spaces, tuner, list(range(folds)), count)
        found = select_trial(tuned.rows, tuned.trials, problem.metric)
        search.close()
        refit(frame, plan, found.best, problem, search.engines, memo=search.folds.of_all_rows)
        seconds = time.perf_counter() - started
    values = [row.value or 0.0 for row in found.rows if row.trial == found.best.number and row.state == "SUCCEEDED"]
    error = statistics.stdev(values) / len(values) ** 0.5
    return {"seconds": seconds, "areaUnderROC": found.best_value, "standard_error": error, "fits": search.fits}


def _peers(rows: int, folds: int, params: int):  # type: ignore[no-untyped-def]
    """Import the peers' file for its data alone: it measures when it is imported, so it is asked for nothing that takes long."""
    source = (HERE / "peers" / "search.py").read_text(encoding="utf-8").partition("\nframe = data()")[0]
    sys.argv = ["search.py", "none", str(rows), str(folds), str(params)]
    spec = importlib.util.spec_from_loader("peers_search", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(source, "search.py", "exec"), module.__dict__)
    module.frame = module.data()
    return module


def grow() -> None:
    """Measure the growth of both engines, print it, and keep it."""
    runs = []
    for rows, params, executors in GROWTH:
        os.environ["TIDEMILL_MASTER"] = f"local-cluster[{executors},1,3072]"
        for way in ("auto", "spark"):
            asked = argparse.Namespace(rows=rows, folds=3, params=params, trials=0)
            runs.append({"rows": rows, "params": params, "executors": executors, **measure(way, asked)})
            print(json.dumps(runs[-1]), flush=True)
    print("\nengine      rows   penalties   executors   seconds   driver MB")
    for run in runs:
        memory = float(run["driver_bytes"]) / 2**20
        print(f"{run['way']:6}  {run['rows']:8,}   {run['params']:9}   {run['executors']:9}   {run['seconds']:7.1f}   {memory:9.0f}")
    kept = {"machine": machine(), "runs": runs}
    (HERE / "results" / "training_growth.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def measure(way: str, arguments: argparse.Namespace) -> dict[str, float | str]:
    """Run one way in a process of its own."""
    given = [str(arguments.rows), str(arguments.folds), str(arguments.trials if way == "xgboost" else arguments.params)]
    command = [sys.executable, str(HERE / "peers" / "search.py"), way, *given]
    if way in OURS:
        command = [sys.executable, __file__, "--one", way, "--rows", given[0], "--folds", given[1], "--params", given[2]]
        command += ["--trials", str(arguments.trials)]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
        watch = Watch(process.pid, named="SparkSubmit")
        out, _ = process.communicate()
        watch.stop()
    if process.returncode:
        raise SystemExit(f"{way} ended with {process.returncode}")
    last = out.strip().splitlines()[-1]
    if way in OURS:
        found = json.loads(last)
    else:
        words = dict(word.split("=") for word in last.split() if "=" in word)
        found = {"seconds": float(words["seconds"]), "areaUnderROC": float(words["areaUnderROC"])}
    return {"way": way, **found, "cpu_seconds": watch.cpu_seconds, "peak_bytes": watch.together, "driver_bytes": watch.largest_named}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--params", type=int, default=24)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", default=",".join((*PEERS, *OURS)))
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--one")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_ours(arguments.one, arguments.rows, arguments.folds, arguments.params, arguments.trials)))
        return
    if arguments.growth:
        grow()
        return
    runs = []
    for number in range(arguments.rounds):
        for way in arguments.ways.split(","):
            runs.append({"round": number, **measure(way, arguments)})
            print(json.dumps(runs[-1]), flush=True)
    seconds = {way: statistics.median(float(run["seconds"]) for run in runs if run["way"] == way) for way in arguments.ways.split(",")}
    print("\nway               seconds   areaUnderROC   against")
    for way, taken in seconds.items():
        value = next(run["areaUnderROC"] for run in runs if run["way"] == way)
        against = "  ".join(f"{peer} {seconds[peer] / taken:.2f}x" for peer in PEERS if peer in seconds and way in OURS)
        print(f"{way:16}  {taken:7.1f}   {value:.4f}         {against}")
    keep(arguments, runs)


def machine() -> dict[str, object]:
    """Return what it was measured on."""
    return {"cores": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30), "python": platform.python_version()}


def keep(arguments: argparse.Namespace, runs: list[dict[str, float | str]]) -> None:
    """Add the runs to benchmarks/results/training.json, in place of earlier ones of the same size."""
    place = HERE / "results" / "training.json"
    size = {name: getattr(arguments, name) for name in ("rows", "folds", "params", "trials")}
    known = json.loads(place.read_text(encoding="utf-8")) if place.exists() else []
    ways = set(arguments.ways.split(","))
    same = [entry for entry in known if entry["size"] == size]
    kept = [run for entry in same for run in entry["runs"] if run["way"] not in ways]
    others = [entry for entry in known if entry["size"] != size]
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps([*others, {"size": size, "machine": machine(), "runs": [*kept, *runs]}], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
