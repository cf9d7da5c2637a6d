"""The commands approve, promote and rollback, which change the state of a model version by a person's decision."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli.options import AsJson, Debug, Env, Set, SpecPath, load_pipeline
from tidemill.cli.printing import print_json, write
from tidemill.workflow.lifecycle import Change

Version = Annotated[int | None, typer.Option("--version", min=1, metavar="V", help="The model version.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is recorded in ops.deployments.", show_default=False)]
Actor = Annotated[
    str | None, typer.Option("--actor", metavar="NAME", help="Who decides; by default the user of the system.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, and say what would change; change nothing.")]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (approve, promote, rollback):
        app.command()(command)


def approve(
    spec: SpecPath,
    reason: Reason,
    version: Version = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Make a challenger champion that waits for approval; nothing is computed again, and no Spark is started."""
    pipeline = load_pipeline(spec, env, set_)
    return _print_change(pipeline.approve(version, reason=reason, actor=actor, dry_run=dry_run), f"{spec}", json_)


def promote(
    spec: SpecPath,
    reason: Reason,
    version: Version = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Make a challenger champion, or a version that its gates rejected a challenger again."""
    pipeline = load_pipeline(spec, env, set_)
    return _print_change(pipeline.promote(version, reason=reason, actor=actor, dry_run=dry_run), f"{spec}", json_)


def rollback(
    spec: SpecPath,
    reason: Reason,
    version: Version = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Make a retired version champion again, by default the one before, once it has reproduced its stored predictions."""
    pipeline = load_pipeline(spec, env, set_)
    return _print_change(pipeline.rollback(version, reason=reason, actor=actor, dry_run=dry_run), f"{spec}", json_)


def _print_change(change: Change, spec: str, as_json: bool) -> int:
    if as_json:
        print_json(change.to_json())
        return 0
    would = "would be" if change.is_dry_run else "is"
    lines = [f"model {change.model_version} of {change.pipeline} {would} {change.to_state} (was {change.from_state}), by {change.actor}"]
    if change.champion != change.champion_before and change.champion_before is not None:
        lines.append(f"model {change.champion_before} {would} RETIRED")
    if change.rows_compared is not None:
        lines.append(f"loaded from its files, it predicts for {change.rows_compared} stored rows what it did at training time")
    lines += change.notes
    if change.is_dry_run:
        lines.append("nothing was changed")
    elif change.to_state == "CHAMPION":
        lines.append(f"score with it: tidemill run {spec} --from score")
    else:
        lines.append(f"make it champion: tidemill promote {spec} --version {change.model_version} --reason TEXT, or tidemill run {spec}")
    write("".join(f"{line}\n" for line in lines))
    return 0
