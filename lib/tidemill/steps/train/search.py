"""What training does for every task: search, select_trial, and record each trial, whatever comes of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tidemill.lake.ops import TrialRow
from tidemill.model_registry import Deployments
from tidemill.spec.models import Space, Training
from tidemill.steps.train.feature_spec import declared_features
from tidemill.training.selection import SUCCEEDED, NoTrialSucceeded, SearchResult, TrialFold, first_errors, select_trial
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.staged_boosting import with_mean_rounds
from tidemill.training.tuning.tune import TuningResult, rerun, tune
from tidemill.version import VERSION

if TYPE_CHECKING:
    from tidemill.steps.result import StepContext
    from tidemill.training.problem import Problem

logger = logging.getLogger(__name__)


_COLUMNS = [field.name for field in dataclasses.fields(TrialFold) if field.name != "trial"]


class PastTrials:
    """The rows of ``ops.trials`` that belong to one search: the same rows, features, problem, folds and code."""

    def __init__(self, context: StepContext, learned_from: object, problem: Problem) -> None:
        """Identify the search by all that its results depend on except the trials; ``learned_from`` are the columns that it reads."""
        self._context = context
        pipeline = context.spec.pipeline
        parts = [
            context.inputs[pipeline.dataset_table],
            declared_features(pipeline.features),
            learned_from,
            problem.dependencies,
            pipeline.dataset.weight,
            pipeline.training.engine,
            VERSION,
            context.spec.training_code(),
        ]
        self._search = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def known(self) -> dict[tuple[str, str, int], TrialFold]:
        """Return the rows of earlier runs of this search that ended without a model: family, parameters and fold → the row."""
        ledger, name = self._context.lake.ledger, self._context.pipeline
        finished = {row.run_id for row in Deployments(ledger, name).rows() if row.to_state == "CANDIDATE"}
        fits = {}
        for row in ledger.read(TrialRow, pipeline=name, search=self._search):
            if row.run_id not in finished and row.state == SUCCEEDED and row.share == 1.0:
                fit = TrialFold(trial=-1, **{column: getattr(row, column) for column in _COLUMNS})
                fits[fit.family, fit.params, fit.fold] = fit
        return fits

    def list_recorded_folds(self) -> list[TrialFold]:
        """Return the rows of a recorded search that is to be made again; none for a new search."""
        rows = self._context.recorded_trials
        return [TrialFold(trial=int(row.trial or 0), **{column: getattr(row, column) for column in _COLUMNS}) for row in rows]

    def append(self, rows: Sequence[TrialFold]) -> None:
        """Append the rows of a fit that has ended."""
        for row in rows:
            logger.info("trial %d, fold %d: %s %s is %s after %.1f s", row.trial, row.fold, row.family, row.params, row.state, row.seconds)
        self._context.lake.ledger.append(self._to_trial_rows(rows))

    def record(self, rows: Sequence[TrialFold]) -> None:
        """Write all rows of the run in place of those that were appended."""
        context = self._context
        context.lake.ledger.put(TrialRow, self._to_trial_rows(rows), where=context.run_columns)

    def _to_trial_rows(self, rows: Sequence[TrialFold]) -> list[TrialRow]:
        return [TrialRow(**self._context.run_columns, search=self._search, **row.row()) for row in rows]


def cross_validate_and_select(
    training: Training,
    spaces: Mapping[str, Space],
    search: Search,
    past: PastTrials,
    folds: Sequence[int],
    total: int,
    *,
    is_last: bool = True,
) -> tuple[TuningResult, SearchResult]:
    """Run the trials, write them to ``ops.trials``, and return them with the selection; the mean rounds replace early stopping.

    ``total`` is the number of training rows; ``is_last``: the vectors of the folds are not needed afterwards. Where ``past`` has recorded
    trials, these are run again, and the tuner is not asked.

    Raises:
        NoTrialSucceeded: no trial succeeded; the failures are written too.
    """
    try:
        recorded = [row for row in past.list_recorded_folds() if row.family in spaces]
        tuned = rerun(search, recorded, folds) if recorded else tune(search, spaces, training.tuner, folds, total, is_last=is_last)
        selected = select_trial(tuned.rows, tuned.trials, search.problem.metric, folds=folds, rule=training.select)
    except NoTrialSucceeded as error:
        past.record(error.rows)
        raise
    past.record(selected.rows)
    return tuned, replace(selected, best=with_mean_rounds(selected.best, selected.rows, search.problem))


def describe_failures(tuned: TuningResult) -> list[str]:
    """Return a note on the failed trials, where there are any, with the error of the first one."""
    errors = first_errors(tuned.rows)
    if not errors:
        return []
    number, error = next(iter(sorted(errors.items())))
    return [f"{len(errors)} of {len(tuned.trials)} trials failed; trial {number}: {error}"]
