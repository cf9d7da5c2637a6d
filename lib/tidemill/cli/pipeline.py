"""The commands run, check, explain and score."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidemill.cli.options import AsJson, Debug, Env, SafeCsv, Set, SpecPath, load_pipeline
from tidemill.cli.printing import FORMATS, print_json, print_table, warn, write, write_frame
from tidemill.cli.summary import print_summary
from tidemill.errors import SpecError, TidemillError, UsageError
from tidemill.redaction import redact
from tidemill.workflow import LazySpark, RunOutcome
from tidemill.workflow.outcome import choose_exit_code
from tidemill.workflow.progress import PlainProgress, choose_progress
from tidemill.workflow.runner import list_decisions

StepName = Annotated[str | None, typer.Option(metavar="STEP|NODE", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (run, check, explain, score):
        app.command()(command)


def lazy_spark() -> LazySpark:
    """Return the lazy session of a command that only reads the lake."""
    from tidemill.runtime.session import get_spark

    return LazySpark(get_spark)


def run(
    spec: SpecPath,
    env: Env = None,
    start: Annotated[str | None, typer.Option("--from", metavar="STEP|NODE", help="First step or node.", show_default=False)] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="STEP|NODE", help="Last step or node.", show_default=False)] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STEP|NODE", help="Only this one.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Also run nodes that are up to date.")] = False,
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay",
            metavar="FROM",
            help="With --only ingest.SOURCE: load again from `all`, a batch number or an instant on.",
            show_default=False,
        ),
    ] = None,
    set_: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and why; run nothing.")] = False,
    run_id: Annotated[str | None, typer.Option("--run-id", help="Lets steps in separate processes be one run.", show_default=False)] = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Run the pipeline, or a part of it: nodes that are up to date are skipped, a failed run resumes where it failed."""
    try:
        return _run(spec, env, set_, RunOptions(start, end, only, force, replay, dry_run, run_id, json_, debug))
    except TidemillError as error:
        if json_ and not dry_run:  # standard output holds one JSON object, also where no run began
            print_json(RunOutcome(run_id or "", "FAILED", (), None).to_json() | {"exit_code": error.exit_code, "error": str(error)})
        raise


@dataclass(frozen=True)
class RunOptions:
    """The options of the command ``run``."""

    start: str | None
    end: str | None
    only: str | None
    force: bool
    replay: str | None
    dry_run: bool
    run_id: str | None
    as_json: bool
    debug: bool


def _run(spec: Path, env: str | None, set_: Sequence[str] | None, options: RunOptions) -> int:
    pipeline = load_pipeline(spec, env, set_)
    runner, nodes = pipeline.prepare_run(
        start=options.start,
        end=options.end,
        only=options.only,
        force=options.force,
        replay=options.replay,
        run_id=options.run_id,
        debug=options.debug,
    )
    if options.dry_run:
        return _print_decisions(list_decisions(runner, [node.name for node in nodes]), options.as_json)
    if options.as_json:
        with redirect_stdout(sys.stderr):  # output of user code would come before the object
            outcome = runner.run(nodes, PlainProgress())
        print_json(outcome.to_json())
    else:
        outcome = runner.run(nodes, choose_progress([node.name for node in nodes], Console(stderr=True, highlight=False)))
        print_summary(pipeline.spec, pipeline.lake, outcome, spec)
    return outcome.exit_code


def check(spec: SpecPath, env: Env = None, set_: Set = None, json_: AsJson = False, debug: Debug = False) -> int:
    """Parse the spec and resolve everything it references; nothing is written."""
    try:
        pipeline = load_pipeline(spec, env, set_)
        result = pipeline.check()
    except SpecError as error:
        if json_:
            print_json(
                {"pipeline": None, "nodes": [], "faults": [vars(fault) | {"message": redact(fault.message)} for fault in error.faults]}
            )
        raise
    if json_:
        print_json({"pipeline": pipeline.name, "nodes": result.nodes, "faults": [], "notes": result.notes})
    else:
        write(f"{spec}: fine; {len(result.nodes)} nodes: {', '.join(result.nodes)}\n")
        write("".join(f"  {note}\n" for note in result.notes))
    return 0


def explain(spec: SpecPath, env: Env = None, set_: Set = None, json_: AsJson = False, debug: Debug = False) -> int:
    """Show for each node whether it would run, and why."""
    return _print_decisions(load_pipeline(spec, env, set_).explain(as_="rows"), json_)


def _print_decisions(rows: Sequence[Mapping[str, object]], as_json: bool) -> int:
    """Print for each node whether it would run and why; return the exit code that a run would have, such as for missing files."""
    shown = [{name: row[name] for name in ("node", "would", "why")} for row in rows]
    if as_json:
        print_json(shown)
    else:
        print_table(shown, ["node", "would", "why"])
    return choose_exit_code(int(str(row["exit_code"])) for row in rows)


def score(
    spec: SpecPath,
    input_: Annotated[str, typer.Option("--input", metavar="FILE|TABLE", help="A file, a folder, a glob, or a table of the lake.")],
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="The source of the records.", show_default=False)] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="PLACE", help="Where the rows enter: bronze, silver.TABLE or dataset.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write to this file: .csv, .json or .parquet.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows that a table shows.")] = 100,
    safe_csv: SafeCsv = False,
    explain_: Annotated[bool, typer.Option("--explain", help="Add how much each column moved the prediction.")] = False,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Score new rows with the champion, without a run; nothing is written to the lake."""
    if output is not None and output.suffix not in FORMATS:
        raise UsageError(f"--output {output}: expected a name that ends in .csv, .json or .parquet")
    if safe_csv and (output is None or output.suffix != ".csv"):
        raise UsageError("--safe-csv is for --output FILE.csv")
    pipeline = load_pipeline(spec, env, set_)
    format_ = FORMATS[output.suffix] if output is not None else "json" if json_ else "table"
    with pipeline.score_input_rows(input_, source=source, at=at, explains=explain_) as scored:
        for note in scored.notes:
            warn(f"{note}\n")
        write_frame(scored.frame, format_, output, limit=limit, safe_csv=safe_csv)
    return 0
