"""Who was champion when: the intervals that follow from the changes of state, in SQL for `ops.champion_at` and in Python without Spark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from tidemill.lake.ops import DeploymentRow


@dataclass(frozen=True)
class Reign:
    """The time in which one version was champion: from ``valid_from`` on, before ``valid_to``, which is null while it reigns.

    ``valid_from`` is the greatest ``recorded_at`` of the pipeline's changes up to the one that crowned the version, so that intervals
    neither overlap nor run backwards when a clock is set back. ``actor``, ``reason``, ``evidence`` and ``run_id`` are those of that change.
    """

    pipeline: str
    valid_from: datetime
    valid_to: datetime | None
    model_version: int
    actor: str | None
    reason: str | None
    evidence: str | None
    run_id: str | None

    def includes(self, moment: datetime) -> bool:
        """Return True if the version was champion at this moment."""
        return self.valid_from <= moment and (self.valid_to is None or moment < self.valid_to)


def list_reigns(rows: Iterable[DeploymentRow]) -> list[Reign]:
    """Return the intervals of one pipeline, earliest first; ``rows`` are its changes of state, oldest first."""
    reigns: list[Reign] = []
    moment: datetime | None = None
    for row in rows:
        assert row.recorded_at is not None and row.model_version is not None
        moment = row.recorded_at if moment is None else max(moment, row.recorded_at)
        champion = reigns[-1].model_version if reigns and reigns[-1].valid_to is None else None
        is_crowned = row.to_state == "CHAMPION"
        if champion is not None and (is_crowned or row.model_version == champion):
            reigns[-1] = replace(reigns[-1], valid_to=moment)
        if is_crowned:
            origin = (row.actor, row.reason, row.evidence, row.run_id)
            reigns.append(Reign(str(row.pipeline), moment, None, int(row.model_version), *origin))
    return reigns
