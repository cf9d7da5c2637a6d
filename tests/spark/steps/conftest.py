"""A small trained pipeline: 60 examples, a model that ranks them well and one that ranks them the wrong way round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tidemill.registry import Deployments, Manifest, save_model

SPEC = {
    "pipeline": "late",
    "sources": {"raw": {"format": "csv", "path": "raw.csv", "options": {"header": True, "nullValue": "NA"}}},
    "dataset": {"from": "silver.rows", "key": ["id"], "label": "is_late", "event_time": "seen_at"},
    "training": {"task": "binary"},
}


def examples() -> pd.DataFrame:
    """Rows 0–39 train, 40–59 test; one label in ten is unknown; a greater x means late more often."""
    rng = np.random.default_rng(4)
    n = 60
    x = rng.normal(size=n)
    label = np.where(np.arange(n) % 10 == 9, None, x + 0.7 * rng.normal(size=n) > 0)
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "x": x,
            "carrier": np.where(np.arange(n) % 3 == 0, "AA", "UA"),
            "is_late": [None if value is None else bool(value) for value in label],
            "split": np.where(np.arange(n) < 40, "train", "test"),
            "fold": np.where(np.arange(n) < 40, np.arange(n) % 3, None),
        }
    )


@pytest.fixture(scope="session")
def fitted(spark):
    """The two models: `good` fitted on the labels, `bad` on their opposite."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import RFormula

    rows = examples()
    rows = rows[(rows["split"] == "train") & rows["is_late"].notna()]
    models = {}
    for name, sign in (("good", 1.0), ("bad", -1.0)):
        frame = pd.DataFrame({"x": rows["x"], "carrier": rows["carrier"], "label": (rows["is_late"].astype(float) - 0.5) * sign + 0.5})
        formula = RFormula(formula="label ~ x + carrier", handleInvalid="keep")
        models[name] = Pipeline(stages=[formula, LogisticRegression(regParam=0.01)]).fit(spark.createDataFrame(frame))
    return models


@dataclass
class Trained:
    """A lake with the dataset and saved model versions, and the contexts of the steps behind training."""

    spark: Any
    lake: Any
    models: Any
    make_context: Any
    spec: dict = field(default_factory=lambda: dict(SPEC))
    dataset_version: int = 0

    def __post_init__(self) -> None:
        """Write the dataset."""
        rows = [
            (int(row.id), float(row.x), row.carrier, row.is_late, row.split, None if row.fold is None else int(row.fold))
            for row in examples().itertuples()
        ]
        frame = self.spark.createDataFrame(rows, "id bigint, x double, carrier string, is_late boolean, split string, fold int")
        frame = frame.selectExpr("*", "timestamp '2013-01-01' + make_dt_interval(0, id) AS seen_at")
        self.dataset_version = self.lake.replace(frame, "gold.late_dataset", meta={})

    @property
    def deployments(self) -> Deployments:
        """The pipeline's deployments."""
        return Deployments(self.lake.ledger, "late")

    def train(self, name: str = "good", *states: str) -> int:
        """Save a model as the next version and move it from CANDIDATE on through ``states``."""
        version = self.deployments.next_version()
        manifest = Manifest(
            pipeline="late",
            version=version,
            task="binary",
            family="logistic_regression",
            params={"regParam": 0.01},
            metric="areaUnderPR",
            cv_value=0.8,
            classes=[False, True],
            label_type="boolean",
            positive=True,
            feature_columns={"x": "double", "carrier": "string"},
            run_id="r0",
            dataset_version=self.dataset_version,
        )
        save_model(self.lake, self.models[name], manifest)
        for state in ("CANDIDATE", *states):
            self.deployments.move(version, state, run_id="r0", reason="test")
        return version

    def context(self, node: str, version: int, run_id: str = "r1", **inputs: int) -> Any:
        """Return the context of a step for a model version."""
        pinned = {"models.late": version, "gold.late_dataset": self.dataset_version, **inputs}
        return self.make_context(self.spec, node, pinned, run_id)

    def states(self) -> dict[int, str]:
        """Return the state of each version."""
        return self.deployments.states()


@pytest.fixture
def trained(spark, lake, fitted, make_context) -> Trained:
    """A lake that holds the dataset; models are saved by ``trained.train``."""
    return Trained(spark, lake, fitted, make_context)
