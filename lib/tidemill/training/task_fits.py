"""Fits of the engine ``tasks``: all groups of a fold in one Spark job, a task each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tidemill.spark_errors import sentence
from tidemill.training.folds import CopiedVectors
from tidemill.training.prefixes import rounds_of
from tidemill.training.problem import Problem
from tidemill.training.tasks.fits import Fit, Outcome, run_fits
from tidemill.training.tasks.learner import Setting
from tidemill.training.tuner import Trial

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def task_fit(
    trial: Trial, copied: CopiedVectors, problem: Problem, *, rounds: Mapping[int, int | None] | None = None, share: float = 1.0
) -> Fit:
    """Return the fit of a trial on copied vectors; ``rounds`` as in `Fit`."""
    family = problem.family(trial.family)
    assert family.learner is not None  # engines are chosen by it
    setting = Setting(family.learner_params(trial.params, problem.task), problem.task, problem.n_classes, problem.seed)
    factors = problem.balance.factors if problem.balance else ()
    return Fit(copied.copy, family.learner, family.encoding, setting, rounds or {}, copied.nominal, share, factors=factors)


def measure(spark: SparkSession, groups: Sequence[Sequence[Trial]], copied: CopiedVectors, problem: Problem, share: float) -> list[Outcome]:
    """Fit each group once on a share of the training rows, and measure each of its trials.

    A fit that takes its worker down takes the job down: then each is tried by itself, so that the others come to their end.
    """
    fits = []
    for group in groups:
        rounds = {trial.number: rounds_of(trial, problem.family(trial.family)) for trial in group}
        fits.append(task_fit(group[0], copied, problem, rounds=rounds, share=share))
    try:
        return run_fits(spark, fits)
    except Exception:  # noqa: BLE001 - whose failure it is shows below
        return [outcome for fit in fits for outcome in _alone(spark, fit)]


def _alone(spark: SparkSession, fit: Fit) -> list[Outcome]:
    try:
        return run_fits(spark, [fit])
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        return [Outcome(trial, {}, 0.0, 0.0, sentence(error)) for trial in fit.rounds]
