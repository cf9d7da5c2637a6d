"""Fits of the engine ``tasks``: all groups of a fold in one Spark job, each in a Spark task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tidemill.learners.base import Setting, Sharing
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.training.engines.fit_worker import Fit, Outcome, run_fits
from tidemill.training.folds import TaskVectors
from tidemill.training.problem import Problem
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def build_fit(group: Sequence[Trial], vectors: TaskVectors, problem: Problem, *, share: float = 1.0, limit: float | None = None) -> Fit:
    """Return the fit that a group of trials shares."""
    family = problem.family(group[0].family)
    assert family.learner is not None  # only such families are fitted by tasks
    settings = {
        trial.number: Setting(
            family.learner_params(trial.of_family, problem.task),
            problem.task,
            problem.n_classes,
            problem.seed,
            loss=problem.loss,
            quantile=problem.quantile,
            monotone=vectors.monotone,
            target=problem.target,
        )
        for trial in group
    }
    factors = problem.balance.factors if problem.balance else ()
    return Fit(vectors.matrix, family.learner, family.encoding, settings, vectors.nominal, share, factors, limit, problem.own_metrics)


def group_fits(
    trials: Sequence[Trial], vectors: TaskVectors, problem: Problem, *, share: float = 1.0, limit: float | None = None
) -> list[Fit]:
    """Return the fits of the trials: trials that can share a fit are grouped, ordered by the parameters in which they differ."""
    groups: dict[str, list[Trial]] = {}
    shared: dict[str, Sharing] = {}
    for trial in trials:
        family = problem.family(trial.family)
        assert family.learner is not None
        sharing = family.learner.sharing(problem.task, vectors.matrix.slots_of(family.encoding)) or Sharing((), 1)
        others = {name: value for name, value in trial.params.items() if name not in sharing.parameters}
        key = json.dumps([trial.family, others] if sharing.parameters else trial.number, sort_keys=True)
        groups.setdefault(key, []).append(trial)
        shared[key] = sharing
    fits = []
    for key, group in groups.items():
        most = shared[key].most or len(group)
        ordered = sorted(group, key=lambda trial: [float(trial.params.get(name, 0)) for name in reversed(shared[key].parameters)])
        fits += [
            build_fit(ordered[first : first + most], vectors, problem, share=share, limit=limit) for first in range(0, len(ordered), most)
        ]
    return fits


def measure_fits(spark: SparkSession, fits: Sequence[Fit]) -> list[Outcome]:
    """Run the fits and measure each of their trials.

    A fit that crashes its worker fails the whole job: then each trial runs in a job of its own, so that the others still complete.
    """
    try:
        outcomes = run_fits(spark, fits)
    except Exception:  # noqa: BLE001 - whose failure it is shows below
        outcomes = [_run_alone(spark, fit) for group in fits for fit in group.split_settings()]
    libraries = {trial: fit.library for fit in fits for trial in fit.settings}
    return [replace(outcome, library=libraries[outcome.trial]) for outcome in outcomes]


def _run_alone(spark: SparkSession, fit: Fit) -> Outcome:
    try:
        return run_fits(spark, [fit])[0]
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        return Outcome(next(iter(fit.settings)), {}, 0.0, 0.0, format_spark_error(error))
