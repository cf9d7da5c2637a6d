"""The summary at the end of a run: families, champion, some predictions, next commands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.text import Text

from tidemill.cli.options import open_lake
from tidemill.cli.printing import CONSOLE, print_table, read_rows
from tidemill.extensions import search_beside
from tidemill.lake import Lake
from tidemill.lake.delta_tables import query
from tidemill.lake.ops import MetricRow
from tidemill.model_registry.deployments import Deployments
from tidemill.model_registry.manifest import model_fault, read_manifest
from tidemill.runtime.terminal import escape_controls_in_lines
from tidemill.spec import Spec
from tidemill.workflow import RunOutcome
from tidemill.workflow.outcome import build_leaderboard, find_latest_search, sort_key
from tidemill.workflow.progress import STYLES
from tidemill.workflow.states import AWAITING_APPROVAL, DONE

Row = dict[str, object]


def print_summary(spec: Spec, lake: Lake, outcome: RunOutcome, file: Path) -> None:
    """Print the leaderboard, the model and the baseline, five predictions and three commands; errors come last.

    Results of a step that was up to date are shown with the run that they are from; other steps that did not run are left out.
    """
    states = {step.node: step.state for step in outcome.steps}
    failed = [step for step in outcome.steps if step.state == "FAILED"]
    waiting = [step for step in outcome.steps if step.state == AWAITING_APPROVAL]
    if not failed and not waiting:
        _print_state(outcome)
    name, has_tables = spec.pipeline.pipeline, False
    if states.get("train") in DONE:
        with search_beside(spec.folder):
            has_tables |= _print_families(lake, name, outcome.run_id)
    if states.get("evaluate") in DONE or any(step.is_gate_refusal for step in failed):
        has_tables |= _print_model(lake, name, outcome)
    if states.get("score") in DONE:
        has_tables |= _print_predictions(spec, lake, outcome.run_id)
    if failed:
        _print_state(outcome)
        for step in failed:
            CONSOLE.print(Text(escape_controls_in_lines(f"  {step.node}: {step.error}")), soft_wrap=True)
        CONSOLE.print(
            Text(escape_controls_in_lines(f"  Fix it, then rerun: tidemill run {file}   (goes on at {failed[0].node})")), soft_wrap=True
        )
    elif waiting:
        _print_state(outcome)
        for step in waiting:
            CONSOLE.print(Text(escape_controls_in_lines(f"  {step.error}")), soft_wrap=True)
    elif has_tables:
        _print_commands(spec, lake, file, states)


def _print_state(outcome: RunOutcome) -> None:
    style = STYLES[outcome.state] if outcome.state == AWAITING_APPROVAL else "bold green" if outcome.state == "SUCCEEDED" else "bold red"
    CONSOLE.print(Text(f"\nrun {outcome.run_id} {outcome.state}", style=style))


def _describe_origin(run_ids: Iterable[object], run_id: str) -> str:
    """Return `` (from run …)`` where rows are another run's."""
    others = sorted({str(each) for each in run_ids if each != run_id})
    return f" (from run {', '.join(others)})" if others else ""


def _print_families(lake: Lake, name: str, run_id: str) -> bool:
    """Print the best trial of each family of the latest search; return whether there is one."""
    trials = build_leaderboard(lake.ledger, name)
    if not trials:
        return False
    metric = str(trials[0]["metric"])
    best: dict[object, Row] = {}
    for trial in sorted(trials, key=sort_key):
        best.setdefault(trial["family"], trial)
    seconds = {family: sum(float(str(row["seconds"])) for row in trials if row["family"] == family) for family in best}
    rows = [
        {
            "family": family,
            "trials": sum(row["family"] == family for row in trials),
            f"cv {metric}": _round_for_display(row["value"]),
            "seconds": f"{seconds[family]:.1f}",
            "library": row.get("library") or "",
            "best parameters": ", ".join(f"{key}={_format_short(value)}" for key, value in row["params"].items()),  # type: ignore[attr-defined]
        }
        for family, row in best.items()
    ]
    CONSOLE.print()
    origin = _describe_origin([find_latest_search(lake.ledger, name)], run_id)
    print_table(rows, list(rows[0]), title=f"Families, by their best mean over the folds{origin}")
    return True


def _print_model(lake: Lake, name: str, outcome: RunOutcome) -> bool:
    """Print the test metrics of the version that this run evaluated, else of the champion; return whether there are any."""
    rows = [row for row in lake.ledger.read(MetricRow, pipeline=name, split="test") if row.slice is None]
    evaluated = [row.model_version for row in rows if row.run_id == outcome.run_id and row.model_version]
    version = max(evaluated, default=outcome.champion)
    metrics = [row for row in rows if row.model_version == version]
    if version is None or not metrics:
        return False
    of_runs = {row.run_id for row in metrics}
    values = {(row.model_version, row.metric): _round_for_display(row.value) for row in rows if row.run_id in of_runs}
    shown = [
        {"metric": metric, f"version {version}": values[version, metric], "constant baseline": values.get((0, metric))}
        for metric in dict.fromkeys(row.metric for row in metrics)
    ]
    about = f"version {version}, on the test set{_positive_class(lake, name, version)}{_describe_origin(of_runs, outcome.run_id)}"
    CONSOLE.print()
    print_table(shown, list(shown[0]), title=f"{Deployments(lake.ledger, name).state(version)} of {name}: {about}")
    return True


def _positive_class(lake: Lake, name: str, version: int) -> str:
    """Return the positive class of a binary model's metrics, empty for other tasks."""
    if model_fault(lake, name, version):
        return ""
    positive = read_manifest(lake, name, version).positive
    return "" if positive is None else f"; positive class: {positive}"


def _print_predictions(spec: Spec, lake: Lake, run_id: str) -> bool:
    table = spec.pipeline.predictions_table
    if not lake.exists(table):
        return False
    columns = [*spec.pipeline.dataset.key, *spec.pipeline.scoring.keep, "prediction", "probability", "model_version"]
    if spec.pipeline.task_kind.has_numeric_label:
        columns.remove("probability")
    data = lake.open(table)
    present = {field.name for field in data.schema().fields}
    known = list(dict.fromkeys(column for column in columns if column in present))
    listed = ", ".join('"' + column.replace('"', '""') + '"' for column in known)
    newest = query(data, f"SELECT {listed}, run_id AS _tidemill_run FROM rows ORDER BY run_id = '{run_id}' DESC LIMIT 5")
    [counted] = query(data, "SELECT count(*) AS n FROM rows").to_pylist()
    origin = _describe_origin(newest.column("_tidemill_run").to_pylist(), run_id)
    CONSOLE.print()
    rows = read_rows(newest.select(known).to_reader())
    print_table(rows, known, title=f"{table}, {newest.num_rows} of {counted['n']:,} rows{origin}")
    return True


def _print_commands(spec: Spec, lake: Lake, file: Path, states: Mapping[str, str]) -> None:
    lake_option = "" if lake.root == open_lake(None, must_exist=False).root else f" --lake {lake.root}"
    pipeline = spec.pipeline
    query = pipeline.task.query.format(predictions=pipeline.predictions_table, recommendations=pipeline.recommendations_table)
    CONSOLE.print(Text("\nWorth typing next", style="bold"))
    commands = [f'tidemill sql{lake_option} "{query}"'] if "score" in states else []
    commands += [f"tidemill trials {file}"] if "train" in states else []
    for command in (*commands, f"tidemill run {file}     (again: everything is up to date and skipped)"):
        CONSOLE.print(Text(escape_controls_in_lines(f"  {command}")), soft_wrap=True)


def _format_short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _round_for_display(value: object) -> object:
    """Return a metric rounded for display; ops.metrics and ops.trials have all digits."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return f"{value:.4f}" if value == 0 or 1e-2 <= abs(value) < 1e6 else f"{value:.4g}"
