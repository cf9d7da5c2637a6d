"""Measure the evaluation of predictions: all metrics, slices and intervals in one pass, against an evaluator per metric.

    python benchmarks/evaluation.py [--rows 10000000] [--rounds 1]

Predictions of two classes with continuous scores lie in a Parquet file, in partitions as Spark reads them. Three ways take turns, so that
a slow spell of the machine hits all of them:

- tidemill: the metrics of all rows and of 10 slices, with 200 bootstrap draws each, and the curves;
- MLlib: 20 metrics by one evaluator each, of all rows, without slices or intervals, on the cached frame;
- scikit-learn: the same metrics of all rows in one process, from the file read by pandas.

Prints wall seconds, the ratio to tidemill, the greatest resident memory of this process (the Python driver), and the greatest difference of
a metric that both know. Before the rounds, tidemill measures a tenth of the rows, whose memory is printed beside that of all rows. Results
are kept in benchmarks/results/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import sklearn.metrics as sk
from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator, RegressionEvaluator
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.evaluation.measurement import ALL_ROWS, Pass, measure_slices
from tidemill.evaluation.row_kinds import ScoredRows
from tidemill.evaluation.slices import name_slices
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.session import get_spark
from tidemill.tasks import TaskKind

RESULTS = Path(__file__).resolve().parent / "results" / "evaluation.json"
PART_ROWS = 1_000_000
DRAWS = 200
MULTICLASS = (
    *("f1", "accuracy", "weightedPrecision", "weightedRecall", "weightedTruePositiveRate", "weightedFalsePositiveRate"),
    *("weightedFMeasure", "truePositiveRateByLabel", "falsePositiveRateByLabel", "precisionByLabel", "recallByLabel", "fMeasureByLabel"),
    *("logLoss", "hammingLoss"),
)


def main() -> None:
    """Write the predictions, measure the ways, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", default="tidemill,mllib,scikit-learn")
    options = parser.parse_args()
    ways = {"tidemill": measure_by_tidemill, "mllib": measure_by_mllib, "scikit-learn": measure_by_scikit_learn}
    chosen: dict[str, Callable[[str], dict[str, float]]] = {name: ways[name] for name in options.ways.split(",")}
    with tempfile.TemporaryDirectory() as scratch:
        small, large = f"{scratch}/small", f"{scratch}/large"
        write_predictions(small, options.rows // 10)
        write_predictions(large, options.rows)
        get_spark()
        measure_by_tidemill(small)
        memory = [resident_mb()]
        seconds: dict[str, list[float]] = {name: [] for name in chosen}
        values: dict[str, dict[str, float]] = {}
        for _ in range(options.rounds):
            for name, measure in chosen.items():
                began = time.monotonic()
                values[name] = measure(large)
                seconds[name].append(time.monotonic() - began)
                print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
                if name == "tidemill":
                    memory.append(resident_mb())
    report(options, seconds, values, memory)


def report(options: argparse.Namespace, seconds: dict[str, list[float]], values: dict[str, dict[str, float]], memory: list[float]) -> None:
    """Print and keep what was measured."""
    whole = {name: round(median(each), 1) for name, each in seconds.items()}
    rows = [{"way": name, "seconds": s, "times tidemill": round(s / whole.get("tidemill", s), 1)} for name, s in whole.items()]
    print(pd.DataFrame(rows).to_string(index=False))
    differences = {
        name: max(abs(own[metric] - value) for metric, value in values["tidemill"].items() if metric in own)
        for name, own in values.items()
        if name != "tidemill" and "tidemill" in values
    }
    print(f"greatest difference of a metric: {differences}")
    print(f"resident memory of the Python driver after a tenth of the rows and after all: {memory} MB")
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    kept = {
        "machine": machine,
        "rows": options.rows,
        "rounds": options.rounds,
        "ways": rows,
        "driver_mb": memory,
        "differences": differences,
    }
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def resident_mb() -> float:
    """Return the resident memory of this process in MB."""
    return round(psutil.Process().memory_info().rss / 1e6)


def write_predictions(folder: str, rows: int) -> None:
    """Write label, score, prediction, key and a column of 10 parts, in files of a million rows."""
    Path(folder).mkdir()
    for place, start in enumerate(range(0, rows, PART_ROWS)):
        n, rng = min(PART_ROWS, rows - start), np.random.default_rng(place)
        p = 1 / (1 + np.exp(-rng.normal(-1.5, 1.3, n)))
        columns = {"id": np.arange(start, start + n), "label": (rng.random(n) < p).astype(float), "p": p}
        columns |= {"prediction": (p > 0.5).astype(float), "part": rng.integers(0, 10, n)}
        pq.write_table(pa.table(columns), f"{folder}/{place}.parquet")


def read_predictions(folder: str) -> DataFrame:
    """Return the predictions as models give them."""
    frame = get_spark().read.parquet(folder)
    probability = array_to_vector(F.array(1 - F.col("p"), F.col("p"))).alias("probability")
    return frame.select("id", "label", "prediction", probability, "p", "part")


def measure_by_tidemill(folder: str) -> dict[str, float]:
    """Measure all metrics of all rows and of the parts, with intervals."""
    frame = read_predictions(folder)
    nothing = F.array().cast("array<double>").alias("terms")
    slices, unit = name_slices(["part"]).alias("slices"), F.xxhash64("id").alias("unit")
    rows = frame.select("label", "prediction", "probability", F.lit(1.0).alias("weight"), unit, slices, nothing)
    with cache_frame(rows) as cached:
        measured = measure_slices(cached, Pass(TaskKind.BINARY, ScoredRows(), 2, DRAWS))
    assert len(measured) == 11
    assert all(estimate.interval for part in measured.values() for estimate in part.estimates.values())
    return {name: estimate.value for name, estimate in measured[ALL_ROWS].estimates.items()}


def measure_by_mllib(folder: str) -> dict[str, float]:
    """Measure 20 metrics by an evaluator each."""
    with cache_frame(read_predictions(folder)) as frame:
        values = {
            name: BinaryClassificationEvaluator(rawPredictionCol="probability", metricName=name, numBins=0).evaluate(frame)
            for name in ("areaUnderROC", "areaUnderPR")
        }
        for name in MULTICLASS:
            values[f"mllib {name}"] = MulticlassClassificationEvaluator(metricName=name, metricLabel=1.0).evaluate(frame)
        for name in ("mse", "rmse", "mae", "r2"):
            values[f"mllib {name}"] = RegressionEvaluator(predictionCol="p", metricName=name).evaluate(frame)
    shared = {"accuracy": "accuracy", "recall": "recallByLabel", "precision": "precisionByLabel", "logLoss": "logLoss", "brier": "mse"}
    return values | {name: values[f"mllib {of_mllib}"] for name, of_mllib in shared.items()}


def measure_by_scikit_learn(folder: str) -> dict[str, float]:
    """Measure the metrics of all rows in this process."""
    rows = pd.read_parquet(folder)
    y, yhat, p = rows.label, rows.prediction, rows.p
    return {
        "areaUnderROC": sk.roc_auc_score(y, p),
        "averagePrecision": sk.average_precision_score(y, p),
        "accuracy": sk.accuracy_score(y, yhat),
        "balancedAccuracy": sk.balanced_accuracy_score(y, yhat),
        "precision": sk.precision_score(y, yhat),
        "recall": sk.recall_score(y, yhat),
        "specificity": sk.recall_score(y, yhat, pos_label=0),
        "f1": sk.f1_score(y, yhat),
        "mcc": sk.matthews_corrcoef(y, yhat),
        "logLoss": sk.log_loss(y, p),
        "brier": sk.brier_score_loss(y, p),
    }


if __name__ == "__main__":
    main()
