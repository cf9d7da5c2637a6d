"""Commands that do something: run, score, check, explain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidemill.cli.options import AsJson, Debug, Env, Set, SpecPath, spec_of
from tidemill.cli.printing import print_json, print_table, write_csv_rows, write_json_rows
from tidemill.cli.summary import print_summary
from tidemill.errors import TidemillError, UsageError
from tidemill.spec import Spec
from tidemill.workflow import LazySpark, Runner, build_graph
from tidemill.workflow.progress import PlainProgress, progress_for

StepName = Annotated[str | None, typer.Option(metavar="STEP|NODE", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (run, check, explain, score):
        app.command()(command)


def lazy_spark(spec: Spec | None = None) -> LazySpark:
    """Return the session of this command, not started yet; it will have the jars that the sources of ``spec`` need."""
    from tidemill.session import get_spark
    from tidemill.sources.connectors import needed_connectors

    return LazySpark(lambda: get_spark(connectors=needed_connectors(spec.pipeline.sources.values()) if spec else ()))


def run(
    spec: SpecPath,
    env: Env = None,
    start: Annotated[str | None, typer.Option("--from", metavar="STEP|NODE", help="Begin here.", show_default=False)] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="STEP|NODE", help="End here.", show_default=False)] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STEP|NODE", help="Only this.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Run also what is up to date.")] = False,
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay",
            metavar="FROM",
            help="With --only ingest.SOURCE: load it anew from `all`, a batch's number, or a time on.",
            show_default=False,
        ),
    ] = None,
    set_: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and why; do nothing.")] = False,
    run_id: Annotated[str | None, typer.Option("--run-id", help="Lets steps in separate processes be one run.", show_default=False)] = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Run the pipeline, or a part of it: what is up to date is skipped, what failed goes on where it failed."""
    loaded = spec_of(spec, env, set_)
    if replay is not None and not (only or "").startswith("ingest."):
        raise UsageError("--replay loads one source anew: give --only ingest.SOURCE with it")
    runner = Runner(loaded, lazy_spark(loaded), run_id=run_id, force=force, replay=replay, debug=debug)
    nodes = runner.graph.select(start=start, end=end, only=only)
    if dry_run:
        return _print_decisions(runner, [node.name for node in nodes], json_)
    console = Console(stderr=True, highlight=False)
    progress = PlainProgress() if json_ else progress_for([node.name for node in nodes], console)
    outcome = runner.run(nodes, progress)
    if json_:
        print_json(outcome.to_json())
    else:
        print_summary(loaded, runner.lake, outcome, spec)
    return outcome.exit_code


def check(spec: SpecPath, env: Env = None, set_: Set = None, json_: AsJson = False, debug: Debug = False) -> int:
    """Parse and resolve the spec and all it names; nothing is written."""
    from tidemill.steps.spaces import declared_spaces

    loaded = spec_of(spec, env, set_)
    declared_spaces(loaded, needs_libraries=False)  # a spec may be checked where nothing is trained
    nodes = build_graph(loaded).nodes
    notes = [loaded.pipeline.dataset.positive_rule()] if loaded.pipeline.has_positive_class else []
    if json_:
        print_json({"pipeline": loaded.pipeline.pipeline, "nodes": [node.name for node in nodes], "faults": [], "notes": notes})
    else:
        sys.stdout.write(f"{spec}: fine; {len(nodes)} nodes: {', '.join(node.name for node in nodes)}\n")
        sys.stdout.writelines(f"  {note}\n" for note in notes)
    return 0


def explain(spec: SpecPath, env: Env = None, set_: Set = None, json_: AsJson = False, debug: Debug = False) -> int:
    """Say for each node whether it would run, and why."""
    loaded = spec_of(spec, env, set_)
    runner = Runner(loaded, lazy_spark(loaded))
    return _print_decisions(runner, [node.name for node in runner.graph.nodes], json_)


def _print_decisions(runner: Runner, names: list[str], as_json: bool) -> int:
    would_run: set[str] = set()
    rows = []
    for name in names:
        node = runner.graph[name]
        upstream = [other for other in (*node.needs, *node.after) if other in would_run]
        reasons: tuple[str, ...] = (f"{upstream[0]} would run",) if upstream else ()
        if not reasons:
            try:
                reasons = runner.decide(node).reasons
            except TidemillError as error:
                reasons = (str(error),)
        if reasons:
            would_run.add(name)
        rows.append({"node": name, "would": "run" if reasons else "skip", "why": "; ".join(reasons) or "unchanged since it last succeeded"})
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ["node", "would", "why"])
    return 0


def score(
    spec: SpecPath,
    input_: Annotated[str, typer.Option("--input", metavar="FILE|TABLE", help="CSV, JSON lines or Parquet file, or a table of the lake.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="Write here instead: .csv, .json or .parquet.", show_default=False)
    ] = None,
    explain_: Annotated[bool, typer.Option("--explain", help="Not built yet.", hidden=True)] = False,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Score rows that have just arrived with the champion, without a run; nothing is written to the lake."""
    from tidemill.lake import Lake
    from tidemill.steps.score_rows import score_rows

    if explain_:
        raise UsageError("score --explain: not built yet; score without it")
    if output is not None and output.suffix not in (".csv", ".json", ".parquet"):
        raise UsageError(f"--output {output}: expected a name that ends in .csv, .json or .parquet")
    loaded = spec_of(spec, env, set_)
    scored = score_rows(lazy_spark().get(), loaded, Lake(loaded.pipeline.lake), input_)
    rows = (row.asDict(recursive=True) for row in scored.toLocalIterator())
    if output is not None:
        return _write(rows, scored.columns, output)
    if json_:
        write_json_rows(rows, sys.stdout)
    else:
        print_table(rows, scored.columns)
    return 0


def _write(rows, columns: list[str], output: Path) -> int:  # type: ignore[no-untyped-def]
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".parquet":
        import pandas as pd

        pd.DataFrame(list(rows), columns=columns).to_parquet(output, index=False)
        return 0
    with output.open("w", encoding="utf-8") as out:
        if output.suffix == ".json":
            write_json_rows(rows, out)
        else:
            write_csv_rows(rows, columns, out)
    return 0
