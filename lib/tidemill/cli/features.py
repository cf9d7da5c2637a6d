"""The command that shows what `features: auto` has chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli.options import AsJson, Debug, Env, Set, SpecPath, spec_of
from tidemill.cli.printing import print_json, write
from tidemill.errors import UsageError
from tidemill.lake import Lake
from tidemill.spec.models import Features
from tidemill.terminal import visible

if TYPE_CHECKING:
    from tidemill.spec import Spec

_JSON = ("settings", "figures")


def add_commands(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(features)


def features(
    spec: SpecPath,
    run: Annotated[str | None, typer.Option("--run", help="Of this run; by default the latest.", show_default=False)] = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show what `features: auto` chose for each column and why, as YAML to paste into the spec in its place; starts no Spark."""
    loaded = spec_of(spec, env, set_)
    rows = Lake(loaded.pipeline.lake).ledger.rows("ops.features", pipeline=loaded.pipeline.pipeline)
    chosen = run or next((str(row["run_id"]) for row in reversed(rows)), None)
    found = sorted((row for row in rows if row["run_id"] == chosen), key=lambda row: int(str(row["position"])))
    declared = loaded.pipeline.features
    if not found and run is None and isinstance(declared, Features) and not declared.is_auto:
        raise UsageError(f"{spec} declares its features itself; leave the column groups out, and `auto` chooses")
    if not found:
        where = f"run {run}" if run else loaded.pipeline.pipeline
        raise UsageError(f"{where} has chosen no features; a run does with `features: auto`, in its step train: tidemill run {spec}")
    if json_:
        print_json([{**row, **{name: json.loads(str(row[name])) if row[name] else None for name in _JSON}} for row in found])
        return 0
    write(_pasteable(loaded, found, str(chosen)))
    return 0


def _pasteable(loaded: Spec, rows: Sequence[dict[str, object]], run: str) -> str:
    """Return the choices as comments, then the block; what the spec says beside `auto` stays."""
    from tidemill.features.choices import as_yaml, groups_of

    lines = [f"# What `features: auto` chose in run {run}, from {_count(rows)} training rows; it gives the same."]
    lines += ["# " + visible(f"{row['column_name']}: {row['chosen']}; {row['reason']}") for row in rows]
    used = [row for row in rows if row["feature_group"] is not None]
    block = groups_of((str(row["column_name"]), str(row["feature_group"]), json.loads(str(row["settings"]))) for row in used)
    declared = loaded.pipeline.features
    if isinstance(declared, Features):
        block |= {
            name: part.model_dump(mode="json", by_alias=True, exclude_unset=True)
            for name, part in (("checks", declared.checks), ("select", declared.select))
            if part is not None
        }
    return "\n".join(lines) + "\n" + as_yaml(block)


def _count(rows: Sequence[dict[str, object]]) -> str:
    return f"{json.loads(str(rows[0]['figures']))['rows']:,}"
