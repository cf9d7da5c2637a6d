"""The states of a pipeline's model versions, from the append-only ledger ``ops.deployments``."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import EllipsisType
from typing import TYPE_CHECKING

from tidemill.errors import ChangedMeanwhile, StepError
from tidemill.lake.ops import DeploymentRow

if TYPE_CHECKING:
    from tidemill.lake import Ledger

logger = logging.getLogger(__name__)


AUTOMATIC = "tidemill"  # the actor of automatic changes

# The states that may follow each state; None is a version without a row.
NEXT_STATES: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"CANDIDATE"}),
    "CANDIDATE": frozenset({"CHALLENGER", "REJECTED"}),
    "CHALLENGER": frozenset({"CHAMPION", "REJECTED"}),
    "REJECTED": frozenset({"CHALLENGER"}),
    "CHAMPION": frozenset({"RETIRED"}),
    "RETIRED": frozenset({"CHAMPION"}),
}


class Deployments:
    """The model versions of one pipeline: CANDIDATE → CHALLENGER → CHAMPION → RETIRED, or REJECTED by a gate."""

    def __init__(self, ledger: Ledger, pipeline: str) -> None:
        """Take the ledger and the pipeline; nothing is read yet."""
        self._ledger = ledger
        self._pipeline = pipeline

    def rows(self) -> list[DeploymentRow]:
        """Return every change of state, oldest first."""
        return self._ledger.read(DeploymentRow, pipeline=self._pipeline)

    def states(self) -> dict[int, str]:
        """Return the current state of each version, in the order of the versions' last changes."""
        return _latest_states(self._ledger.read_latest(DeploymentRow, ("model_version",), pipeline=self._pipeline))

    def state(self, version: int) -> str | None:
        """Return the current state of a version, None if it has none."""
        return self.states().get(version)

    def champion(self) -> int | None:
        """Return the champion: the version that became CHAMPION last and still is; None if there is none."""
        champions = self._ledger.read_latest(DeploymentRow, ("model_version",), having={"to_state": "CHAMPION"}, pipeline=self._pipeline)
        return champions[-1].model_version if champions else None

    def champion_before(self, version: int) -> int | None:
        """Return the version that was CHAMPION before ``version`` last became it; None if there was none."""
        champions = [int(row.model_version or 0) for row in self.rows() if row.to_state == "CHAMPION"]
        earlier = champions[: len(champions) - champions[::-1].index(version)] if version in champions else champions
        return next((other for other in reversed(earlier) if other != version), None)

    def move(
        self,
        version: int,
        to_state: str,
        *,
        run_id: str | None,
        reason: str,
        evidence: Mapping[str, object] | None = None,
        actor: str = AUTOMATIC,
        from_state: str | None = None,
        champion: int | EllipsisType | None = ...,
    ) -> None:
        """Record a change of state; nothing is recorded if the version is in that state already.

        A new champion retires the old one in the same commit, so that there is exactly one. If another process commits a change meanwhile,
        this one is checked again against the new states. A decision that rests on them names them: ``from_state`` is the state that the
        version must have, ``champion`` the version that must reign, None for none.

        Raises:
            StepError: the state may not follow the present one.
            ChangedMeanwhile: another process has changed the state or the champion that the decision rests on.
        """
        is_moved = False
        template = DeploymentRow(pipeline=self._pipeline, run_id=run_id, actor=actor)

        def changes(rows: list[DeploymentRow]) -> list[DeploymentRow]:
            nonlocal is_moved
            states = _latest_states(rows)
            present = states.get(version)
            self._refuse_other_states(states, version, from_state, champion)
            is_moved = present != to_state
            if not is_moved:
                return []
            if to_state not in NEXT_STATES[present]:
                raise StepError(
                    f"model {version} of {self._pipeline} is {present or 'unknown'} and cannot become {to_state}; "
                    f"expected one of {', '.join(sorted(NEXT_STATES[present]))}"
                )
            change = replace(
                template, model_version=version, from_state=present, to_state=to_state, reason=reason, evidence=_json(evidence)
            )
            reigning = [old for old, state in states.items() if state == "CHAMPION"] if to_state == "CHAMPION" else []
            retired = replace(template, from_state="CHAMPION", to_state="RETIRED", reason=f"model {version} is champion")
            return [change, *(replace(retired, model_version=old) for old in reigning)]

        self._ledger.extend(DeploymentRow, changes, pipeline=self._pipeline)
        if is_moved:
            logger.info("model %d of %s is %s, by %s: %s", version, self._pipeline, to_state, actor, reason)

    def _refuse_other_states(
        self, states: Mapping[int, str], version: int, from_state: str | None, expected: int | EllipsisType | None
    ) -> None:
        reigning = next((each for each in reversed(list(states)) if states[each] == "CHAMPION"), None)
        if expected is not ... and reigning != expected:
            before, now = (f"model {each}" if each else "no model" for each in (expected, reigning))
            raise ChangedMeanwhile(
                f"nothing was changed: another process changed the champion of {self._pipeline} meanwhile, from {before} to {now}; "
                "look at `tidemill deployments`, and decide again"
            )
        if from_state is not None and states.get(version) != from_state:
            raise ChangedMeanwhile(
                f"nothing was changed: model {version} of {self._pipeline} was {from_state}, and is {states.get(version)} now; "
                "another process changed it; look at `tidemill deployments`, and decide again"
            )


def _latest_states(rows: Iterable[DeploymentRow]) -> dict[int, str]:
    states: dict[int, str] = {}
    for row in rows:
        version = int(row.model_version or 0)
        states.pop(version, None)
        states[version] = str(row.to_state)
    return states


def _json(evidence: Mapping[str, object] | None) -> str | None:
    """Return the evidence as JSON; NaN and infinity, which JSON lacks, become null."""
    return None if not evidence else json.dumps(_without_nan(evidence), ensure_ascii=False, default=str)


def _without_nan(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
