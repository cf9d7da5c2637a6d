"""`copy`: a model version with its evidence to the lake of another environment, verified by digest and by the stored sample."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tidemill.errors import StepError, UsageError
from tidemill.extensions import search_beside
from tidemill.lake import Lake
from tidemill.lake.ops import ContributionRow, CurveRow, FeatureRow, GateRow, ImportanceRow, MetricRow, OpsRow, TrialRow
from tidemill.model_registry import Deployments, Manifest, read_manifest
from tidemill.model_registry.evaluations import EVALUATION, record_evaluation
from tidemill.model_registry.manifest import manifest_file, model_folder, refuse_other_files
from tidemill.model_registry.versions import ORIGIN, STATES, UNFINISHED, next_version, record_states, saved_versions
from tidemill.redaction import redact
from tidemill.runtime.locks import find_holder, hold_lock
from tidemill.runtime.session import LazySpark, child_session
from tidemill.spec import Spec
from tidemill.steps import STEP_FUNCTIONS
from tidemill.steps.result import StepContext
from tidemill.workflow.mlflow_projection import show_in_mlflow
from tidemill.workflow.reproduction.verification import SampleScores, score_samples_in_new_process

if TYPE_CHECKING:
    from tidemill.lake.ops import DeploymentRow

logger = logging.getLogger(__name__)

_BY_VERSION = (MetricRow, GateRow, CurveRow, ImportanceRow, ContributionRow)
_BY_RUN = (TrialRow, FeatureRow)
ScoreSamples = Callable[[list[tuple[str, str, int]]], list[SampleScores]]


@dataclass(frozen=True)
class Source:
    """What is copied: the lake, the version, and its manifest with the digest that identifies the model."""

    lake: Lake
    pipeline: str
    version: int
    manifest: Manifest
    digest: str

    @property
    def folder(self) -> str:
        """The folder of the version, relative to the lake."""
        return model_folder(self.pipeline, self.version)


@dataclass(frozen=True)
class CopyResult:
    """What was copied where: versions, files with a digest over all, rows of the sample that both sides score alike, and the state."""

    pipeline: str
    source_lake: str
    source_version: int
    target_lake: str
    target_version: int
    is_new: bool
    files: int
    digest: str
    sample_rows: int
    ops_rows: int
    state: str
    notes: tuple[str, ...] = ()
    waits: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 3 where a person has to approve the version, whose gates were applied and passed."""
        return 3 if self.waits else 0

    def to_json(self) -> dict[str, object]:
        """Return what ``copy --json`` prints."""
        return asdict(self)


def copy_version(
    source_lake: Lake,
    version: int,
    target: Spec,
    spark: LazySpark,
    *,
    actor: str,
    gates: bool = False,
    score_samples: ScoreSamples = score_samples_in_new_process,
) -> CopyResult:
    """Copy a version with its evidence to the lake of ``target`` under the next free number; a second copy of it writes nothing.

    The files come first, then the rows of the ops tables, and last the row of ``ops.deployments`` that makes the version exist: what a
    killed copy left is not a version, and the next copy goes on from it. The version becomes CHALLENGER on the evidence that it brings.
    With ``gates`` the target's own gates measure it on the target's dataset, and it becomes champion where they pass and no person has to
    approve.

    Args:
        source_lake: the lake of the original.
        version: its version there.
        target: the spec with the overlay of the other environment.
        spark: the session of the target; only ``gates`` starts it.
        actor: who copies, for ``ops.deployments``.
        gates: whether the target's gates decide.
        score_samples: compares predictions for the stored samples of versions (lake, pipeline, version); a new process by default.

    Raises:
        UsageError: source and target are one lake, or a run is going on in the target.
        StepError: a file or a prediction differs between the two sides; nothing becomes visible then.
        GateRefused: a gate of the target refused the version, which is REJECTED there.
    """
    pipeline, lake = target.pipeline.pipeline, Lake(target.pipeline.lake)
    if lake.root == source_lake.root:
        raise UsageError(f"--to: the other environment has the same lake, {lake.root}; give it one of its own with `lake:` in its overlay")
    manifest = read_manifest(source_lake, pipeline, version)
    refuse_other_files(source_lake, manifest, by_content=True)
    digest = source_lake.file_hash(manifest_file(pipeline, version))
    source = Source(source_lake, pipeline, version, manifest, digest)
    with _no_run(lake, pipeline):
        number = _find_copy(lake, source)
        state = None if number is None else Deployments(lake.ledger, pipeline).state(number)
        if number is not None and state is not None:
            refuse_other_files(lake, read_manifest(lake, pipeline, number), by_content=True)
            recorded = _read_digest(lake, pipeline, number)
            files = len(manifest.files)
            result = CopyResult(pipeline, source_lake.root, version, lake.root, number, False, files, recorded, 0, 0, state)
        else:
            result = _write_copy(source, lake, number, actor, score_samples)
        if gates and result.state in ("CANDIDATE", "CHALLENGER"):
            result = _apply_gates(result, target, lake, spark, _run_id(source))
        elif result.state == "CANDIDATE":
            reason = f"copied from {source_lake.root}, where it is {_state_of(source)}; the gates of this lake were not applied"
            Deployments(lake.ledger, pipeline).move(result.target_version, "CHALLENGER", run_id=_run_id(source), reason=reason, actor=actor)
            result = dataclasses.replace(result, state="CHALLENGER")
        record_states(lake, pipeline, result.target_version)
    remark = show_in_mlflow(target, lake, has_news=False)
    return dataclasses.replace(result, notes=(*result.notes, remark)) if remark else result


@contextmanager
def _no_run(lake: Lake, pipeline: str) -> Iterator[None]:
    with hold_lock(lake.root, f"run.{pipeline}", wait=False) as is_free:
        if not is_free:
            holder = find_holder(lake.root, f"run.{pipeline}")
            raise UsageError(f"a run of {pipeline} is going on in {lake.root}{f', by {holder}' if holder else ''}; wait for it to end")
        yield


def _run_id(source: Source) -> str:
    return f"copy-{source.digest[:12]}"


def _state_of(source: Source) -> str:
    return Deployments(source.lake.ledger, source.pipeline).state(source.version) or "unknown"


def _find_copy(lake: Lake, source: Source) -> int | None:
    """Return the version of the target whose folder says that it is a copy of the source."""
    for version in saved_versions(lake, source.pipeline):
        try:
            origin = json.loads(lake.read_text(f"{model_folder(source.pipeline, version)}/{ORIGIN}"))
        except (OSError, ValueError):
            continue
        if origin.get("manifest") == source.digest:
            return version
    return None


def _read_digest(lake: Lake, pipeline: str, version: int) -> str:
    """Return the digest over all files of a copied version, as its first row in ``ops.deployments`` has it."""
    first = next(row for row in Deployments(lake.ledger, pipeline).rows() if row.model_version == version)
    return str(json.loads(first.evidence or "{}").get("copied_from", {}).get("files", ""))


def _write_copy(source: Source, lake: Lake, number: int | None, actor: str, score_samples: ScoreSamples) -> CopyResult:
    """Write files and rows, check both sides, and record the version as CANDIDATE."""
    version = next_version(lake, source.pipeline) if number is None else number
    try:
        if number is None:
            _copy_files(source, lake, version)
        files, digest = _compare_files(source, lake, version)
        rows = _compare_samples(source, lake, version, score_samples)
    except StepError:
        _remove_files(lake, model_folder(source.pipeline, version))
        raise
    ops_rows = _copy_rows(source, lake, version)
    record_evaluation(lake, source.pipeline, version, _evaluating_run(source) or source.manifest.run_id)
    origin = {"lake": redact(source.lake.root), "version": source.version, "manifest": source.digest, "files": digest}
    history = [
        _describe_change(row) for row in Deployments(source.lake.ledger, source.pipeline).rows() if row.model_version == source.version
    ]
    reason = f"copied from version {source.version} of {redact(source.lake.root)}: {files} files, {rows} rows of its sample predicted alike"
    evidence = {"copied_from": origin, "history": history}
    Deployments(lake.ledger, source.pipeline).move(
        version, "CANDIDATE", run_id=_run_id(source), reason=reason, evidence=evidence, actor=actor
    )
    return CopyResult(
        source.pipeline, source.lake.root, source.version, lake.root, version, True, files, digest, rows, ops_rows, "CANDIDATE"
    )


def _copy_files(source: Source, lake: Lake, version: int) -> None:
    """Copy the folder of a version; the manifest, which makes it a saved version, comes last."""
    folder = model_folder(source.pipeline, version)
    _remove_files(lake, folder)
    lake.write_text(f"{folder}/{UNFINISHED}", _run_id(source))
    for path in _list_files(source.lake, source.folder):
        lake.write_bytes(f"{folder}/{path}", source.lake.read_bytes(f"{source.folder}/{path}"))
    origin = {"lake": redact(source.lake.root), "version": source.version, "manifest": source.digest}
    lake.write_text(f"{folder}/{ORIGIN}", json.dumps(origin, indent=2) + "\n")
    lake.write_text(manifest_file(source.pipeline, version), dataclasses.replace(source.manifest, version=version).to_json())
    lake.delete_file(f"{folder}/{UNFINISHED}")


def _remove_files(lake: Lake, folder: str) -> None:
    """Remove what a killed or refused copy left, the manifest first: without it the folder is no version."""
    lake.delete_file(f"{folder}/model.json")
    for path in lake.file_sizes(folder):
        lake.delete_file(f"{folder}/{path}")


def _list_files(lake: Lake, folder: str) -> list[str]:
    """Return the files of a version that are the same wherever it lies: not its number, its states, and its evaluation in a lake."""
    return [path for path in lake.file_sizes(folder) if path not in ("model.json", STATES, UNFINISHED, ORIGIN, EVALUATION)]


def _compare_files(source: Source, lake: Lake, version: int) -> tuple[int, str]:
    """Return the number of files, and a digest over the digests of all; both sides have the same.

    Raises:
        StepError: a file differs.
    """
    folder = model_folder(source.pipeline, version)
    places = ((source.lake, source.folder), (lake, folder))
    sides = [{path: side.file_hash(f"{place}/{path}") for path in _list_files(side, place)} for side, place in places]
    differing = sorted(path for path in {*sides[0], *sides[1]} if sides[0].get(path) != sides[1].get(path))
    if differing:
        raise StepError(
            f"model {version} in {lake.root} is not a copy of model {source.version} in {source.lake.root}: {', '.join(differing[:3])} "
            f"differ{'s' if len(differing) == 1 else ''}; copy again"
        )
    if not dataclasses.replace(read_manifest(lake, source.pipeline, version), version=source.version) == source.manifest:
        raise StepError(f"{lake.root}/{folder}/model.json is not that of model {source.version} in {source.lake.root}")
    digest = hashlib.sha256("".join(f"{path} {value}\n" for path, value in sorted(sides[0].items())).encode())
    return len(sides[0]), digest.hexdigest()


def _compare_samples(source: Source, lake: Lake, version: int, score_samples: ScoreSamples) -> int:
    """Score the stored sample on both sides; return its rows.

    Raises:
        StepError: a side does not predict what was predicted at training time.
    """
    sides = [(source.lake.root, source.pipeline, source.version), (lake.root, source.pipeline, version)]
    for (root, pipeline, number), scores in zip(sides, score_samples(sides), strict=True):
        if scores.difference is not None:
            raise StepError(
                f"model {number} of {pipeline} in {root} does not predict what it did at training time: {scores.difference}; "
                "nothing is copied"
            )
    return scores.rows


def _copy_rows(source: Source, lake: Lake, version: int) -> int:
    """Copy the rows of the ops tables that are about the version, under its new number; return how many. Safe to repeat."""
    ledger, run = source.lake.ledger, _evaluating_run(source)
    name, count = source.pipeline, 0
    for row_class in _BY_VERSION:
        rows: list[Any] = ledger.read(row_class, pipeline=name, model_version=source.version)
        if row_class is MetricRow:
            rows = [row for row in rows if run in (row.run_id, None)]
        kept = [dataclasses.replace(row, model_version=version, seq=None) for row in rows]
        count += _put(lake, row_class, kept, {"pipeline": name, "model_version": version})
    for row_class_of_run in _BY_RUN:
        of_run: list[Any] = ledger.read(row_class_of_run, pipeline=name, run_id=source.manifest.run_id)
        kept = [dataclasses.replace(row, seq=None) for row in of_run]
        count += _put(lake, row_class_of_run, kept, {"pipeline": name, "run_id": source.manifest.run_id})
    return count


def _put(lake: Lake, row_class: type[OpsRow], rows: list[Any], where: dict[str, str | int]) -> int:
    if rows:
        lake.ledger.put(row_class, rows, where=where)
    return len(rows)


def _evaluating_run(source: Source) -> str | None:
    """Return the run whose gates decided about the version; its metrics in later runs are those of a champion that is compared with."""
    rows = Deployments(source.lake.ledger, source.pipeline).rows()
    return next((row.run_id for row in rows if row.model_version == source.version and row.to_state in ("CHALLENGER", "REJECTED")), None)


def _describe_change(row: DeploymentRow) -> dict[str, object]:
    return {
        "from_state": row.from_state,
        "to_state": row.to_state,
        "actor": row.actor,
        "recorded_at": str(row.recorded_at),
        "reason": row.reason,
        "run_id": row.run_id,
    }


def _apply_gates(result: CopyResult, target: Spec, lake: Lake, spark: LazySpark, run_id: str) -> CopyResult:
    """Evaluate the copy on the target's dataset, and deploy it where the gates pass and no person has to approve.

    Raises:
        UsageError: the target has no dataset.
        GateRefused: a gate is not passed.
    """
    pipeline = target.pipeline
    version = lake.version(pipeline.dataset_table)
    if version is None:
        raise UsageError(
            f"--gates: {lake.root} has no {pipeline.dataset_table} to measure model {result.target_version} on, which is {result.state} "
            f"there; run `tidemill run {target.file} --to dataset` with the same --env, then copy again"
        )
    inputs = {pipeline.dataset_table: version, pipeline.model_name: result.target_version}

    def run_step(node: str) -> tuple[str, ...]:
        context = StepContext(child_session(spark.get()), target, lake, inputs, run_id, node)
        with search_beside(target.folder):
            return tuple(STEP_FUNCTIONS[node](context).notes)

    try:
        notes = run_step("evaluate")
        record_evaluation(lake, pipeline.pipeline, result.target_version, run_id)
        if pipeline.evaluation.approval == "auto":
            notes += run_step("deploy")
            notes += tuple(filter(None, (show_in_mlflow(target, lake, has_news=True),)))
        else:
            how = f"tidemill promote {target.file} --env ENV --version {result.target_version} --reason TEXT"
            notes += (f"its gates are passed, and `evaluation.approval` is manual: an approver has to make it champion: {how}",)
    finally:
        record_states(lake, pipeline.pipeline, result.target_version)
    state = Deployments(lake.ledger, pipeline.pipeline).state(result.target_version)
    return dataclasses.replace(result, state=str(state), notes=notes, waits=state == "CHALLENGER")
