"""The step train: search, refit of the best parameters on all training rows, and a new model version."""

from __future__ import annotations

from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.train.job import TrainingJob
from tidemill.steps.train.register_model import register_model


def train(context: StepContext) -> StepResult:
    """Select a family and its parameters by cross-validation, refit them on all training rows, and register the model.

    Writes ``ops.trials`` (one row per trial and fold), the model's files, ``ops.importances`` (one row per slot), and last the version's
    state CANDIDATE, without which a version does not exist: a rerun replaces all that a killed run has written.

    Raises:
        StepError: there are too few labelled training rows, a fold lacks a class, or no trial succeeded.
        SpecError: a feature column, a family or a parameter is unknown.
    """
    result: StepResult = context.spec.pipeline.task.load("trainer")(context)
    return result


def train_on_features(context: StepContext) -> StepResult:
    """Train a model of a task that reads features; see `train`."""
    with TrainingJob.open(context) as job:
        search, past = job.start_search()
        choice = job.choose(search, past)
        trained = job.refit(search, choice)
    version = register_model(context, trained)
    outputs = {context.spec.pipeline.model_name: version}
    return StepResult(outputs=outputs, rows_in=job.total, rows_out=job.total, notes=job.describe(search, choice))
