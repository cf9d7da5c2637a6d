"""The best trial of each family together: whether that is better than the best of them alone, judged on rows that none has seen."""

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
from tidemill.tasks import is_minimised
from tidemill.training.ensembles.combined import BlendedPredictions, member_column
from tidemill.training.ensembles.combiners import BLEND, Combiner, blends, stacks
from tidemill.training.ensembles.member_predictions import read_predictions, write_predictions
from tidemill.training.out_of_fold import MAX_SCORES, ScoreHistogram, count_scores_in_spark, merge_histograms
from tidemill.training.selection import FAILED, SUCCEEDED, SearchResult, TrialFold
from tidemill.training.tuning.staged_boosting import rounds_of, settled
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.training.tuning.search import Search
    from tidemill.training.tuning.space import Params


MOST_MEMBERS = 5


@dataclass(frozen=True)
class Ensemble:
    """Members and what combines them.

    ``trial`` is theirs together, of the family ``blend`` or ``stack``; ``members`` are the trials by the place that the ``stages`` know
    them by; ``counts`` those of its predictions of unseen rows, as `out_of_fold.count_scores`, where they were asked for.
    """

    trial: Trial
    members: Mapping[int, Trial]
    stages: tuple[Transformer, ...]
    counts: list[ScoreHistogram] | None = None


@dataclass(frozen=True)
class Tried:
    """What came of it: the ``ensemble`` where it is better than the best trial, the ``result`` to go on with, and notes for people."""

    result: SearchResult
    ensemble: Ensemble | None = None
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> list[Trial]:
        """The trials that the candidate is made of."""
        return list(self.ensemble.members.values()) if self.ensemble else [self.result.best]


@dataclass(frozen=True)
class _Measured:
    """One fold's value, how long it took, and the counts."""

    value: float
    seconds: float
    counts: list[ScoreHistogram] | None


def members_of(found: SearchResult, trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Return the best trial of each family that succeeded in every fold, the best of all first, at most five."""
    best: dict[str, Trial] = {}
    for trial in trials:
        held = best.get(trial.family)
        if trial.number in found.means and (held is None or is_better(metric, found.means[trial.number], found.means[held.number])):
            best[trial.family] = trial
    sign = 1 if is_better(metric, 0.0, 1.0) else -1
    return sorted(best.values(), key=lambda trial: (sign * found.means[trial.number], trial.number))[:MOST_MEMBERS]


def try_ensemble(
    kind: str,
    spark: SparkSession,
    finder: Search,
    found: SearchResult,
    trials: Sequence[Trial],
    folds: Sequence[int],
    *,
    scratch: str,
    with_counts: bool = False,
) -> Tried:
    """Combine the members, measure that fold by fold, and choose it where its mean is better than that of the best of them.

    Each fold is measured by a combination that was fitted on the predictions of the other folds' rows, each of these by members that had
    not seen it. That is a row a fold of ``ops.trials``, under the number after the last one. What fails leaves the trial that was chosen.
    The rounds of a member that was stopped early were chosen by the rows that it was measured on, so it is measured again with the rounds
    that all folds settled on.

    Args:
        kind: ``blend`` or ``stack``.
        spark: the session.
        finder: the search, its folds' vectors not yet freed.
        found: what it chose.
        trials: those that were tried.
        folds: those that are validated.
        scratch: a folder that all executors see.
        with_counts: whether counts are wanted, for a calibration or a threshold.
    """
    metric = finder.problem.metric
    members = [settled(trial, found.rows, finder.problem) for trial in members_of(found, trials, metric)]
    chosen = f"the candidate is {found.best.family}, trial {found.best.number}"
    if len(members) < 2 or len(folds) < 2:
        lack = f"found {len(members)} family that succeeded" if len(members) < 2 else "found one fold that is validated"
        return Tried(found, notes=(f"ensemble: {lack}, a {kind} needs two; {chosen}",))
    folder = f"{scratch}/ensemble-{uuid.uuid4().hex}"
    libraries = found.libraries({trial.number for trial in members})
    early = tuple(place for place, trial in enumerate(members) if rounds_of(trial, found.rows))
    maker = _Maker(kind, finder, members, early, tuple(folds), 1 + max(trial.number for trial in trials), libraries)
    try:
        ensemble, rows, again = maker.made(spark, folder, with_counts=with_counts)
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        rows = [maker.row(fold, "{}", error=format_spark_error(error)) for fold in folds]
        note = f"ensemble: the {kind} failed: {format_spark_error(error)}; {chosen}"
        return Tried(replace(found, rows=(*found.rows, *rows)), notes=(note,))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    value = sum(row.value or 0.0 for row in rows) / len(rows)
    alone = [again.get(place, found.means[trial.number]) for place, trial in enumerate(members)]
    best = min(alone) if is_minimised(metric) else max(alone)
    judged = f"{metric} {value:.4g} in cross-validation, {best:.4g} for the best of them alone"
    known = replace(found, rows=(*found.rows, *rows), means={**found.means, ensemble.trial.number: value})
    if len(ensemble.members) < 2:
        family = next(iter(ensemble.members.values())).family
        return Tried(known, notes=(f"ensemble: the {kind} leaves {family} alone; {chosen}",))
    if not is_better(metric, value, best):
        return Tried(known, notes=(f"ensemble: the {kind} is no better ({judged}); {chosen}",))
    note = f"ensemble: the candidate is the {kind} of {_told(ensemble.trial)} ({judged}); ops.importances has no rows of it"
    return Tried(replace(known, best=ensemble.trial), ensemble, (note,))


def _of(fold: int, rows: DataFrame) -> DataFrame:
    return rows.where(F.col("fold") == fold)


def _told(trial: Trial) -> str:
    members = cast("Mapping[str, Mapping[str, Any]]", trial.params["members"])
    return ", ".join(f"{family} {member['weight']:.3g}" for family, member in members.items())


@dataclass(frozen=True)
class _Maker:
    kind: str
    finder: Search
    members: Sequence[Trial]
    early: tuple[int, ...]
    folds: tuple[int, ...]
    number: int
    libraries: str

    def made(self, spark: SparkSession, folder: str, *, with_counts: bool) -> tuple[Ensemble, list[TrialFold], dict[int, float]]:
        """Return the ensemble, fitted on all predictions, its rows, and by its place the mean of each member that was stopped early."""
        started = time.perf_counter()
        problem, size = self.finder.problem, len(self.members)
        write_predictions(spark, self.finder, self.members, self.folds, folder)
        with cache_frame(read_predictions(spark, size, folder, problem)) as rows:
            combined = blends if self.kind == BLEND else stacks
            whole, by_fold = combined(rows, size, self.folds, problem)
            spent = (time.perf_counter() - started) / len(self.folds)
            measured = {fold: self._measured(by_fold[fold].stages, _of(fold, rows), with_counts) for fold in self.folds}
            again = {place: self._alone(place, rows) for place in self.early}
        trial = Trial(self.number, self.kind, self._params(whole))
        rows_of_folds = [self.row(fold, trial.params_json, found, spent) for fold, found in measured.items()]
        bad = [f"{problem.metric} is {found.value} on fold {fold}" for fold, found in measured.items() if not math.isfinite(found.value)]
        if bad:
            raise ValueError(bad[0])
        # A blend leaves out whom it does not hear; the weights of a stack may have any sign, and hang together.
        kept = {place: one for place, one in enumerate(self.members) if self.kind != BLEND or whole.weights[place] > 0}
        counted = [found.counts for found in measured.values() if found.counts is not None]
        return Ensemble(trial, kept, whole.stages, merge_histograms(counted) if counted else None), rows_of_folds, again

    def _alone(self, place: int, rows: DataFrame) -> float:
        stage = BlendedPredictions([member_column(place)], [1.0], self.finder.problem.task)
        return sum(self._measured((stage,), _of(fold, rows)).value for fold in self.folds) / len(self.folds)

    def _measured(self, stages: Sequence[Transformer], rows: DataFrame, with_counts: bool = False) -> _Measured:
        started = time.perf_counter()
        problem, said = self.finder.problem, rows
        for stage in stages:
            said = stage.transform(said)
        value = compute_metrics(said, problem.task, problem.n_classes, own=problem.own_metrics)[problem.metric]
        counts = count_scores_in_spark(said, None, problem.n_classes, MAX_SCORES // len(self.folds)) if with_counts else None
        return _Measured(value, time.perf_counter() - started, counts)

    def _params(self, whole: Combiner) -> Params:
        """Return who is in it, by family, with trial, parameters and weight."""
        members = {
            one.family: {"trial": one.number, "params": one.params, "weight": round(weight, 6)}
            for one, weight in zip(self.members, whole.weights, strict=True)
        }
        return cast("Params", {"members": members})

    def row(self, fold: int, params: str, found: _Measured | None = None, spent: float = 0.0, error: str | None = None) -> TrialFold:
        """Return the row of a fold."""
        return TrialFold(
            trial=self.number,
            fold=fold,
            family=self.kind,
            params=params,
            metric=self.finder.problem.metric,
            value=found.value if found else None,
            seconds=spent + (found.seconds if found else 0.0),
            state=SUCCEEDED if found else FAILED,
            engine=ON_CLUSTER,
            error=error,
            library=self.libraries,
            score_seconds=found.seconds if found else None,
        )
