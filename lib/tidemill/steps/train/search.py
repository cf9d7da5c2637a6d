"""What training does for every task: search, choose, and record each trial, whatever comes of it."""

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
from tidemill.training.selection import SUCCEEDED, NoTrialSucceeded, SearchResult, TrialFold, choose, first_errors
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.staged_boosting import settled
from tidemill.training.tuning.tune import Tuned, tune
from tidemill.version import VERSION

if TYPE_CHECKING:
    from tidemill.steps.result import StepContext
    from tidemill.training.problem import Problem

logger = logging.getLogger(__name__)


_COLUMNS = [field.name for field in dataclasses.fields(TrialFold) if field.name != "trial"]


class PastTrials:
    """The rows of ``ops.trials`` that belong to one search: the same rows, features, problem, folds and code."""

    def __init__(self, context: StepContext, learned_from: object, problem: Problem) -> None:
        """Name the search by all that its figures depend on, but for the trials themselves; ``learned_from`` are columns and the like."""
        self._context = context
        pipeline = context.spec.pipeline
        parts = [
            context.inputs[pipeline.dataset_table],
            declared_features(pipeline.features),
            learned_from,
            problem.asked,
            pipeline.dataset.weight,
            pipeline.training.engine,
            VERSION,
            context.spec.training_code(),
        ]
        self._search = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def known(self) -> dict[tuple[str, str, int], TrialFold]:
        """Return the rows that earlier runs of this search left, which came to no model: family, parameters and fold → the row."""
        ledger, name = self._context.lake.ledger, self._context.pipeline
        finished = {row.run_id for row in Deployments(ledger, name).rows() if row.to_state == "CANDIDATE"}
        fits = {}
        for row in ledger.read(TrialRow, pipeline=name, search=self._search):
            if row.run_id not in finished and row.state == SUCCEEDED and row.share == 1.0:
                fit = TrialFold(trial=-1, **{column: getattr(row, column) for column in _COLUMNS})
                fits[fit.family, fit.params, fit.fold] = fit
        return fits

    def keep(self, rows: Sequence[TrialFold]) -> None:
        """Write rows of fits that have just ended."""
        for row in rows:
            logger.info("trial %d, fold %d: %s %s is %s after %.1f s", row.trial, row.fold, row.family, row.params, row.state, row.seconds)
        self._context.lake.ledger.append(self._stamped(rows))

    def record(self, rows: Sequence[TrialFold]) -> None:
        """Write all rows of the run, in place of those that were kept on the way."""
        context = self._context
        context.lake.ledger.put(TrialRow, self._stamped(rows), where=context.run_columns)

    def _stamped(self, rows: Sequence[TrialFold]) -> list[TrialRow]:
        return [TrialRow(**self._context.run_columns, search=self._search, **row.row()) for row in rows]


def searched(
    training: Training,
    spaces: Mapping[str, Space],
    finder: Search,
    past: PastTrials,
    folds: Sequence[int],
    total: int,
    *,
    is_last: bool = True,
) -> tuple[Tuned, SearchResult]:
    """Return what was tried and what is chosen of it, after it is written to ``ops.trials``; rounds of boosting are settled.

    ``total`` is the number of training rows; ``is_last``: the vectors of the folds are not wanted afterwards.

    Raises:
        NoTrialSucceeded: none did; that is written, too.
    """
    try:
        tuned = tune(finder, spaces, training.tuner, folds, total, is_last=is_last)
        found = choose(tuned.rows, tuned.trials, finder.problem.metric, folds=folds, rule=training.select)
    except NoTrialSucceeded as error:
        past.record(error.rows)
        raise
    past.record(found.rows)
    return tuned, replace(found, best=settled(found.best, found.rows, finder.problem))


def failures(tuned: Tuned) -> list[str]:
    """Return a note on the trials that failed, where there are any, with the first one's error."""
    errors = first_errors(tuned.rows)
    if not errors:
        return []
    number, error = next(iter(sorted(errors.items())))
    return [f"{len(errors)} of {len(tuned.trials)} trials failed; trial {number}: {error}"]
