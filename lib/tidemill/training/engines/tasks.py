"""Fits of the engine ``tasks``: all groups of a fold in one Spark job, a task each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tidemill.learners.base import Setting, Sharing
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.training.engines.fit_worker import Fit, Outcome, run_fits
from tidemill.training.folds import CopiedVectors
from tidemill.training.problem import Problem
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def task_fit(group: Sequence[Trial], copied: CopiedVectors, problem: Problem, *, share: float = 1.0, limit: float | None = None) -> Fit:
    """Return the fit that serves a group of trials on copied vectors."""
    family = problem.family(group[0].family)
    assert family.learner is not None  # engines are chosen by it
    settings = {
        trial.number: Setting(
            family.learner_params(trial.of_family, problem.task),
            problem.task,
            problem.n_classes,
            problem.seed,
            loss=problem.loss,
            quantile=problem.quantile,
            monotone=copied.monotone,
            target=problem.target,
        )
        for trial in group
    }
    factors = problem.balance.factors if problem.balance else ()
    return Fit(copied.copy, family.learner, family.encoding, settings, copied.nominal, share, factors, limit, problem.own_metrics)


def grouped(
    trials: Sequence[Trial], copied: CopiedVectors, problem: Problem, *, share: float = 1.0, limit: float | None = None
) -> list[Fit]:
    """Return the fits that serve the trials, those that share one together, neighbours first."""
    groups: dict[str, list[Trial]] = {}
    shared: dict[str, Sharing] = {}
    for trial in trials:
        family = problem.family(trial.family)
        assert family.learner is not None
        sharing = family.learner.sharing(problem.task, copied.copy.slots_of(family.encoding)) or Sharing((), 1)
        others = {name: value for name, value in trial.params.items() if name not in sharing.parameters}
        key = json.dumps([trial.family, others] if sharing.parameters else trial.number, sort_keys=True)
        groups.setdefault(key, []).append(trial)
        shared[key] = sharing
    fits = []
    for key, group in groups.items():
        most = shared[key].most or len(group)
        near = sorted(group, key=lambda trial: [float(trial.params.get(name, 0)) for name in reversed(shared[key].parameters)])
        fits += [task_fit(near[first : first + most], copied, problem, share=share, limit=limit) for first in range(0, len(near), most)]
    return fits


def measure(spark: SparkSession, fits: Sequence[Fit]) -> list[Outcome]:
    """Run the fits and measure each of their trials.

    A fit that takes its worker down takes the job down: then each trial is tried by itself, so that the others come to their end.
    """
    try:
        found = run_fits(spark, fits)
    except Exception:  # noqa: BLE001 - whose failure it is shows below
        found = [_alone(spark, fit) for group in fits for fit in group.alone()]
    libraries = {trial: fit.library for fit in fits for trial in fit.settings}
    return [replace(outcome, library=libraries[outcome.trial]) for outcome in found]


def _alone(spark: SparkSession, fit: Fit) -> Outcome:
    try:
        return run_fits(spark, [fit])[0]
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        return Outcome(next(iter(fit.settings)), {}, 0.0, 0.0, format_spark_error(error))
