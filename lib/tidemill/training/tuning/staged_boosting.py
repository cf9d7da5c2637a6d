"""Boosting rounds: trials that share one fit, since the first 30 rounds of a model of 60 are a model of 30; and early stopping."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F

from tidemill.families import PATIENCE
from tidemill.learners.boosting import Boosting
from tidemill.tasks import TaskKind
from tidemill.training.problem import Problem
from tidemill.training.selection import TrialFold
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.sql import DataFrame


def with_mean_rounds(trial: Trial, rows: Sequence[TrialFold], problem: Problem) -> Trial:
    """Return the trial with the mean number of rounds of its folds instead of early stopping; other trials unchanged."""
    rounds = list_rounds(trial, rows)
    learner = problem.family(trial.family).learner if rounds else None
    if not isinstance(learner, Boosting):
        return trial
    params = {name: value for name, value in trial.params.items() if name != PATIENCE}
    return replace(trial, params={**params, learner.rounds: round(sum(rounds) / len(rounds))})


def describe_rounds(trials: Sequence[Trial], rows: Sequence[TrialFold]) -> list[str]:
    """Return a note for each trial with early stopping: its rounds, and that its metric is optimistic."""
    stopped = [(trial, rounds) for trial in trials if (rounds := list_rounds(trial, rows))]
    return [
        f"{trial.family}: {round(sum(rounds) / len(rounds))} rounds, the mean of {', '.join(map(str, rounds))}, which the folds' own rows "
        "chose; its figures in cross-validation are a little too good for that"
        for trial, rounds in stopped
    ]


def list_rounds(trial: Trial, rows: Sequence[TrialFold]) -> list[int]:
    """Return the number of rounds of each fold on which the trial stopped early."""
    return [row.rounds for row in rows if row.trial == trial.number and row.rounds]


# Forests cannot share fits: MLlib samples the rows of all trees from one stream, so another number of trees gives other trees.
_ROUND_PARAMETERS = {"gradient_boosted_trees": "maxIter"}
# MLlib's boosting supports two classes; for more there is one model per class.
_TWO_CLASS_FAMILIES = ("gradient_boosted_trees",)


def group_by_shared_fit(trials: Sequence[Trial], task: str) -> list[list[Trial]]:
    """Group the trials that can share one MLlib fit; the trial with the most rounds comes first."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        rounds = _rounds_parameter(trial, task)
        others = {name: value for name, value in trial.params.items() if name != rounds}
        key = json.dumps([trial.family, others] if rounds else trial.number, sort_keys=True)
        groups.setdefault(key, []).append(trial)
    return [sorted(group, key=lambda trial: (-_count_rounds(trial, task), trial.number)) for group in groups.values()]


def is_sequential(trial: Trial) -> bool:
    """Return True where the fit is sequential: each round needs the one before."""
    return trial.family in _ROUND_PARAMETERS


def predict_trial(model: Model, trial: Trial, fitted: Trial, frame: DataFrame, task: str) -> DataFrame:
    """Predict ``frame`` with the rounds of ``trial``, from the model of the trial that was ``fitted`` for the group."""
    rounds = _count_rounds(trial, task)
    return model.transform(frame) if rounds == _count_rounds(fitted, task) else _predict_first_rounds(model, rounds, frame, task)


def _rounds_parameter(trial: Trial, task: str) -> str | None:
    """Return the parameter for the number of rounds, None where fits cannot be shared."""
    name = _ROUND_PARAMETERS.get(trial.family)
    is_one_model = task != "multiclass" or trial.family not in _TWO_CLASS_FAMILIES
    return name if is_one_model and name in trial.params else None


def _count_rounds(trial: Trial, task: str) -> int:
    name = _rounds_parameter(trial, task)
    return int(trial.params[name]) if name else 0


def _predict_first_rounds(model: Any, rounds: int, frame: DataFrame, task: str) -> DataFrame:
    """Predict with only the first rounds of a boosted model.

    Source: GBTClassificationModel of MLlib: the margin is the weighted sum of the trees, the probability of class 1
    ``1 / (1 + exp(-2 margin))``, and class 1 is predicted where the margin is above 0.
    """
    columns = []
    scored = frame
    for number, tree in enumerate(model.trees[:rounds]):
        columns.append(f"_tidemill_round_{number}")
        scored = tree.setFeaturesCol(model.getFeaturesCol()).setPredictionCol(columns[-1]).transform(scored)
    weights = model.treeWeights[:rounds]
    total = sum((F.col(column) * weight for column, weight in zip(columns, weights, strict=True)), start=F.lit(0.0))
    columns_in = [F.col(column) for column in frame.columns]
    if TaskKind(task).predicts_number:
        return scored.select(*columns_in, total.alias("prediction"))
    one = 1 / (1 + F.exp(-2 * F.col("_tidemill_margin")))
    return scored.select(*columns_in, total.alias("_tidemill_margin")).select(
        *columns_in,
        (F.col("_tidemill_margin") > 0).cast("double").alias("prediction"),
        array_to_vector(F.array(1 - one, one)).alias("probability"),
    )
