"""What a run ends with on the screen: the families, the champion, some predictions, what to type next."""

from __future__ import annotations

from pathlib import Path

from deltalake import DeltaTable
from rich.text import Text

from tidemill.cli.options import lake_of
from tidemill.cli.printing import CONSOLE, print_table
from tidemill.lake import Lake
from tidemill.lake.ledger import query
from tidemill.registry.deployments import Deployments
from tidemill.registry.manifest import Manifest, is_saved, manifest_file
from tidemill.spec import Spec
from tidemill.spec.models import NUMERIC_LABEL, RECOMMENDATION
from tidemill.workflow import RunOutcome
from tidemill.workflow.leaderboard import leaderboard, rank

Row = dict[str, object]


def print_summary(spec: Spec, lake: Lake, outcome: RunOutcome, file: Path) -> None:
    """Print the leaderboard, the champion beside the baseline, five predictions and three commands; on failure, the way on."""
    failed = [step for step in outcome.steps if step.state == "FAILED"]
    style = "bold green" if outcome.state == "SUCCEEDED" else "bold red"
    CONSOLE.print(Text(f"\nrun {outcome.run_id} {outcome.state}", style=style))
    for step in failed:
        CONSOLE.print(Text(f"  {step.node}: {step.error}"), soft_wrap=True)
    if failed:
        CONSOLE.print(f"  mend it, then: tidemill run {file}   (goes on at {failed[0].node})", soft_wrap=True)
    if not any(step.node in ("train", "score") for step in outcome.steps):
        return
    name = spec.pipeline.pipeline
    _print_families(leaderboard(lake.ledger, name))
    _print_champion(lake, name, outcome.champion)
    _print_predictions(spec, lake)
    if not failed:
        _print_commands(spec, lake, file)


def _print_families(trials: list[Row]) -> None:
    """Print the best trial of each family of the latest search."""
    if not trials:
        return
    metric = str(trials[0]["metric"])
    best: dict[object, Row] = {}
    for trial in sorted(trials, key=rank):
        best.setdefault(trial["family"], trial)
    seconds = {family: sum(float(str(row["seconds"])) for row in trials if row["family"] == family) for family in best}
    rows = [
        {
            "family": family,
            "trials": sum(row["family"] == family for row in trials),
            f"cv {metric}": row["value"],
            "seconds": f"{seconds[family]:.1f}",
            "library": row.get("library") or "",
            "best parameters": ", ".join(f"{key}={_short(value)}" for key, value in row["params"].items()),  # type: ignore[attr-defined]
        }
        for family, row in best.items()
    ]
    CONSOLE.print()
    print_table(rows, list(rows[0]), title="Families, by their best mean over the folds")


def _print_champion(lake: Lake, name: str, champion: int | None) -> None:
    shown = champion
    if champion is None:
        versions = lake.ledger.rows("ops.deployments", pipeline=name)
        shown = int(str(versions[-1]["model_version"])) if versions else None
    if shown is None:
        return
    metrics = [row for row in lake.ledger.rows("ops.metrics", pipeline=name) if row["split"] == "test" and row["slice"] is None]
    values = {(row["model_version"], row["metric"]): row["value"] for row in metrics}
    names = list(dict.fromkeys(row["metric"] for row in metrics))
    state = Deployments(lake.ledger, name).state(shown)
    rows = [
        {"metric": metric, f"version {shown}": values.get((shown, metric)), "constant baseline": values.get((0, metric))}
        for metric in names
    ]
    if rows:
        CONSOLE.print()
        print_table(rows, list(rows[0]), title=f"{state} of {name}: version {shown}, on the test set{_positive_class(lake, name, shown)}")


def _positive_class(lake: Lake, name: str, version: int) -> str:
    """Return which class the metrics of a model are of, where it tells two apart."""
    if not is_saved(lake, name, version):
        return ""
    positive = Manifest.from_json(lake.read_text(manifest_file(name, version))).positive
    return "" if positive is None else f"; positive class: {positive}"


def _print_predictions(spec: Spec, lake: Lake) -> None:
    table = spec.pipeline.predictions_table
    if not lake.exists(table):
        return
    columns = [*spec.pipeline.dataset.key, *spec.pipeline.scoring.keep, "prediction", "probability", "model_version"]
    if spec.pipeline.training.task in NUMERIC_LABEL:
        columns.remove("probability")
    data = DeltaTable(lake.path(table))
    present = {field.name for field in data.schema().fields}
    known = list(dict.fromkeys(column for column in columns if column in present))
    listed = ", ".join(f'"{column}"' for column in known)
    rows = query(data, f"SELECT {listed} FROM rows LIMIT 5").to_pylist()
    [counted] = query(data, "SELECT count(*) AS n FROM rows").to_pylist()
    CONSOLE.print()
    print_table(rows, known, title=f"{table}, five of {counted['n']:,} rows")


def _print_commands(spec: Spec, lake: Lake, file: Path) -> None:
    lake_option = "" if lake.root == lake_of(None, must_exist=False).root else f" --lake {lake.root}"
    table = spec.pipeline.predictions_table
    queries = {
        "binary": f"SELECT prediction, count(*), avg(probability) FROM {table} GROUP BY prediction",
        "multiclass": f"SELECT prediction, count(*) FROM {table} GROUP BY prediction",
        "regression": f"SELECT min(prediction), avg(prediction), max(prediction) FROM {table}",
        "clustering": f"SELECT prediction, count(*) FROM {table} GROUP BY prediction",
        "anomaly": f"SELECT * FROM {table} ORDER BY probability DESC LIMIT 10",
        RECOMMENDATION: f"SELECT * FROM {spec.pipeline.recommendations_table} WHERE rank <= 3",
    }
    CONSOLE.print(Text("\nWorth typing next", style="bold"))
    for command in (
        f'tidemill sql{lake_option} "{queries[spec.pipeline.training.task]}"',
        f"tidemill trials {file}",
        f"tidemill run {file}     (again: everything is up to date and skipped)",
    ):
        CONSOLE.print(Text(f"  {command}"), soft_wrap=True)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
