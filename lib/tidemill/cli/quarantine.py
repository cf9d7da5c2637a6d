"""The command ``quarantine``: quarantined records by rule, and their reprocessing."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from tidemill.cli.options import AsJson, Debug, Env, Set, SpecPath, load_pipeline
from tidemill.cli.printing import print_json, print_table, write
from tidemill.pipeline import Pipeline
from tidemill.workflow import RunOutcome, new_run_id
from tidemill.workflow.progress import PlainProgress, choose_progress
from tidemill.workflow.reprocess import list_nodes_in_quarantine

_SHOWN = 160  # characters of a sample in a table


def add_commands(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(quarantine)


def quarantine(
    spec: SpecPath,
    reprocess: Annotated[
        bool,
        typer.Option("--reprocess", help="Process only these records again, after the rule or the function was corrected."),
    ] = False,
    only: Annotated[str | None, typer.Option("--only", metavar="NODE", help="Of this source or table only.", show_default=False)] = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show what is in quarantine, by table and rule; a record that breaks several rules counts for each."""
    pipeline = load_pipeline(spec, env, set_)
    rows = pipeline.quarantine(only, as_="rows")
    if reprocess:
        return _reprocess(
            pipeline, [node for node in list_nodes_in_quarantine(pipeline.spec, pipeline.lake) if only in (None, node)], json_
        )
    if json_:
        print_json(rows)
    elif rows:
        shown = [{**row, "sample": _shorten(str(row["sample"]))} for row in rows]
        print_table(shown, ["table", "rule", "records", "since", "place", "sample"])
    else:
        write("nothing is in quarantine\n")
    return 0


def _reprocess(pipeline: Pipeline, nodes: list[str], as_json: bool) -> int:
    from tidemill.workflow.reprocess import Reprocess

    if not nodes:
        if as_json:
            print_json(RunOutcome.of_nothing().to_json())
        else:
            write("nothing is in quarantine\n")
        return 0
    progress = PlainProgress() if as_json else choose_progress(nodes, Console(stderr=True, highlight=False))
    outcome = Reprocess(pipeline.spec, pipeline.lazy_spark, new_run_id()).run(nodes, progress)
    if as_json:
        print_json(outcome.to_json())
    return outcome.exit_code


def _shorten(sample: str) -> str:
    return sample if len(sample) <= _SHOWN else f"{sample[:_SHOWN]}… ({len(sample):,} characters; --json shows all)"
