"""The command quarantine: what was refused, by rule, and its way back."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from tidemill.cli.options import AsJson, Debug, Env, Set, SpecPath, spec_of
from tidemill.cli.pipeline import lazy_spark
from tidemill.cli.printing import print_json, print_table, write
from tidemill.errors import UsageError, did_you_mean
from tidemill.lake import Lake
from tidemill.spec import Spec
from tidemill.workflow import RunOutcome, new_run_id
from tidemill.workflow.progress import PlainProgress, progress_for
from tidemill.workflow.reprocess import nodes_in_quarantine, quarantined

_SHOWN = 160  # characters of a sample in a table


def add_commands(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(quarantine)


def quarantine(
    spec: SpecPath,
    reprocess: Annotated[
        bool,
        typer.Option("--reprocess", help="Take these records through again, and only they, after the rule or the function was mended."),
    ] = False,
    only: Annotated[str | None, typer.Option("--only", metavar="NODE", help="Of this source or table only.", show_default=False)] = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show what is in quarantine, by table and rule; a record that breaks several rules counts for each."""
    loaded = spec_of(spec, env, set_)
    lake = Lake(loaded.pipeline.lake)
    node_of = {"bronze": "ingest", "silver": "prepare"}
    known = [f"ingest.{name}" for name in loaded.pipeline.sources] + [f"prepare.{name}" for name in loaded.pipeline.tables]
    if only is not None and only not in known:
        raise UsageError(f"--only {only}: no such source or table{did_you_mean(only, known)}; known: {', '.join(known)}")
    if reprocess:
        return _reprocess(loaded, [node for node in nodes_in_quarantine(loaded, lake) if only in (None, node)], json_)
    rows = [refused.row() for refused in quarantined(loaded, lake)]
    rows = [row for row in rows if only in (None, "{}.{}".format(node_of[str(row["table"])[:6]], str(row["table"])[7:]))]
    if json_:
        print_json(rows)
    elif rows:
        shown = [{**row, "sample": _cut(str(row["sample"]))} for row in rows]
        print_table(shown, ["table", "rule", "records", "since", "place", "sample"])
    else:
        write("nothing is in quarantine\n")
    return 0


def _reprocess(loaded: Spec, nodes: list[str], as_json: bool) -> int:
    from tidemill.workflow.reprocess import Reprocess

    if not nodes:
        if as_json:
            print_json(RunOutcome.of_nothing().to_json())
        else:
            write("nothing is in quarantine\n")
        return 0
    progress = PlainProgress() if as_json else progress_for(nodes, Console(stderr=True, highlight=False))
    outcome = Reprocess(loaded, lazy_spark(loaded), new_run_id()).run(nodes, progress)
    if as_json:
        print_json(outcome.to_json())
    return outcome.exit_code


def _cut(sample: str) -> str:
    return sample if len(sample) <= _SHOWN else f"{sample[:_SHOWN]}… ({len(sample):,} characters; --json shows all)"
