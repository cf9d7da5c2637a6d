"""A whole run over columns whose names need quoting: dots, backticks, quotes, blanks, words of SQL, signs, other alphabets."""

from __future__ import annotations

import json
import random

import numpy as np
import pandas as pd
import pytest

from tidemill.lake import Lake
from tidemill.spec import load_spec
from tidemill.workflow import LazySpark, Runner

ROWS = 240
# Names that have broken something somewhere, and a few that chance has drawn from what such names are made of.
NUMBERS = [
    "sepal.length",
    "a`b",
    "größe",
    "select",
    "50%",
    "it's",
    'say "x"',
    "x-y",
    "[z]",
    "back\\slash",
    "_hidden",
    "a.b.c",
    "<5",
    "价 (€)",
]
PARTS = [".", "`", " ", "'", '"', "-", "%", "$", "#", ":", "/", "\\", "[", "]", "{", "}", "ß", "名", "e", "1", "table", "NULL"]


def draw_names(seed: int, count: int) -> list[str]:
    """Return names of random parts, none like another in Delta's spelling."""
    draw = random.Random(seed)
    names: dict[str, str] = {}
    while len(names) < count:
        name = "".join(draw.choices(PARTS, k=draw.randint(2, 6))).strip()
        spelled = in_delta(name)
        if name and spelled.lower() not in names and spelled.lower() not in map(str.lower, NUMBERS):
            names[spelled.lower()] = name
    return list(names.values())


def in_delta(name: str) -> str:
    """Return the name as a table has it."""
    return "".join("_" if letter in " ,;{}()\n\t=" else letter for letter in name)


def examples(names: list[str]) -> pd.DataFrame:
    """Rows whose label goes by the first number and by a category."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"id.no": np.arange(ROWS)})
    for name in names:
        frame[name] = rng.normal(size=ROWS)
    frame["car.rier"] = rng.choice(["A", "B", "C"], ROWS)
    frame["at.time"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(ROWS), unit="h")
    frame["w`t"] = rng.integers(1, 3, ROWS).astype(float)
    frame["is.late`"] = 3 * frame[names[0]] + 2 * (frame["car.rier"] == "A") + rng.normal(size=ROWS) > 0
    frame.loc[3, "50%"] = 99.0
    return frame


def spec(folder) -> dict[str, object]:
    """Return a spec that names odd columns wherever it can name one."""
    return {
        "pipeline": "odd",
        "lake": f"{folder}/lake",
        "sources": {
            "raw": {"format": "parquet", "path": f"{folder}/rows.parquet"},
            "carriers": {"format": "parquet", "path": f"{folder}/carriers.parquet"},
        },
        "tables": {
            "rows": {
                "sql": "SELECT * FROM bronze.raw",
                "key": ["id.no"],
                "latest_by": "at.time",
                "expectations": {
                    "known": {"in_reference": "silver.carriers.car.rier", "column": "car.rier", "on_violation": "drop"},
                    "once": {"unique": ["id.no"], "on_violation": "fail"},
                    "there": {"not_null": ["a`b", "car.rier"], "on_violation": "fail"},
                    "sane": {"check": "`50%` < 50", "on_violation": "quarantine"},
                },
            },
            "carriers": {"sql": "SELECT * FROM bronze.carriers", "key": ["car.rier"]},
        },
        "dataset": {
            "from": "silver.rows",
            "key": ["id.no"],
            "label": "is.late`",
            "event_time": "at.time",
            "weight": "w`t",
            "lookups": {"carrier": {"table": "silver.carriers", "by": ["car.rier"], "time": "at.time", "columns": ["known.n"]}},
            "aggregates": {
                "over": "silver.rows",
                "by": ["car.rier"],
                "time": "at.time",
                "windows": ["2d"],
                "features": {"n": "count", "s": "stddev(`a``b`)"},
            },
        },
        "training": {"task": "binary", "folds": 2, "models": {"gradient_boosted_trees": {"maxIter": 5}, "xgboost": {"n_estimators": 5}}},
        "scoring": {"keep": ["sepal.length", "w`t"]},
        "evaluation": {"gates": ["areaUnderROC > 0.5"]},
    }


@pytest.mark.long("a whole run of all steps over thirty columns")
@pytest.mark.parametrize("seed", [1])
def test_a_whole_run_knows_columns_by_their_exact_names(spark, tmp_path, seed):
    names = [*NUMBERS, *draw_names(seed, 8)]
    examples(names).to_parquet(tmp_path / "rows.parquet", index=False)
    carriers = pd.DataFrame({"car.rier": ["A", "B", "C"], "at.time": [pd.Timestamp("2023-12-31")] * 3, "known.n": [1.0, 2.0, 3.0]})
    carriers.to_parquet(tmp_path / "carriers.parquet", index=False)
    (tmp_path / "pipeline.yml").write_text(json.dumps(spec(tmp_path)))  # JSON is YAML
    runner = Runner(load_spec(tmp_path / "pipeline.yml"), LazySpark(lambda: spark))
    outcome = runner.run(runner.graph.select())
    assert outcome.exit_code == 0, outcome
    lake = Lake(f"{tmp_path}/lake")
    columns = [in_delta(name) for name in names]
    dataset = lake.read(spark, "gold.odd_dataset")
    assert set(columns) < set(dataset.columns)
    assert {"known.n", "n_2d", "s_2d"} <= set(dataset.columns)
    predictions = lake.read(spark, "gold.odd_predictions").toPandas()
    assert (len(predictions), predictions["score_error"].isna().all()) == (ROWS - 1, True)
    assert {"id.no", "sepal.length", "w`t"} < set(predictions.columns)
    watched = {row["column_name"] for row in lake.ledger.rows("ops.drift")}
    assert {*columns, "car.rier"} <= watched
    rows = lake.ledger.rows("ops.importances")
    permuted = {row["column_name"] for row in rows if row["kind"] == "permutation"}
    assert permuted == {*columns, "car.rier", "known.n", "at.time", "n_2d", "s_2d"}
    assert {row["kind"] for row in lake.ledger.rows("ops.contributions")} == {"tree"}
    importances = sorted((row for row in rows if row["kind"] != "permutation"), key=lambda row: -row["importance"])
    assert importances[0]["column_name"] == "sepal.length"
    assert importances[1]["column_name"] in ("car.rier", "known.n")  # the lookup has a number for each
    again = Runner(load_spec(tmp_path / "pipeline.yml"), LazySpark(lambda: spark))
    assert {step.state for step in again.run(again.graph.select()).steps} == {"SKIPPED"}
