"""The task clustering through all steps: three groups of customers, found and told apart by held-out rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.preprocessing import StandardScaler

from tidemill.cli.app import main
from tidemill.model_registry import load_model
from tidemill.model_registry.predict import model_outputs

pytestmark = pytest.mark.long("its tests share one run over all steps; the first pays for it")

SPEC = """\
pipeline: customers
lake: {folder}/lake
sources: {{customers: {{format: csv, path: "{folder}/rows.csv", options: {{header: true}}}}}}
tables: {{customers: {{sql: SELECT * FROM bronze.customers, key: [id]}}}}
dataset: {{from: silver.customers, key: [id], exclude: [group]}}
training:
  task: clustering
  folds: 2
  tuner: {{strategy: grid}}
  models: {{kmeans: {{k: [2, 3, 5]}}, gaussian_mixture: {{k: 1}}}}
evaluation: {{gates: [silhouette >= 0.3, silhouette > baseline.silhouette]}}
"""
ROWS = 300


def customers() -> pd.DataFrame:
    """Three round groups, of 150, 100 and 50 rows."""
    rng = np.random.default_rng(5)
    group = np.repeat([0, 1, 2], [150, 100, 50])
    centers = np.array([[0.0, 0.0], [40.0, 3.0], [10.0, 9.0]])
    spread = rng.normal(size=(ROWS, 2)) * [3.0, 0.5]
    found = pd.DataFrame(centers[group] + spread, columns=["spent", "visits"])
    found.insert(0, "id", rng.permutation(ROWS))
    found["group"] = [f"g{number}" for number in group]
    return found


@pytest.fixture(scope="module")
def finished(whole_pipeline, tmp_path_factory):
    """One run over all steps."""
    return whole_pipeline(tmp_path_factory.mktemp("clusters"), SPEC, customers())


def test_three_groups_are_found_and_every_row_is_in_its_own(finished, spark):
    outcome, lake = finished.outcome, finished.lake
    assert (outcome.exit_code, outcome.champion) == (0, 1), outcome
    _, manifest = load_model(lake, "customers", 1)
    assert (manifest.params["k"], manifest.label_type, manifest.classes) == (3, "int", None)
    predictions = lake.read(spark, "gold.customers_predictions")
    types = dict(predictions.dtypes)
    assert (types["prediction"], types["probability"]) == ("int", "array<double>")
    told = predictions.toPandas().merge(customers(), on="id")
    assert len(told) == ROWS and told["score_error"].isna().all()
    assert adjusted_rand_score(told["group"], told["prediction"]) > 0.98
    assert told["probability"].isna().all()


def test_the_silhouette_is_that_of_scikit_learn_on_the_same_rows(finished, spark):
    lake = finished.lake
    dataset = lake.read(spark, "gold.customers_dataset")
    assert not {"label"} & set(dataset.columns) and dataset.where("split = 'train' AND fold IS NULL").isEmpty()
    model, manifest = load_model(lake, "customers", 1)
    found = model_outputs(model, manifest, dataset, ["split", "spent", "visits"], ["features_linear", "prediction"]).toPandas()
    test, train = found[found["split"] == "test"], found[found["split"] == "train"]
    # The features are scaled by the training rows alone.
    scaled = StandardScaler().fit(train[["spent", "visits"]]).transform(test[["spent", "visits"]])
    metrics = [row for row in lake.ledger.rows("ops.metrics", pipeline="customers") if row["metric"] == "silhouette"]
    values = {row["model_version"]: row["value"] for row in metrics}
    assert values[0] == 0.0
    assert values[1] == pytest.approx(silhouette_score(scaled, test["prediction"], metric="sqeuclidean"), abs=2e-3)
    vectors = np.stack([vector.toArray() for vector in test["features_linear"]])
    assert values[1] == pytest.approx(silhouette_score(vectors, test["prediction"], metric="sqeuclidean"), abs=1e-9)


def test_sizes_of_clusters_are_metrics_of_slices(finished, spark):
    lake = finished.lake
    rows = [row for row in lake.ledger.rows("ops.metrics", pipeline="customers") if row["slice"]]
    sizes = {(row["split"], row["slice"]): row["value"] for row in rows}
    assert {row["metric"] for row in rows} == {"rows"} and sum(sizes.values()) == ROWS
    told = lake.read(spark, "gold.customers_predictions").toPandas().merge(lake.read(spark, "gold.customers_dataset").toPandas(), on="id")
    counted = told.groupby(["split", "prediction"]).size()
    assert sizes == {(split, f"cluster={cluster}"): n for (split, cluster), n in counted.items()}
    [evaluated] = [step for step in finished.outcome.steps if step.node == "evaluate"]
    assert any("clusters of the training rows: 0 (" in note for note in evaluated.notes)


def test_a_mixture_of_one_is_a_failed_trial_and_the_search_goes_on(finished):
    rows = finished.lake.ledger.rows("ops.trials", pipeline="customers")
    alone = [row for row in rows if row["family"] == "gaussian_mixture" and row["params"] == '{"k": 1}']
    assert {row["state"] for row in alone} == {"FAILED"}
    others = [row for row in rows if row not in alone]
    assert {(row["state"], row["metric"], row["engine"]) for row in others} == {("SUCCEEDED", "silhouette", "spark")}


def test_rows_that_have_just_arrived_get_a_cluster_and_drift_is_watched(finished, score_input, tmp_path, capsys):
    file = tmp_path / "new.csv"
    file.write_text("id,spent,visits\n900,41.0,3.1\n901,39.0,2.9\n902,0.1,0.2\n")
    scored = score_input(finished.spec, finished.lake, file).sort_values("id")
    first, second, third = scored["prediction"]
    assert first == second != third
    assert {row["column_name"] for row in finished.lake.ledger.rows("ops.drift", pipeline="customers")} == {"spent", "visits"}
    assert main(["trials", str(finished.file)]) == 0
    assert "silhouette" in capsys.readouterr().out
