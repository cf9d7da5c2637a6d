"""Checks that a champion loads by MLflow in an environment that is made of its requirements alone, and predicts what the lake holds.

Run it by hand: ``python tests/slow/mlflow_environment.py [FOLDER]``. It trains a small model, fills a new virtual environment (about
1 GB is downloaded), and takes some minutes; it is no part of the suite.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable

SPEC = """\
pipeline: flight_delays
lake: {folder}/lake
sources:
  flights: {{format: csv, path: "{folder}/flights.csv", options: {{header: true}}}}
dataset: {{from: bronze.flights, key: [id], label: outcome, positive: late, split: {{by: hash, test: 0.25}}}}
training:
  task: binary
  folds: 2
  tuner: {{strategy: grid, seed: 7}}
  models: {{hist_gradient_boosting: {{max_iter: [20]}}}}
"""
PREDICT = """\
import sys
import mlflow
import pandas as pd

store, rows, out = sys.argv[1:]
mlflow.set_tracking_uri(store)
mlflow.set_registry_uri(store)
model = mlflow.pyfunc.load_model("models:/flight_delays@champion")
import tidemill
print(tidemill.__file__)
model.predict(pd.read_csv(rows)).to_json(out, orient="records")
"""


def main(folder: Path) -> int:
    """Train, fill the environment, predict there, and compare; return 0 where all predictions are equal."""
    rng = random.Random(5)
    with (folder / "flights.csv").open("w", encoding="utf-8") as out:
        out.write("id,distance,carrier,at,outcome\n")
        for number in range(600):
            distance, carrier = rng.randrange(80, 3000), rng.choice(["AA", "UA", "DL", ""])
            late = rng.gauss(distance / 1000 + (carrier == "UA"), 1) > 2
            out.write(
                f"{number},{distance},{carrier},2024-01-{1 + number % 28:02} {number % 24:02}:30:00,{'late' if late else 'on time'}\n"
            )
    (folder / "pipeline.yml").write_text(SPEC.format(folder=folder), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "tidemill", "run", str(folder / "pipeline.yml")], check=True)
    artifacts = next((folder / "lake" / "mlflow" / "flight_delays" / "models").glob("*/artifacts"))
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", artifacts / "requirements.txt"], check=True, cwd="/")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYSPARK", "SPARK", "TIDEMILL"))}
    arguments = [f"sqlite:///{folder}/lake/mlflow.db", folder / "flights.csv", folder / "answers.json"]
    subprocess.run([python, "-c", PREDICT, *arguments], check=True, cwd=folder / "venv", env=plain)
    answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    lake = DeltaTable(folder / "lake" / "gold" / "flight_delays_predictions").to_pyarrow_table().to_pandas().sort_values("id")
    assert len(lake) == len(answers) == 600, (len(lake), len(answers))
    assert list(lake["prediction"]) == [row["prediction"] for row in answers] and set(lake["prediction"]) == {"late", "on time"}
    worst = (lake["probability"].reset_index(drop=True) - pd.Series([row["probability"] for row in answers])).abs().max()
    assert worst < 1e-9, worst
    sys.stdout.write(f"{len(answers)} predictions are those of the lake\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1]).resolve()))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
