"""The trials of a search in the ledger: written as they end, and found again by a run that goes on where another was killed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidemill.registry import Deployments
from tidemill.steps.feature_spec import declared_features
from tidemill.training.selection import SUCCEEDED, TrialFold
from tidemill.version import VERSION

if TYPE_CHECKING:
    from tidemill.steps.result import StepContext
    from tidemill.training.problem import Problem

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
        made = {str(row["run_id"]) for row in Deployments(ledger, name).rows() if row["to_state"] == "CANDIDATE"}
        rows = ledger.rows("ops.trials", pipeline=name)
        found = {}
        for row in rows:
            if row.get("search") == self._search and row["run_id"] not in made and row["state"] == SUCCEEDED and row["share"] == 1.0:
                kept = TrialFold(trial=-1, **{column: row.get(column) for column in _COLUMNS})  # type: ignore[arg-type]
                found[kept.family, kept.params, kept.fold] = kept
        return found

    def keep(self, rows: Sequence[TrialFold]) -> None:
        """Write rows of fits that have just ended."""
        self._context.lake.ledger.append("ops.trials", self._stamped(rows))

    def record(self, rows: Sequence[TrialFold]) -> None:
        """Write all rows of the run, in place of those that were kept on the way."""
        context = self._context
        context.lake.ledger.put("ops.trials", self._stamped(rows), where={"pipeline": context.pipeline, "run_id": context.run_id})

    def _stamped(self, rows: Sequence[TrialFold]) -> list[dict[str, object]]:
        run = {"pipeline": self._context.pipeline, "run_id": self._context.run_id, "search": self._search}
        return [{**run, **row.row()} for row in rows]
