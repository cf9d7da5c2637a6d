"""Numbers of model versions, and the states recorded in each version's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from tidemill.errors import StepError
from tidemill.lake.delta_tables import query
from tidemill.lake.ops import DeploymentRow, MetricRow, StepRow
from tidemill.model_registry.deployments import AUTOMATIC, Deployments
from tidemill.model_registry.manifest import Manifest, manifest_file, model_folder, read_manifest

if TYPE_CHECKING:
    from tidemill.lake import Lake


Row = dict[str, object]

UNFINISHED = "_unfinished"
"""A file in the folder of a version that is being written; a folder that has it and no manifest may be overwritten."""

ORIGIN = "copied_from.json"
"""A file in the folder of a version that was copied from another lake; the copy registers it."""

STATES = "states.json"
"""The rows of ``ops.deployments`` about a version, in its own folder: a lost table is restored from them."""


def is_free(lake: Lake, pipeline: str, version: int) -> bool:
    """Return True if a model may be written as this version: its folder is empty, or has only files of a killed attempt."""
    names = set(lake.file_sizes(model_folder(pipeline, version)))
    return not names or (UNFINISHED in names and "model.json" not in names)


def saved_versions(lake: Lake, pipeline: str) -> list[int]:
    """Return the versions whose folder has more than files of a killed attempt."""
    folders = {path.partition("/")[0] for path in lake.file_sizes(f"models/{pipeline}")}
    return sorted(int(name) for name in folders if name.isdigit() and not is_free(lake, pipeline, int(name)))


def next_version(lake: Lake, pipeline: str) -> int:
    """Return the number of the next model version, from 1: greater than any in states, folders, steps, metrics and predictions."""
    taken = [*Deployments(lake.ledger, pipeline).states(), *saved_versions(lake, pipeline)]
    name = f"models.{pipeline}"
    taken += [row.outputs[name] for row in lake.ledger.read(StepRow, pipeline=pipeline) if row.outputs and name in row.outputs]
    taken += [int(row.model_version or 0) for row in lake.ledger.read(MetricRow, pipeline=pipeline)]
    predictions = f"gold.{pipeline}_predictions"
    if lake.exists(predictions):
        [row] = query(lake.open(predictions), "SELECT max(model_version) AS version FROM rows").to_pylist()
        taken.append(int(row["version"] or 0))
    return max(taken, default=0) + 1


def record_states(lake: Lake, pipeline: str, version: int | None = None) -> None:
    """Write the ledger's rows of the versions (or of one) into their folders; missing versions are skipped."""
    rows = _group_by_version(Deployments(lake.ledger, pipeline).rows())
    for number in saved_versions(lake, pipeline) if version is None else [version]:
        ledger_rows = [_to_json_row(row) for row in rows.get(number, [])]
        if ledger_rows and ledger_rows != _read_states(lake, pipeline, number) and not is_free(lake, pipeline, number):
            lake.write_text(f"{model_folder(pipeline, number)}/{STATES}", json.dumps(ledger_rows, indent=2, ensure_ascii=False) + "\n")


def restore_states(lake: Lake, pipeline: str) -> list[str]:
    """Restore rows that the versions' folders record and the ledger lacks; return a note on each version.

    A version of an earlier release, whose folder records no states, becomes CANDIDATE if the ledger has no state of it and either a
    training registered it or the ledger has no training at all.
    """
    known = _group_by_version(Deployments(lake.ledger, pipeline).rows())
    lacking: list[Row] = []
    for version in saved_versions(lake, pipeline):
        ledger_rows, recorded = [_to_json_row(row) for row in known.get(version, [])], _read_states(lake, pipeline, version)
        if recorded:
            lacking += _missing_rows(ledger_rows, recorded)
        elif not ledger_rows and _was_registered(lake, pipeline, version):
            lacking += _candidate_rows(lake, pipeline, version)
    lacking.sort(key=lambda row: int(str(row.get("seq") or 0)))
    lake.ledger.append([_to_ledger_row(row) for row in lacking])
    record_states(lake, pipeline)
    versions = dict.fromkeys(row["model_version"] for row in lacking)
    states = Deployments(lake.ledger, pipeline).states() if versions else {}
    return [f"model {version} of {pipeline} is {states[int(str(version))]} again, as its folder records" for version in versions]


def _group_by_version(rows: list[DeploymentRow]) -> dict[int, list[DeploymentRow]]:
    versions: dict[int, list[DeploymentRow]] = {}
    for row in rows:
        versions.setdefault(int(row.model_version or 0), []).append(row)
    return versions


def _missing_rows(ledger_rows: list[Row], recorded: list[Row]) -> list[Row]:
    """Return the recorded rows after the ledger's last one; none if the ledger has more."""
    if not ledger_rows:
        return recorded
    places = [place for place, row in enumerate(recorded) if _identity(row) == _identity(ledger_rows[-1])]
    return recorded[places[-1] + 1 :] if places else []


def _identity(row: Row) -> list[object]:
    return [row.get(name) for name in ("model_version", "from_state", "to_state", "run_id", "reason")]


def _read_states(lake: Lake, pipeline: str, version: int) -> list[Row]:
    try:
        rows = json.loads(lake.read_text(f"{model_folder(pipeline, version)}/{STATES}"))
    except (OSError, ValueError):
        return []
    is_whole = isinstance(rows, list) and all(isinstance(row, dict) and row.get("model_version") == version for row in rows)
    return rows if is_whole else []


def _was_registered(lake: Lake, pipeline: str, version: int) -> bool:
    if ORIGIN in lake.file_sizes(model_folder(pipeline, version)):
        return False
    rows = lake.ledger.read(StepRow, pipeline=pipeline)
    return not rows or version in [(row.outputs or {}).get(f"models.{pipeline}") for row in rows]


def _candidate_rows(lake: Lake, pipeline: str, version: int) -> list[Row]:
    try:
        manifest: Manifest = read_manifest(lake, pipeline, version)
    except StepError:
        return []
    evidence = {"metric": manifest.metric, "cv_value": manifest.cv_value, "family": manifest.family, "params": dict(manifest.params)}
    origin = {"actor": AUTOMATIC, "reason": f"found in the lake at {manifest_file(pipeline, version)}", "run_id": manifest.run_id}
    return [{"pipeline": pipeline, "model_version": version, "to_state": "CANDIDATE", "evidence": json.dumps(evidence), **origin}]


def _to_json_row(row: DeploymentRow) -> Row:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in row.cells().items()}


def _to_ledger_row(row: Row) -> DeploymentRow:
    """Return a recorded row for the ledger, which assigns a new sequence number."""
    recorded_at = row.get("recorded_at")
    return replace(DeploymentRow.from_cells(row), seq=None, recorded_at=datetime.fromisoformat(str(recorded_at)) if recorded_at else None)
