"""The commands replay, copy and compare."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from tidemill.cli.options import AsJson, Debug, Env, Set, SpecPath, load_pipeline
from tidemill.cli.printing import print_json, write
from tidemill.workflow.reproduction.origin import find_version
from tidemill.workflow.reproduction.replay import ReplayResult
from tidemill.workflow.reproduction.replay import replay as replay_version

Version = Annotated[int | None, typer.Option("--version", min=1, help="The model version; by default the champion.", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (replay,):
        app.command()(command)


def replay(
    spec: SpecPath,
    run: Annotated[str | None, typer.Option("--run", help="The model that this run trained or used.", show_default=False)] = None,
    version: Version = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Make a model again from bronze on at pinned table versions, and compare: it is equal (exit 0), or what differs and why (3)."""
    pipeline = load_pipeline(spec, env, set_)
    chosen = find_version(pipeline.spec, pipeline.lake, run_id=run, version=version)
    with redirect_stdout(sys.stderr):  # output of user code would come before the result
        result = replay_version(pipeline.spec, pipeline.lake, pipeline.lazy_spark, chosen)
    if json_:
        print_json(result.to_json())
    else:
        write(_format_replay(result))
    return result.exit_code


def _format_replay(result: ReplayResult) -> str:
    tables = ", ".join(f"{table} {version}" for table, version in sorted(result.pinned.items()))
    lines = [f"model {result.model_version} of {result.pipeline}, made again from {tables}: {result.state}"]
    lines += [f"  differs: {each.what}: {each.detail}" for each in result.differences]
    lines += [f"  explained by {each.kind} {each}" for each in result.causes]
    lines += [f"  note: {note}" for note in result.notes]
    return "\n".join(lines) + "\n"
