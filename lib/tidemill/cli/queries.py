"""The commands status, trials, models, deployments and sql, which only read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli.options import AsJson, Debug, Env, LakeRoot, SafeCsv, Set, SpecPath, load_pipeline, load_spec_option, open_lake
from tidemill.cli.pipeline import lazy_spark
from tidemill.cli.printing import Format, print_json, print_table, warn, write, write_frame
from tidemill.errors import UsageError
from tidemill.lake import Lake
from tidemill.lake.sql import split_statements
from tidemill.model_registry.card_text import render_card
from tidemill.model_registry.model_card import to_json
from tidemill.workflow.error_messages import format_error
from tidemill.workflow.states import run_status

if TYPE_CHECKING:
    from tidemill.lake.catalog import Catalog


def shell(catalog: Catalog, limit: int, trust: bool = False) -> int:
    """Read statements from standard input and print their results, until the input ends or ``exit``."""
    if sys.stdin.isatty():
        warn(f"tables: {', '.join(catalog.tables())}\nend a statement with ;  leave with exit or Ctrl-D\n")
    for statement in _statements():
        try:
            write_frame(catalog.query(statement, trust=trust), "table", None, limit=limit)
        except Exception as error:  # noqa: BLE001 - a wrong statement must not end the shell
            warn(f"error: {format_error(error)}\n")
    return 0


def _statements() -> Iterator[str]:
    """Yield each statement of standard input as soon as its semicolon is read."""
    text = ""
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("   ...> " if text.strip() else "tidemill> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line or (not text.strip() and line.strip().rstrip(";").lower() in ("exit", "quit")):
            break
        text += line
        statements = split_statements(text)
        if statements and statements[-1].is_ended:
            yield from (statement.text.strip() for statement in statements)
            text = ""
    yield from (statement.text.strip() for statement in split_statements(text))


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (status, sql, trials, models, deployments):
        app.command()(command)


def status(
    spec: Annotated[Path | None, typer.Argument(metavar="[SPEC]", show_default=False)] = None,
    run: Annotated[str | None, typer.Option("--run", help="The run; by default the latest.", show_default=False)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show again every two seconds until the run ends.")] = False,
    lake: LakeRoot = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show the states of a run and its steps; starts no Spark."""
    loaded = load_spec_option(spec, env, set_) if spec else None
    where = Lake(loaded.pipeline.lake) if loaded and lake is None else open_lake(lake)
    while True:
        shown = run_status(where, pipeline=loaded.pipeline.pipeline if loaded else None, run_id=run)
        _show_run(shown.run, shown.steps, json_)
        if not watch or shown.state != "RUNNING":
            return 0
        time.sleep(2)


def _show_run(run: dict[str, object], steps: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        print_json({**run, "steps": steps})
        return
    print_table([run], ["pipeline", "run_id", "state", "started_at", "ended_at"])
    write("\n")
    rows = [{**step, "seconds": _seconds(step), "error": step["error"] or ""} for step in steps]
    print_table(rows, ["node", "state", "rows_in", "rows_out", "rows_quarantined", "rows_dropped", "seconds", "error"])


def _seconds(step: dict[str, object]) -> float | None:
    started, ended = step["started_at"], step["ended_at"]
    return (ended - started).total_seconds() if started and ended else None  # type: ignore[operator]


def trials(spec: SpecPath, env: Env = None, set_: Set = None, json_: AsJson = False, debug: Debug = False) -> int:
    """Show the trials of the latest search, best first: the metric is the mean over the folds."""
    rows = load_pipeline(spec, env, set_).trials(as_="rows")
    if json_:
        print_json(rows)
        return 0
    shown = [{**row, "params": json.dumps(row["params"])} for row in rows]
    print_table(shown, ["trial", "family", "metric", "value", "folds", "seconds", "state", "library", "params"])
    return 0


def models(
    spec: SpecPath,
    version: Annotated[int | None, typer.Option("--version", min=1, metavar="V", help="Only this version.", show_default=False)] = None,
    card: Annotated[bool, typer.Option("--card", help="Print the model card in Markdown: of --version, else of the champion.")] = False,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show each model version: its state and its test metrics; version 0 is the constant baseline. Or one version's card."""
    pipeline = load_pipeline(spec, env, set_)
    rows = [row for row in pipeline.models(as_="rows") if version in (None, row["model_version"])]
    if version is not None and not rows:
        raise UsageError(f"--version {version}: {pipeline.name} has no such version; `tidemill models {spec}` lists them")
    if card:
        described = pipeline.card(version)
        write(to_json(described) if json_ else render_card(described))
        return 0
    if json_:
        print_json(rows)
        return 0
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["model_version", "state"]
    print_table([{column: row.get(column) for column in columns} for row in rows], columns)
    return 0


def deployments(
    spec: SpecPath,
    champions: Annotated[bool, typer.Option("--champions", help="Show who was champion when.")] = False,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Show who was champion then: 2013-06-01T12:00, in UTC.", show_default=False)
    ] = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show every change of state of every model version, or who was champion when: from, to, who, why."""
    pipeline = load_pipeline(spec, env, set_)
    is_of_champions = champions or at is not None
    rows = pipeline.champions(at, as_="rows") if is_of_champions else pipeline.deployments(as_="rows")
    if json_:
        print_json(rows)
        return 0
    moments = ["valid_from", "valid_to", "model_version"] if is_of_champions else ["recorded_at", "model_version", "from_state", "to_state"]
    print_table(rows, [*moments, "actor", "reason", "run_id"])
    return 0


def sql(
    query: Annotated[str | None, typer.Argument(metavar="[QUERY]", show_default=False)] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the query from a file.", show_default=False)] = None,
    format_: Annotated[Format, typer.Option("--format", help="The output format.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", help="Write to this file; required for parquet.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows that a table shows.")] = 100,
    safe_csv: SafeCsv = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow the query everything that Spark can do: run programs, call Java, read paths, write.")
    ] = False,
    serve: Annotated[bool, typer.Option("--serve", hidden=True)] = False,
    lake: LakeRoot = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Query the lake in SQL: every table of bronze, silver, gold and ops; without a query, a shell."""
    if serve:
        raise UsageError("sql --serve: not built yet; each `tidemill sql` reads the lake by itself, with no server")
    if query is not None and file is not None:
        raise UsageError("sql takes a query or -f FILE, not both")
    if file is not None:
        if not file.is_file():
            raise UsageError(f"-f {file}: there is no such file")
        query = file.read_text(encoding="utf-8-sig")
    format_ = "json" if json_ else format_
    if safe_csv and format_ != "csv":
        raise UsageError("--safe-csv is for --format csv")
    if format_ == "parquet" and output is None:
        raise UsageError("--format parquet needs --output FILE")
    where = open_lake(lake)
    spark = lazy_spark()
    if query is None:
        from tidemill.lake.catalog import Catalog

        return shell(Catalog(spark.get(), where), limit, trust)
    from tidemill.lake.catalog import as_usage_errors, query_lake

    with as_usage_errors():
        write_frame(query_lake(where, query, spark.get, trust=trust), format_, output, limit=limit, safe_csv=safe_csv)
    return 0
