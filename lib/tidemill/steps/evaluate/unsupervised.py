"""What a model that learned from no label is worth on the test rows, and what a constant would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.dataset.splits import hashed
from tidemill.errors import StepError
from tidemill.evaluation import compute_metrics
from tidemill.evaluation.mass_volume import MOST_ROWS, mass_volume
from tidemill.evaluation.unsupervised import OneCluster, cluster_sizes
from tidemill.features.text.arrow import dense_rows
from tidemill.learners.model import LearnedModel
from tidemill.model_registry.predict import encode_label, labelled_predictions, model_outputs

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.model_registry import Manifest
    from tidemill.spec.models import Dataset


_SEED = 7
_PARTS = 1_000_000
_ORDER = "_tidemill_order"


def free_metrics(model: PipelineModel, manifest: Manifest, test: DataFrame, declared: Dataset) -> dict[str, float]:
    """Return the metrics of the model on the test rows.

    Of clusters the silhouette, 0 where all rows are in one; of anomalies the room that the least strange rows take and, where a label
    judges them, the areas over the rows that have one.
    """
    if manifest.task == "clustering":
        features = _features(model)
        try:
            return compute_metrics(model_outputs(model, manifest, test, [], [features, "prediction"]), "clustering", features=features)
        except OneCluster:
            return {"silhouette": 0.0}
    found = {"massVolume": _mass_volume(model, manifest, test, declared.key)}
    judged = _judged(manifest, test, declared.label)
    if judged is None or judged.isEmpty():
        return found
    return {**compute_metrics(labelled_predictions(model, manifest, judged, str(declared.label)), "anomaly"), **found}


def free_baseline(manifest: Manifest, test: DataFrame, label: str | None) -> dict[str, float]:
    """Return the metrics of a constant on the same rows: all in one cluster, or all equally strange."""
    if manifest.task == "clustering":
        return {"silhouette": 0.0}
    judged = _judged(manifest, test, label)
    row = None if judged is None else judged.agg(F.avg(encode_label(manifest, F.col(str(label)))).alias("share")).first()
    areas = {} if row is None or row["share"] is None else {"areaUnderPR": float(row["share"]), "areaUnderROC": 0.5}
    return {**areas, "massVolume": 1.0}


def cluster_rows(model: PipelineModel, manifest: Manifest, dataset: DataFrame) -> list[dict[str, Any]]:
    """Return the rows of each cluster in train and test, as columns of ``ops.metrics``: ``slice`` is ``cluster=<number>``."""
    sizes = cluster_sizes(model_outputs(model, manifest, dataset.where(F.col("split").isin("train", "test")), ["split"], ["prediction"]))
    return [{"split": split, "slice": f"cluster={cluster}", "metric": "rows", "value": float(n)} for (split, cluster), n in sizes.items()]


def told_sizes(sizes: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """Return a note of the clusters and their training rows."""
    trained = [f"{str(row['slice']).partition('=')[2]} ({row['value']:,.0f} rows)" for row in sizes if row["split"] == "train"]
    return (f"clusters of the training rows: {', '.join(trained)}",) if trained else ()


def _judged(manifest: Manifest, test: DataFrame, label: str | None) -> DataFrame | None:
    """Return the rows that have a label, None where none is declared."""
    return None if label is None else test.where(encode_label(manifest, column(label)) < manifest.n_classes)


def _features(model: PipelineModel) -> str:
    """Return the column of the vectors that the model's last stage reads."""
    return next(str(stage.getOrDefault("featuresCol")) for stage in reversed(model.stages) if stage.hasParam("featuresCol"))


def _mass_volume(model: PipelineModel, manifest: Manifest, test: DataFrame, key: Sequence[str]) -> float:
    """Measure a sample of about 10,000 test rows, chosen by a hash of the key; only they come to the driver, as vectors.

    Raises:
        StepError: there is no row.
    """
    code = hashed(key, _SEED, stream="mass and volume")
    rows = test.count()
    sample = test if rows <= MOST_ROWS else test.where(F.pmod(code, F.lit(_PARTS)) < round(MOST_ROWS / rows * _PARTS))
    features = _features(model)
    table = model_outputs(model, manifest, sample.withColumn(_ORDER, code), [_ORDER], [features]).toArrow()
    if not table.num_rows:
        raise StepError("dataset: no test row came, expected some to evaluate on; check dataset.split")
    order = np.argsort(table.column(_ORDER).to_numpy(), kind="stable")
    vectors = dense_rows(table.column(features).combine_chunks())[order]
    scorer = next(stage for stage in reversed(model.stages) if isinstance(stage, LearnedModel)).scorer()
    return mass_volume(lambda points: scorer.predict(points)[:, 1], vectors, _SEED)
