"""The step deploy: a challenger that loads and scores a sample becomes champion."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.errors import GateRefused, StepError, TidemillError
from tidemill.lake import Lake
from tidemill.model_registry import Deployments, Manifest, load_model, project
from tidemill.model_registry.predict import predict
from tidemill.steps.result import StepContext, StepResult

SAMPLE_ROWS = 100


def deploy(context: StepContext) -> StepResult:
    """Make the challenger champion, after it was loaded from its files and has scored a sample of its dataset.

    The old champion is RETIRED in the same commit. MLflow is updated afterwards; where that fails, the deployment stands, a note says
    so, and the next deploy repairs MLflow. Safe to repeat.

    Raises:
        GateRefused: the version was rejected by its gates.
        StepError: the version was not evaluated, does not load, or cannot score the sample.
    """
    pipeline = context.spec.pipeline
    version = context.inputs[pipeline.model_name]
    deployments = Deployments(context.lake.ledger, context.pipeline)
    state = deployments.state(version)
    notes: tuple[str, ...] = ()
    rows = None
    if state == "REJECTED":
        raise GateRefused(f"model {version} of {context.pipeline} was REJECTED by its gates; train a better one, or change the gates")
    if state == "CHALLENGER":
        rows = _score_sample(context, version)
        deployments.move(version, "CHAMPION", run_id=context.run_id, reason=f"loaded from its files, scored {rows} sample rows")
    elif state == "RETIRED":
        notes = (f"model {version} was RETIRED before; the champion stays {deployments.champion()}",)
    elif state != "CHAMPION":
        raise StepError(f"model {version} of {context.pipeline} is {state or 'unknown'}, expected CHALLENGER; run evaluate first")
    notes += repair_mlflow(context.lake, context.pipeline)
    return StepResult(outputs={pipeline.model_name: version}, rows_in=rows, rows_out=rows, notes=notes)


def repair_mlflow(lake: Lake, pipeline: str) -> tuple[str, ...]:
    """Update MLflow from the lake; return a note where that fails, since the deployment stands."""
    try:
        project(lake, pipeline)
    except TidemillError as error:
        return (str(error),)
    except Exception as error:  # noqa: BLE001 - any error of MLflow: the lake is the source of truth
        first = str(error).strip().partition("\n")[0]
        return (f"MLflow does not show the champion yet ({type(error).__name__}: {first}); the lake does, and the next deploy repairs it",)
    return ()


def _score_sample(context: StepContext, version: int) -> int:
    """Score a sample of the dataset that the version was trained on; return the number of rows."""
    model, manifest = load_model(context.lake, context.pipeline, version)
    rows = context.lake.read(context.spark, context.spec.pipeline.dataset_table, manifest.dataset_version)
    if manifest.kind.recommends:
        rows = _select_known_rows(rows, str(context.spec.pipeline.dataset.label), manifest)
    sample = rows.limit(SAMPLE_ROWS)
    row = (
        predict(model, manifest, sample)
        .agg(F.count("*").alias("rows"), F.count("score_error").alias("failed"), F.min("score_error").alias("error"))
        .first()
    )
    if row is None or row["rows"] == 0:
        raise StepError(f"model {version} of {context.pipeline}: the dataset has no row to try it on; run dataset again")
    if row["failed"]:
        raise StepError(
            f"model {version} of {context.pipeline} did not become champion: loaded from its files it could not score {row['failed']} of "
            f"{row['rows']} sample rows ({row['error']}); train again"
        )
    return int(row["rows"])


def _select_known_rows(rows: DataFrame, label: str, manifest: Manifest) -> DataFrame:
    """Select the rows whose user and item are in the training rows; a recommender cannot score others."""
    is_whole = [column(name).isNotNull() for name in (*manifest.feature_columns, label)]
    return rows.where(reduce(Column.__and__, is_whole, F.col("split") == "train"))
