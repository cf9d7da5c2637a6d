"""The commands replay, copy and compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli.lifecycle import Actor
from tidemill.cli.options import AsJson, Debug, Env, Set, SpecPath, load_pipeline
from tidemill.cli.printing import print_json, print_table, write
from tidemill.errors import UsageError
from tidemill.model_registry.approval import name_actor

if TYPE_CHECKING:
    from tidemill.workflow.reproduction.comparison import Change, MetricChange, VersionComparison
    from tidemill.workflow.reproduction.copying import CopyResult
    from tidemill.workflow.reproduction.replay import ReplayResult

Version = Annotated[int | None, typer.Option("--version", min=1, help="The model version; by default the champion.", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (replay, copy, compare):
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
    from tidemill.workflow.reproduction.origin import find_version
    from tidemill.workflow.reproduction.replay import replay as replay_version

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


def copy(
    spec: SpecPath,
    to: Annotated[str, typer.Option("--to", metavar="ENV", help="The environment whose lake gets the copy: its overlay.")],
    version: Version = None,
    gates: Annotated[bool, typer.Option("--gates", help="Let the target's gates decide, on its own dataset.")] = False,
    actor: Actor = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Copy a model version, by default the champion, with its evidence to the lake of another environment, and verify the copy."""
    pipeline, target = load_pipeline(spec, env, set_), load_pipeline(spec, to, set_)
    if pipeline.name != target.name:
        raise UsageError(f"--to {to}: its overlay names the pipeline {target.name}, expected {pipeline.name}; leave `pipeline:` out of it")
    from tidemill.workflow.reproduction.copying import copy_version
    from tidemill.workflow.reproduction.origin import find_version

    chosen = find_version(pipeline.spec, pipeline.lake, version=version)
    with redirect_stdout(sys.stderr):
        result = copy_version(pipeline.lake, chosen, target.spec, target.lazy_spark, actor=name_actor(actor), gates=gates)
    if json_:
        print_json(result.to_json())
    else:
        write(_format_copy(result))
    return result.exit_code


def _format_copy(result: CopyResult) -> str:
    source = f"model {result.source_version} of {result.pipeline} in {result.source_lake}"
    target = f"model {result.target_version} in {result.target_lake}"
    if not result.is_new:
        return "".join(f"{line}\n" for line in (f"{source} is {target} already, {result.state} there; nothing is copied", *result.notes))
    lines = [f"{source} is now {target}: {result.state}"]
    lines += [f"  {result.files} files with digest {result.digest[:16]}, {result.ops_rows} rows of ops tables"]
    lines += [f"  {result.sample_rows} rows of the stored sample are predicted alike on both sides, by a new process"]
    return "\n".join([*lines, *(f"  {note}" for note in result.notes)]) + "\n"


def compare(
    spec: SpecPath,
    a: Annotated[str, typer.Argument(metavar="A", help="A model version, a run, or `champion`.", show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one; differences are B - A.", show_default=False)],
    offline: Annotated[bool, typer.Option("--offline", help="Only what the ledger holds; start no Spark.")] = False,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Compare two model versions or runs: spec, data, parameters, metrics with paired intervals, slices, importances, predictions."""
    pipeline = load_pipeline(spec, env, set_)
    from tidemill.workflow.reproduction.comparison import compare_versions, find_side

    sides = [find_side(pipeline.spec, pipeline.lake, name) for name in (a, b)]
    result = compare_versions(pipeline.spec, pipeline.lake, *sides)
    if not offline:
        from tidemill.workflow.reproduction.paired import add_common_rows

        with redirect_stdout(sys.stderr):
            result = add_common_rows(result, pipeline.spec, pipeline.lake, pipeline.spark)
    if json_:
        print_json(result.to_json())
    else:
        _print_comparison(result)
    return 0


def _print_comparison(result: VersionComparison) -> None:
    sides = [{"side": name, **vars(side)} for name, side in (("A", result.a), ("B", result.b))]
    print_table(sides, ["side", "model_version", "state", "family", "metric", "cv_value", "library", "run_id"])
    where = "of each evaluation" if result.rows is None else f"on {result.rows:,} common test rows"
    for title, changes in (("spec", result.spec), ("data", result.data), ("parameters", result.params)):
        _print_changes(f"{title}: {'what differs' if changes else 'the same'}", changes)
    for title, metrics in ((f"metrics {where}", result.metrics), (f"slices {where}", result.slices)):
        _print_metrics(title, metrics)
    _print_changes("importances", result.importances)
    if result.predictions is not None:
        found = result.predictions
        sample = f", such as {'; '.join(found.sample)}" if found.sample else ""
        write(f"\npredictions: {found.changed_side:,} of {found.rows:,} rows changed side, {found.differing:,} differ{sample}\n")
    write("".join(f"note: {note}\n" for note in result.notes))


def _print_changes(title: str, changes: Sequence[Change]) -> None:
    if changes or not title.startswith("importances"):
        write(f"\n{title}\n")
    if changes:
        print_table([{"name": each.name, "A": _show_value(each.a), "B": _show_value(each.b)} for each in changes], ["name", "A", "B"])


def _print_metrics(title: str, metrics: Sequence[MetricChange]) -> None:
    if not metrics:
        return
    write(f"\n{title}\n")
    names = {"A": "a", "B": "b", "B - A": "difference", "lower": "lower", "upper": "upper"}
    texts = [{title: _show_value(getattr(each, name)) for title, name in names.items()} for each in metrics]
    rows = [{"slice": each.slice or "", "metric": each.metric, **text} for each, text in zip(metrics, texts, strict=True)]
    print_table(rows, [*(["slice"] if metrics[0].slice else []), "metric", *names])


def _show_value(value: object) -> str:
    """Return a value as a table of the terminal shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
