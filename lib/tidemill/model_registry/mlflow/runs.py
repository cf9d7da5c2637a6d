"""MLflow's runs: one per run of the pipeline that trained or evaluated, and below it one per trial."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from tidemill.model_registry.mlflow.charts import write_evaluation
from tidemill.model_registry.mlflow.datasets import dataset_inputs
from tidemill.model_registry.mlflow.history import RecordedRun, RecordedTrial, milliseconds
from tidemill.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run

    from tidemill.lake.ops import MetricRow
    from tidemill.model_registry.manifest import Manifest


KIND, RUN, TRIAL = "kind", "run", "trial"
FINGERPRINT = "mlflow.tidemill.fingerprint"  # the prefix keeps it out of sight
PARENT = "mlflow.parentRunId"
EVALUATION = "evaluation"
_OWN_TAGS = ("error", "gates", "step.", "table.")
_STATUS = {"FAILED": "FAILED", "CANCELLED": "KILLED", "RUNNING": "RUNNING"}
_METRICS, _OTHERS = 800, 100  # of a batch: at most 1000 together
_LONGEST_TAG, _LONGEST_PARAM = 4000, 5000


@dataclass(frozen=True)
class ShownVersion:
    """A model version that a run trained: its manifest, and the id of MLflow's logged model."""

    manifest: Manifest
    model_id: str


class RunProjection:
    """Writes runs into one experiment; all calls may be repeated."""

    def __init__(self, client: MlflowClient, experiment: str, recorded: Mapping[str, RecordedRun]) -> None:
        """Take the client, the id of the experiment and the pipeline's runs; MLflow's runs that are there are listed once."""
        self._client, self._experiment, self._recorded = client, experiment, recorded
        self._known = {run.data.tags.get("run_id"): run for run in self._search(f"tags.{KIND} = '{RUN}'")}

    def find_or_create(self, run_id: str) -> str:
        """Return the id of MLflow's run of a run of the pipeline, which is created if need be."""
        if run_id not in self._known:
            alike = [run for run in self._search(f"tags.run_id = '{run_id}'") if PARENT not in run.data.tags]
            tags = {KIND: RUN, "run_id": run_id}
            if alike:  # of an earlier release
                self._client.log_batch(alike[0].info.run_id, tags=_tags(tags))
            row = self._recorded[run_id].row if run_id in self._recorded else None
            started_at = milliseconds(row.started_at) if row else None
            self._known[run_id] = alike[0] if alike else self._client.create_run(self._experiment, started_at, tags, run_id)
        return str(self._known[run_id].info.run_id)

    def show(self, run: RecordedRun, own: Sequence[ShownVersion], model_ids: Mapping[int, str]) -> bool:
        """Bring MLflow's run up to date; return False where it is already.

        Args:
            run: the run of the pipeline.
            own: the versions that it trained.
            model_ids: the logged model of each version, to which the metrics of the run belong.
        """
        shown = self.find_or_create(run.run_id)
        if self._known[run.run_id].data.tags.get(FINGERPRINT) == run.fingerprint:
            return False
        inputs = dataset_inputs(run)
        self._client.log_inputs(shown, datasets=inputs) if inputs else None
        tags = _run_tags(run, own)
        self._log(shown, _run_metrics(run, own, model_ids), _run_params(run, own), tags)
        for name in self._known[run.run_id].data.tags:
            if name.startswith(_OWN_TAGS) and name not in tags:
                self._client.delete_tag(shown, name)
        with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
            if write_evaluation(Path(folder), run):
                self._client.log_artifacts(shown, folder, EVALUATION)
        self._show_trials(run, shown)
        self._end(shown, run.state, milliseconds(run.row.ended_at if run.row else None))
        self._log(shown, tags={FINGERPRINT: run.fingerprint})
        return True

    def _show_trials(self, run: RecordedRun, parent: str) -> None:
        """Create and complete a run per trial below its parent."""
        if not run.trials:
            return
        present = {child.data.tags.get("trial"): child for child in self._search(f"tags.`{PARENT}` = '{parent}'")}
        for trial in run.trials:
            tags = _trial_tags(run, trial)
            child = present.get(str(trial.number))
            if child is not None and child.data.tags.get(FINGERPRINT) == tags[FINGERPRINT]:
                continue
            ended = milliseconds(max((row.recorded_at for row in trial.rows if row.recorded_at), default=None))
            seconds = sum(row.seconds or 0.0 for row in trial.rows)
            if child is None:
                started = None if ended is None else ended - int(seconds * 1000)
                fixed = {KIND: TRIAL, "run_id": run.run_id, "trial": str(trial.number), PARENT: parent}
                child = self._client.create_run(self._experiment, started, fixed, f"{trial.number:03} {trial.rows[0].family}")
            self._log(child.info.run_id, _trial_metrics(trial), _trial_params(trial), tags)
            self._end(child.info.run_id, "CANCELLED" if trial.state == "STOPPED" else trial.state, ended)

    def _search(self, condition: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _log(
        self, run: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Mapping[str, object] | None = None
    ) -> None:
        """Log in batches of what MLflow takes at once."""
        labels = _tags(tags or {})
        while metrics or params or labels:
            self._client.log_batch(run, metrics[:_METRICS], params[:_OTHERS], labels[:_OTHERS])
            metrics, params, labels = metrics[_METRICS:], params[_OTHERS:], labels[_OTHERS:]

    def _end(self, run: str, state: str | None, ended_at: int | None) -> None:
        status = _STATUS.get(str(state), "FINISHED")
        if status == "RUNNING":
            self._client.update_run(run, status)
        else:
            self._client.set_terminated(run, status, ended_at)


def _run_tags(run: RecordedRun, own: Sequence[ShownVersion]) -> dict[str, object]:
    """Return the tags of a run: its state, its steps, the versions of its tables and of its model."""
    tags: dict[str, object] = {"pipeline": run.pipeline, "state": run.state or "unknown"}
    tags |= {f"step.{name}": step.state for name, step in run.steps.items() if step.state}
    tags |= {f"table.{name}": version for name, version in run.tables.items()}
    if run.row is not None and run.row.error:
        tags["error"] = run.row.error
    if run.gates:
        tags["gates"] = f"{sum(bool(gate.passed) for gate in run.gates)} of {len(run.gates)} passed"
    for version in own:
        manifest = version.manifest
        tags |= version_tags(manifest)
    return {**tags, "mlflow.note.content": _describe(run, own), "mlflow.source.name": f"tidemill run {run.pipeline}"}


def version_tags(manifest: Manifest) -> dict[str, object]:
    """Return the tags of a model version: its number, its family, the run and the tables that it was trained with."""
    return {
        "run_id": manifest.run_id,
        "model_version": manifest.version,
        "dataset_version": manifest.dataset_version,
        "dataset_inputs": json.dumps(dict(sorted(manifest.dataset_inputs.items()))),
        "family": manifest.family,
    }


def _describe(run: RecordedRun, own: Sequence[ShownVersion]) -> str:
    """Return the description of a run, in Markdown."""
    lines = [f"Run `{run.run_id}` of the pipeline **{run.pipeline}**: {run.state or 'unknown'}."]
    lines += [f"Model {version.manifest.version}: {version.manifest.family}, the best of {len(run.trials)} trials." for version in own]
    lines += [f"Model {row.model_version} became {row.to_state}: {row.reason}." for row in run.deployments if row.from_state is not None]
    if run.gates:
        lines.append("| gate | value | bound | |\n|---|---|---|---|")
        rows = [f"| `{gate.gate}` | {_show(gate.value)} | {_show(gate.bound)} | {_verdict(gate.passed)} |" for gate in run.gates]
        lines[-1] = "\n".join([lines[-1], *rows])
    return "\n\n".join(lines)


def _show(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _verdict(passed: bool | None) -> str:
    return "" if passed is None else "passed" if passed else "**refused**"


def _run_params(run: RecordedRun, own: Sequence[ShownVersion]) -> list[Param]:
    """Return the parameters of the model that the run trained; of several, which a repeated run id gives, of the latest."""
    if not own:
        return []
    manifest = own[-1].manifest
    return _params({"family": manifest.family, **manifest.params})


def _run_metrics(run: RecordedRun, own: Sequence[ShownVersion], model_ids: Mapping[int, str]) -> list[Metric]:
    """Return the metrics of a run: of the search (a step per trial), of the chosen model, and of the test rows (`seq` as the step).

    Of several values MLflow shows that of the greatest step, and of two at one step that of the later clock.
    """
    from mlflow.entities import Metric

    metrics: list[Metric] = []
    for trial in run.trials:
        row = trial.rows[-1]
        if _is_number(trial.mean):
            metrics.append(Metric(f"trial_{row.metric}", trial.mean, milliseconds(row.recorded_at) or 0, trial.number))
    for version in own:
        manifest = version.manifest
        if _is_number(manifest.cv_value):
            at = milliseconds(datetime.fromisoformat(manifest.created_at)) or 0
            metrics.append(Metric(f"cv_{manifest.metric}", manifest.cv_value, at, manifest.version, model_id=version.model_id))
    for measured in run.metrics:
        if measured.slice is None and measured.split in ("test", "train"):
            metrics += _measured(measured, model_ids.get(int(measured.model_version or 0)))
    return metrics


def _measured(row: MetricRow, model_id: str | None) -> Iterator[Metric]:
    """Yield a metric and the ends of its interval."""
    from mlflow.entities import Metric

    name = f"{row.split}_{row.metric}" if row.model_version else f"baseline_{row.metric}"
    if not row.model_version and row.split != "test":
        return
    ends = (("_lower", row.lower), ("_upper", row.upper)) if row.model_version else ()
    for suffix, value in (("", row.value), *ends):
        if _is_number(value):
            yield Metric(_key(f"{name}{suffix}"), value, milliseconds(row.recorded_at) or 0, int(row.seq or 0), model_id=model_id)


def _trial_tags(run: RecordedRun, trial: RecordedTrial) -> dict[str, object]:
    first, unfinished = trial.rows[0], trial.unfinished_fold
    tags: dict[str, object] = {"state": trial.state, "family": first.family, "library": first.library, "engine": first.engine}
    if unfinished is not None and unfinished.error:
        tags["error"] = redact(unfinished.error)
    present = {name: value for name, value in tags.items() if value is not None}
    return {**present, FINGERPRINT: f"{run.run_id} {[row.seq for row in trial.rows][-1]} {len(trial.rows)}"}


def _trial_params(trial: RecordedTrial) -> list[Param]:
    first = trial.rows[0]
    declared = json.loads(first.params or "{}")
    return _params({"family": first.family, **(declared if isinstance(declared, dict) else {})})


def _trial_metrics(trial: RecordedTrial) -> list[Metric]:
    """Return the metric, the seconds and the boosting rounds of each fold, with the fold as the step, and the mean of the metric."""
    from mlflow.entities import Metric

    metrics = []
    for row in trial.rows:
        at, step = milliseconds(row.recorded_at) or 0, int(row.fold or 0)
        values = {str(row.metric): row.value, "fit_seconds": row.seconds, "score_seconds": row.score_seconds, "rounds": row.rounds}
        metrics += [Metric(_key(name), value, at, step) for name, value in values.items() if _is_number(value)]
    if _is_number(trial.mean):
        metrics.append(Metric(_key(f"mean_{trial.rows[0].metric}"), trial.mean, milliseconds(trial.rows[-1].recorded_at) or 0, 0))
    return metrics


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _params(values: Mapping[str, object]) -> list[Param]:
    from mlflow.entities import Param

    return [Param(_key(name), str(value)[:_LONGEST_PARAM]) for name, value in values.items()]


def _tags(values: Mapping[str, object]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(_key(name), redact(str(value))[:_LONGEST_TAG]) for name, value in values.items()]


def _key(name: str) -> str:
    """Return a name with ``_`` in place of what MLflow does not allow in the name of a metric, parameter or tag."""
    return "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in name)[:250]
