"""The evaluation that a version's approval binds to: kept in its folder, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tidemill.errors import StepError
from tidemill.lake.ops import GateRow, MetricRow, OpsRow
from tidemill.model_registry.deployments import Deployments
from tidemill.model_registry.manifest import manifest_file, model_folder

if TYPE_CHECKING:
    from tidemill.lake import Lake

Row = dict[str, Any]

EVALUATION = "evidence/evaluation.json"
_OF_THE_COMMIT = ("seq", "recorded_at", "run_id")
"""Columns in which two evaluations with the same result differ."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a version: its run, the champion that reigned then, its rows of ops tables, and the digest of it all.

    ``digest`` is the SHA-256 of the version's manifest, which has the digests of its files, of ``champion``, and of the rows without run,
    time and sequence number.
    """

    run_id: str
    champion: int | None
    digest: str
    metrics: list[Row]
    gates: list[Row]


def record_evaluation(lake: Lake, pipeline: str, version: int, run_id: str) -> None:
    """Write what a run measured of a version into its folder; nothing where the run did not get so far."""
    if not lake.ledger.read(MetricRow, pipeline=pipeline, run_id=run_id, model_version=version):
        return
    evaluation = _read_ledger(lake, pipeline, version, run_id, Deployments(lake.ledger, pipeline).champion())
    text = json.dumps(asdict(evaluation), indent=2, ensure_ascii=False)
    lake.write_text(f"{model_folder(pipeline, version)}/{EVALUATION}", text + "\n")


def read_evaluation(lake: Lake, pipeline: str, version: int) -> Evaluation | None:
    """Return the latest evaluation of a version, None where there is none or the file is damaged."""
    try:
        return Evaluation(**json.loads(lake.read_text(f"{model_folder(pipeline, version)}/{EVALUATION}")))
    except (OSError, ValueError, TypeError):
        return None


def digest_evidence(lake: Lake, pipeline: str, version: int) -> str:
    """Return the digest of a version and of the evidence for it as they are now.

    Raises:
        StepError: the version was not evaluated, or something has changed since.
    """
    evaluation = read_evaluation(lake, pipeline, version)
    remedy = "evaluate it again: `tidemill run SPEC --from evaluate --force`"
    if evaluation is None:
        raise StepError(f"model {version} of {pipeline} has no record of an evaluation; {remedy}")
    champion = Deployments(lake.ledger, pipeline).champion()
    now = _read_ledger(lake, pipeline, version, evaluation.run_id, champion)
    changed = [
        what
        for what, is_changed in (
            (f"the champion, which was {evaluation.champion or 'none'} and is {champion or 'none'}", evaluation.champion != champion),
            ("ops.metrics", json.dumps(evaluation.metrics) != json.dumps(now.metrics)),
            ("ops.gates", json.dumps(evaluation.gates) != json.dumps(now.gates)),
        )
        if is_changed
    ]
    if not changed and now.digest != evaluation.digest:
        changed = [f"{manifest_file(pipeline, version)} or {EVALUATION} beside it"]
    if changed:
        raise StepError(
            f"the evidence for model {version} of {pipeline} has changed since it was evaluated: {'; '.join(changed)}; {remedy}"
        )
    return now.digest


def _read_ledger(lake: Lake, pipeline: str, version: int, run_id: str, champion: int | None) -> Evaluation:
    metrics, gates = (_list_cells(lake.ledger.read(row, pipeline=pipeline, run_id=run_id)) for row in (MetricRow, GateRow))
    model = lake.read_text(manifest_file(pipeline, version))
    content = json.dumps([model, champion, metrics, gates], sort_keys=True)
    return Evaluation(run_id, champion, hashlib.sha256(content.encode()).hexdigest(), metrics, gates)


def _list_cells(rows: Sequence[OpsRow]) -> list[Row]:
    """Return the rows without nulls and without what only their commit gave them, in an order of their own."""
    cells = [{name: value for name, value in row.cells().items() if value is not None and name not in _OF_THE_COMMIT} for row in rows]
    plain = [{name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()} for row in cells]
    return sorted(plain, key=lambda row: json.dumps(row, sort_keys=True))
