"""An ensemble of the best trial of each family, and its comparison with the best member on held-out rows."""

from __future__ import annotations

import math
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from pyspark.sql import functions as F

from tidemill.evaluation import compute_metrics, is_better
from tidemill.families import ON_CLUSTER
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.tasks import is_minimised, reads_error_quantiles
from tidemill.training.ensembles.combined import BlendedPredictions, member_column
from tidemill.training.ensembles.combiners import BLEND, Combiner, fit_blends, fit_stacks
from tidemill.training.ensembles.member_predictions import read_predictions, write_predictions
from tidemill.training.out_of_fold import MAX_SCORES, ScoreHistogram, count_scores_in_spark, merge_histograms
from tidemill.training.selection import FAILED, SUCCEEDED, SearchResult, TrialFold
from tidemill.training.tuning.staged_boosting import list_rounds, with_mean_rounds
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.training.tuning.search import Search
    from tidemill.training.tuning.space import Params


MAX_MEMBERS = 5


@dataclass(frozen=True)
class Ensemble:
    """Members and their combiner.

    ``trial`` is that of the ensemble, of the family ``blend`` or ``stack``; ``members`` are the trials by their position in the
    ``stages``; ``counts`` are the histograms of its out-of-fold predictions (`out_of_fold.count_scores`), where requested.
    """

    trial: Trial
    members: Mapping[int, Trial]
    stages: tuple[Transformer, ...]
    counts: list[ScoreHistogram] | None = None


@dataclass(frozen=True)
class EnsembleResult:
    """The ``ensemble`` where it is better than the best trial, the ``result`` with its choice, and notes for people."""

    result: SearchResult
    ensemble: Ensemble | None = None
    notes: tuple[str, ...] = ()

    @property
    def candidate_trials(self) -> list[Trial]:
        """The trials of the candidate: the members of the ensemble, or the best trial."""
        return list(self.ensemble.members.values()) if self.ensemble else [self.result.best]


@dataclass(frozen=True)
class _FoldMetric:
    """The metric of member fold, the seconds it took, and the histograms."""

    value: float
    seconds: float
    counts: list[ScoreHistogram] | None


def choose_members(result: SearchResult, trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Return the best trial of each family that succeeded in every fold, best first, at most MAX_MEMBERS."""
    best: dict[str, Trial] = {}
    for trial in trials:
        best_of_family = best.get(trial.family)
        if trial.number in result.means and (
            best_of_family is None or is_better(metric, result.means[trial.number], result.means[best_of_family.number])
        ):
            best[trial.family] = trial
    sign = 1 if is_better(metric, 0.0, 1.0) else -1
    return sorted(best.values(), key=lambda trial: (sign * result.means[trial.number], trial.number))[:MAX_MEMBERS]


def try_ensemble(
    kind: str,
    spark: SparkSession,
    search: Search,
    result: SearchResult,
    trials: Sequence[Trial],
    folds: Sequence[int],
    *,
    scratch: str,
    with_counts: bool = False,
) -> EnsembleResult:
    """Combine the members, measure the ensemble on each fold, and select it where its mean is better than that of the best member.

    A fold is measured with a combiner that was fitted on the out-of-fold predictions of the other folds. It adds one row per fold to
    ``ops.trials``, under the number after the last trial. After a failure the selected trial stays the candidate. A member with early
    stopping is measured again with the mean rounds of all folds, since its own rounds were chosen on the rows that measured it.

    Args:
        kind: ``blend`` or ``stack``.
        spark: the session.
        search: the search, whose vectors are not freed yet.
        result: its result.
        trials: all trials of the search.
        folds: the validated folds.
        scratch: a folder that all executors see.
        with_counts: whether to return histograms, for a calibration or a threshold.
    """
    metric = search.problem.metric
    members = [with_mean_rounds(trial, result.rows, search.problem) for trial in choose_members(result, trials, metric)]
    chosen = f"the candidate is {result.best.family}, trial {result.best.number}"
    if len(members) < 2 or len(folds) < 2:
        lack = f"{len(members)} family succeeded" if len(members) < 2 else "one fold is validated"
        return EnsembleResult(result, notes=(f"ensemble: {lack}, a {kind} needs two; {chosen}",))
    folder = f"{scratch}/ensemble-{uuid.uuid4().hex}"
    libraries = result.libraries({trial.number for trial in members})
    stopped_early = tuple(position for position, trial in enumerate(members) if list_rounds(trial, result.rows))
    ensemble_fit = _EnsembleFit(kind, search, members, stopped_early, tuple(folds), 1 + max(trial.number for trial in trials), libraries)
    try:
        ensemble, rows, remeasured = ensemble_fit.run(spark, folder, with_counts=with_counts)
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        rows = [ensemble_fit.build_row(fold, "{}", error=format_spark_error(error)) for fold in folds]
        note = f"ensemble: the {kind} failed: {format_spark_error(error)}; {chosen}"
        return EnsembleResult(replace(result, rows=(*result.rows, *rows)), notes=(note,))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    value = sum(row.value or 0.0 for row in rows) / len(rows)
    alone = [remeasured.get(position, result.means[trial.number]) for position, trial in enumerate(members)]
    best = min(alone) if is_minimised(metric) else max(alone)
    comparison = f"{metric} {value:.4g} in cross-validation, {best:.4g} for the best of them alone"
    with_ensemble = replace(result, rows=(*result.rows, *rows), means={**result.means, ensemble.trial.number: value})
    if len(ensemble.members) < 2:
        family = next(iter(ensemble.members.values())).family
        return EnsembleResult(with_ensemble, notes=(f"ensemble: the {kind} leaves {family} alone; {chosen}",))
    if not is_better(metric, value, best):
        return EnsembleResult(with_ensemble, notes=(f"ensemble: the {kind} is no better ({comparison}); {chosen}",))
    note = f"ensemble: the candidate is the {kind} of {_describe_members(ensemble.trial)} ({comparison}); ops.importances has no rows of it"
    return EnsembleResult(replace(with_ensemble, best=ensemble.trial), ensemble, (note,))


def _select_fold(fold: int, rows: DataFrame) -> DataFrame:
    return rows.where(F.col("fold") == fold)


def _describe_members(trial: Trial) -> str:
    members = cast("Mapping[str, Mapping[str, Any]]", trial.params["members"])
    return ", ".join(f"{family} {member['weight']:.3g}" for family, member in members.items())


@dataclass(frozen=True)
class _EnsembleFit:
    kind: str
    search: Search
    members: Sequence[Trial]
    stopped_early: tuple[int, ...]
    folds: tuple[int, ...]
    number: int
    libraries: str

    def run(self, spark: SparkSession, folder: str, *, with_counts: bool) -> tuple[Ensemble, list[TrialFold], dict[int, float]]:
        """Return the ensemble, its rows, and by position the new mean of each member with early stopping."""
        started = time.perf_counter()
        problem, size = self.search.problem, len(self.members)
        write_predictions(spark, self.search, self.members, self.folds, folder)
        with cache_frame(read_predictions(spark, size, folder, problem)) as rows:
            fit_combiner = fit_blends if self.kind == BLEND else fit_stacks
            combiner, by_fold = fit_combiner(rows, size, self.folds, problem)
            seconds = (time.perf_counter() - started) / len(self.folds)
            measured = {fold: self._measure(by_fold[fold].stages, _select_fold(fold, rows), with_counts) for fold in self.folds}
            remeasured = {position: self._measure_alone(position, rows) for position in self.stopped_early}
        trial = Trial(self.number, self.kind, self._params(combiner))
        rows_of_folds = [self.build_row(fold, trial.params_json, metric, seconds) for fold, metric in measured.items()]
        bad = [f"{problem.metric} is {metric.value} on fold {fold}" for fold, metric in measured.items() if not math.isfinite(metric.value)]
        if bad:
            raise ValueError(bad[0])
        # A blend leaves out members of weight 0; the coefficients of a stack may have any sign, so all its members stay.
        members = {position: member for position, member in enumerate(self.members) if self.kind != BLEND or combiner.weights[position] > 0}
        histograms = [metric.counts for metric in measured.values() if metric.counts is not None]
        return Ensemble(trial, members, combiner.stages, merge_histograms(histograms) if histograms else None), rows_of_folds, remeasured

    def _measure_alone(self, position: int, rows: DataFrame) -> float:
        stage = BlendedPredictions([member_column(position)], [1.0], self.search.problem.task)
        return sum(self._measure((stage,), _select_fold(fold, rows)).value for fold in self.folds) / len(self.folds)

    def _measure(self, stages: Sequence[Transformer], rows: DataFrame, with_counts: bool = False) -> _FoldMetric:
        started = time.perf_counter()
        problem, predictions = self.search.problem, rows
        for stage in stages:
            predictions = stage.transform(predictions)
        quantiles = reads_error_quantiles(problem.metric)
        metrics = compute_metrics(predictions, problem.task, problem.n_classes, own=problem.own_metrics, with_error_quantiles=quantiles)
        value = metrics[problem.metric]
        counts = count_scores_in_spark(predictions, None, problem.n_classes, MAX_SCORES // len(self.folds)) if with_counts else None
        return _FoldMetric(value, time.perf_counter() - started, counts)

    def _params(self, combiner: Combiner) -> Params:
        """Return trial, parameters and weight of each member, by family."""
        members = {
            member.family: {"trial": member.number, "params": member.params, "weight": round(weight, 6)}
            for member, weight in zip(self.members, combiner.weights, strict=True)
        }
        return cast("Params", {"members": members})

    def build_row(
        self, fold: int, params: str, measured: _FoldMetric | None = None, seconds: float = 0.0, error: str | None = None
    ) -> TrialFold:
        """Return the row of ``ops.trials`` of a fold."""
        return TrialFold(
            trial=self.number,
            fold=fold,
            family=self.kind,
            params=params,
            metric=self.search.problem.metric,
            value=measured.value if measured else None,
            seconds=seconds + (measured.seconds if measured else 0.0),
            state=SUCCEEDED if measured else FAILED,
            engine=ON_CLUSTER,
            error=error,
            library=self.libraries,
            score_seconds=measured.seconds if measured else None,
        )
