"""`replay`: a model is made again from bronze on, in a scratch lake, and compared with what its run made."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from tidemill.errors import StepError, TableNotFound, TidemillError
from tidemill.extensions import search_beside
from tidemill.lake import Lake, PinnedLake
from tidemill.lake.ops import TrialRow
from tidemill.lake.pinned import clone_with_links
from tidemill.model_registry import load_model, read_manifest
from tidemill.model_registry.versions import saved_versions
from tidemill.quoting import is_local
from tidemill.runtime.locks import SCRATCH, scratch
from tidemill.runtime.session import LazySpark, child_session
from tidemill.spec import Spec
from tidemill.steps import STEP_FUNCTIONS
from tidemill.steps.result import StepContext
from tidemill.steps.train.evidence import digest_splits
from tidemill.workflow.error_messages import format_error
from tidemill.workflow.reproduction.explanation import (
    Cause,
    check_table,
    find_definition_changes,
    find_foreign_commit,
    find_later_versions,
    find_library_changes,
    find_recorded_rows,
)
from tidemill.workflow.reproduction.kept_spec import KeptSpec, read_kept_spec
from tidemill.workflow.reproduction.models import compare_predictions, compare_trials, describe_params, tolerance_of
from tidemill.workflow.reproduction.origin import MadeStep, Origin, trace_origin
from tidemill.workflow.reproduction.tables import compare_rows

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

logger = logging.getLogger(__name__)

EQUAL, DIFFERENT = "equal", "different"
_MOST_TRIALS = 5


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the run made it: a table, the splits, trials, the choice, predictions, or a step that fails now."""

    what: str
    detail: str


@dataclass(frozen=True)
class ReplayResult:
    """What a replay compared, what differs, and which inputs explain it; ``notes`` explain nothing but are worth knowing."""

    pipeline: str
    model_version: int
    run_id: str
    pinned: Mapping[str, int]
    compared: Mapping[str, object]
    differences: tuple[Difference, ...]
    causes: tuple[Cause, ...]
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        """``equal`` or ``different``."""
        return DIFFERENT if self.differences else EQUAL

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0 where all is equal, 3 where something differs."""
        return 3 if self.differences else 0

    def to_json(self) -> dict[str, object]:
        """Return what ``replay --json`` prints."""
        return {**asdict(self), "state": self.state, "exit_code": self.exit_code}


def replay(spec: Spec, lake: Lake, spark: LazySpark, version: int) -> ReplayResult:
    """Make a model version again from bronze on at pinned table versions, in a scratch lake, and compare it with the original.

    Raises:
        TableNotFound: a pinned version is gone; it is named.
        StepError: the version cannot be traced, or its model cannot be loaded.
    """
    manifest = read_manifest(lake, spec.pipeline.pipeline, version)
    kept = read_kept_spec(spec, lake, manifest)
    origin = trace_origin(kept.spec, lake, version)
    recorded = tuple(lake.ledger.read(TrialRow, pipeline=origin.pipeline, run_id=origin.run_id)) or kept.trials
    if not recorded:
        raise StepError(f"ops.trials of {lake.root} has no trials of run {origin.run_id}, which made model {version}: they were removed")
    with _scratch_folder(lake) as folder:
        return _Replay(kept, lake, spark.get(), origin, recorded, folder).run()


@contextmanager
def _scratch_folder(lake: Lake) -> Iterator[str]:
    """Give a folder for a scratch lake, and remove it with all that it holds."""
    if is_local(lake.root):
        with scratch(lake.root) as folder:
            yield folder
        return
    relative = f"{SCRATCH}/replay-{uuid.uuid4().hex}"
    try:
        yield f"{lake.root}/{relative}"
    finally:
        for path in lake.file_sizes(relative):
            lake.delete_file(f"{relative}/{path}")


@dataclass
class _Replay:
    """One replay: what it was given, and what it has found so far."""

    kept: KeptSpec
    lake: Lake
    spark: SparkSession
    origin: Origin
    recorded: tuple[TrialRow, ...]
    folder: str
    differences: list[Difference] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    compared: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    readable: dict[str, tuple[Lake, int]] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        """The spec that is run again."""
        return self.kept.spec

    def run(self) -> ReplayResult:
        """Check the inputs, make each step again, and compare."""
        origin = self.origin
        self._open_tables()
        self.causes += self.kept.causes if self.kept.is_kept else find_definition_changes(self.spec, origin)
        self.notes += self.kept.notes
        holders = {table: self.readable[table][0] for table in origin.pinned}
        self.versions = {table: self.readable[table][1] for table in origin.pinned}
        work: Lake = PinnedLake(f"{self.folder}/lake", holders)
        is_made = all(self._make_table(step, work) for step in origin.steps[:-1])
        if is_made:
            work = self._choose_dataset(work, holders)
            if self._run_step(origin.steps[-1], work) is not None:
                self._compare_models(work)
        return self._result()

    def _result(self) -> ReplayResult:
        origin, causes = self.origin, list(dict.fromkeys(self.causes))
        notes = [*self.notes, *find_later_versions(self.lake, origin.pinned)]
        if not self.differences:
            notes += [f"{cause} (no result differs)" for cause in causes]
        return ReplayResult(
            origin.pipeline,
            origin.model_version,
            origin.run_id,
            dict(origin.pinned),
            self.compared,
            tuple(self.differences),
            tuple(causes) if self.differences else (),
            tuple(notes),
        )

    def _open_tables(self) -> None:
        """Find the lake and version at which each table of the origin can be read; files that were rewritten are read by links to them."""
        recorded = find_recorded_rows(self.lake)
        clones = Lake(f"{self.folder}/pinned")
        for table, version in {**self.origin.written_versions, **self.origin.pinned}.items():
            try:
                changed, causes = check_table(self.lake, table, version, recorded.get((table, version)))
            except TableNotFound as error:
                if table in self.origin.pinned:
                    raise
                self.notes.append(f"not compared: {error}")
                continue
            self.causes += [*causes, *find_foreign_commit(self.lake, table, version)]
            self.readable[table] = (clones, clone_with_links(self.lake, table, version, clones)) if changed else (self.lake, version)

    def _run_step(self, step: MadeStep, work: Lake) -> Mapping[str, int] | None:
        """Run a step in the scratch lake; return the versions it wrote, None where it fails now, which is a difference."""
        node = step.node
        inputs = {table: self.versions[table] for table in step.inputs}
        trials = self.recorded if node.step == "train" else ()
        context = StepContext(child_session(self.spark), self.spec, work, inputs, "replay", node.name, recorded_trials=trials)
        try:
            with search_beside(self.spec.folder):
                result = STEP_FUNCTIONS[node.step](context)
        except TidemillError as error:
            self.differences.append(Difference(node.name, f"it succeeded in run {step.run_id} and fails now: {format_error(error)}"))
            return None
        logger.info("%s is made again: %s", node.name, dict(result.outputs))
        return result.outputs

    def _make_table(self, step: MadeStep, work: Lake) -> bool:
        """Make a table of silver, or the dataset, again, and compare it; return False where that fails."""
        outputs = self._run_step(step, work)
        if outputs is None:
            return False
        for table in step.outputs:
            version = outputs.get(table, work.version(table))
            if version is not None:
                self.versions[table] = version
        for table in outputs:
            self._compare_table(step, work, table)
        return True

    def _compare_table(self, step: MadeStep, work: Lake, table: str) -> None:
        declared = self.spec.pipeline
        if table not in self.readable:
            if step.node.step == "dataset" and self.kept.splits:
                self._compare_split_digests(work.read(self.spark, table, self.versions[table]))
            return
        key = declared.dataset.key if step.node.step == "dataset" else declared.tables[step.node.item].key
        lake, version = self.readable[table]
        before, now = lake.read(self.spark, table, version), work.read(self.spark, table, self.versions[table])
        difference = compare_rows(before, now, key)
        self.compared[table] = "equal" if difference is None else str(difference)
        if difference is not None:
            self.differences.append(Difference(table, str(difference)))
            self._suspect_inputs(step)
        if step.node.step == "dataset":
            splits = None if difference is None else compare_rows(before, now, key, exactly=("split", "fold"))
            self.compared["splits"] = "equal" if splits is None else str(splits)
            if splits is not None:
                self.differences.append(Difference("splits", str(splits)))

    def _compare_split_digests(self, now: DataFrame) -> None:
        """Compare the splits with their recorded digests, where the dataset itself is gone."""
        digests = digest_splits(now, self.spec.pipeline.dataset.key)
        names = ("split", "fold", "rows", "digest")
        was, is_ = ({tuple(each[name] for name in names) for each in side} for side in (self.kept.splits, digests))
        self.compared["splits"] = "equal" if was == is_ else "other digests"
        if was != is_:
            folds = sorted({f"{split} fold {fold}" if fold is not None else str(split) for split, fold, _, _ in was ^ is_})
            self.differences.append(Difference("splits", f"other keys in {', '.join(folds)}, by the digests of the version"))

    def _suspect_inputs(self, step: MadeStep) -> None:
        """Name the inputs of a step whose table differs where nothing else explains it."""
        known = {cause.name for cause in self.causes} | {difference.what for difference in self.differences}
        if not known & {step.node.name, *step.inputs}:
            why = f"read by {step.node.name}, which makes other rows now; its files look as they were, or the step is not deterministic"
            self.causes += [Cause("table", table, f"version {version} is {why}") for table, version in step.inputs.items()]

    def _choose_dataset(self, work: Lake, holders: Mapping[str, Lake]) -> Lake:
        """Return the lake to train in: where the dataset is as it was, with the original one, whose files give the same partitions."""
        table = self.spec.pipeline.dataset_table
        if table not in self.readable or self.compared.get(table) != "equal":
            return work
        lake, self.versions[table] = self.readable[table]
        return PinnedLake(work.root, {**holders, table: lake})

    def _compare_models(self, work: Lake) -> None:
        """Compare trials, the choice and the predictions of all rows of the dataset."""
        origin, pipeline = self.origin, self.spec.pipeline
        now = work.ledger.read(TrialRow)
        self.causes += find_library_changes(self.recorded, now)
        trials = compare_trials(self.recorded, now)
        self.compared["trials"] = {"fits": trials.fits, "greatest_difference": trials.greatest, "differing": len(trials.differences)}
        self.differences += [Difference("trials", sentence) for sentence in trials.differences[:_MOST_TRIALS]]
        if len(trials.differences) > _MOST_TRIALS:
            self.differences.append(Difference("trials", f"and {len(trials.differences) - _MOST_TRIALS} more fits"))
        first = load_model(self.lake, origin.pipeline, origin.model_version)
        second = load_model(work, origin.pipeline, saved_versions(work, origin.pipeline)[-1])
        if (first[1].family, dict(first[1].params)) != (second[1].family, dict(second[1].params)):
            changes = "; ".join(describe_params(first[1].params, second[1].params))
            self.differences.append(Difference("selected model", f"{first[1].family} then, {second[1].family} now; {changes}"))
        lake, version = self.readable.get(pipeline.dataset_table, (work, self.versions[pipeline.dataset_table]))
        tolerance = tolerance_of([row for row in self.recorded if row.family == first[1].family] or self.recorded)
        rows = lake.read(self.spark, pipeline.dataset_table, version)
        result = compare_predictions(rows, pipeline.dataset.key, first, second, tolerance)
        self.compared["predictions"] = {**asdict(result), "tolerance": tolerance}
        if result.differing:
            sides = f", {result.changed_side:,} of them of another class" if result.changed_side else ""
            detail = (
                f"{result.differing:,} of {result.rows:,} rows differ by more than {tolerance:g}{sides}, by up to {result.greatest:.3g}"
            )
            self.differences.append(Difference("predictions", f"{detail}, such as {'; '.join(result.sample)}"))
