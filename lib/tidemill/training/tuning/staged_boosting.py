"""Rounds of boosting that serve several trials: a model of 30 rounds is the first 30 rounds of one of 60, exactly."""

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


def settled(trial: Trial, rows: Sequence[TrialFold], problem: Problem) -> Trial:
    """Return the trial with the rounds that its folds found best, on the average, in place of when to stop; others as they are."""
    found = rounds_of(trial, rows)
    learner = problem.family(trial.family).learner if found else None
    if not isinstance(learner, Boosting):
        return trial
    params = {name: value for name, value in trial.params.items() if name != PATIENCE}
    return replace(trial, params={**params, learner.rounds: round(sum(found) / len(found))})


def remarks(trials: Sequence[Trial], rows: Sequence[TrialFold]) -> list[str]:
    """Return a note for each trial that folds stopped early, with what that means."""
    found = [(trial, rounds) for trial in trials if (rounds := rounds_of(trial, rows))]
    return [
        f"{trial.family}: {round(sum(rounds) / len(rounds))} rounds, the mean of {', '.join(map(str, rounds))}, which the folds' own rows "
        "chose; its figures in cross-validation are a little too good for that"
        for trial, rounds in found
    ]


def rounds_of(trial: Trial, rows: Sequence[TrialFold]) -> list[int]:
    """Return the rounds of each fold that stopped the trial early."""
    return [row.rounds for row in rows if row.trial == trial.number and row.rounds]


# Forests are not here: MLlib draws the rows of all trees from one stream, so that another number of trees gives other trees.
_ROUNDS = {"gradient_boosted_trees": "maxIter"}
# MLlib's boosting knows no more than two classes: what stands for it then is a model a class.
_OF_TWO_CLASSES = ("gradient_boosted_trees",)


def shared_fits(trials: Sequence[Trial], task: str) -> list[list[Trial]]:
    """Return the trials in groups of which one fit of MLlib's serves all, the trial with the most rounds first."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        rounds = _rounds(trial, task)
        others = {name: value for name, value in trial.params.items() if name != rounds}
        key = json.dumps([trial.family, others] if rounds else trial.number, sort_keys=True)
        groups.setdefault(key, []).append(trial)
    return [sorted(group, key=lambda trial: (-_count(trial, task), trial.number)) for group in groups.values()]


def is_sequential(trial: Trial) -> bool:
    """Return True where the fit goes round by round, each waiting for the one before."""
    return trial.family in _ROUNDS


def predictions_of(model: Model, trial: Trial, fitted: Trial, frame: DataFrame, task: str) -> DataFrame:
    """Return what ``trial`` predicts for ``frame``, from the model of the trial that was fitted for the group."""
    rounds = _count(trial, task)
    return model.transform(frame) if rounds == _count(fitted, task) else _first_rounds(model, rounds, frame, task)


def _rounds(trial: Trial, task: str) -> str | None:
    """Return the parameter that counts the rounds, None where fits cannot be shared."""
    name = _ROUNDS.get(trial.family)
    is_one_model = task != "multiclass" or trial.family not in _OF_TWO_CLASSES
    return name if is_one_model and name in trial.params else None


def _count(trial: Trial, task: str) -> int:
    name = _rounds(trial, task)
    return int(trial.params[name]) if name else 0


def _first_rounds(model: Any, rounds: int, frame: DataFrame, task: str) -> DataFrame:
    """Predict with the first rounds of a boosted model alone.

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
    kept = [F.col(column) for column in frame.columns]
    if TaskKind(task).predicts_number:
        return scored.select(*kept, total.alias("prediction"))
    one = 1 / (1 + F.exp(-2 * F.col("_tidemill_margin")))
    return scored.select(*kept, total.alias("_tidemill_margin")).select(
        *kept,
        (F.col("_tidemill_margin") > 0).cast("double").alias("prediction"),
        array_to_vector(F.array(1 - one, one)).alias("probability"),
    )
