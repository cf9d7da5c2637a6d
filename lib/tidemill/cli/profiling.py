"""The commands profile, suggest and features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from tidemill.cli.options import AsJson, Debug, Env, LakeRoot, Set, SpecPath, load_pipeline, load_spec_option, open_lake
from tidemill.cli.pipeline import lazy_spark
from tidemill.cli.printing import plain_text, print_json, print_table, warn, write
from tidemill.errors import UsageError, did_you_mean
from tidemill.lake import Lake
from tidemill.lake.catalog import list_tables
from tidemill.quoting import split_name
from tidemill.runtime.terminal import escape_controls
from tidemill.spec.models import Features

if TYPE_CHECKING:
    from tidemill.spec import Spec


TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="A table of the lake, such as silver.flights.", show_default=False)]
Version = Annotated[int | None, typer.Option("--version", min=0, help="This version; by default the latest.", show_default=False)]
_JSON = ("quantiles", "top_values", "histogram")


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (profile, suggest, features):
        app.command()(command)


def profile(
    table: TableArgument,
    version: Version = None,
    columns: Annotated[str | None, typer.Option("--columns", metavar="A,B", help="Only these columns.", show_default=False)] = None,
    lake: LakeRoot = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Profile a table column by column, and store the profile in ops.profiles: counts, extremes, quantiles, frequent values, histograms."""
    from tidemill.steps.profile import profile_table

    where = _lake_with(table, version, lake)
    names = [name.strip() for name in columns.split(",") if name.strip()] if columns is not None else []
    if columns is not None and not names:
        raise UsageError("--columns names no column; expected such as --columns carrier,dest")
    result = profile_table(lazy_spark().get(), where, table, version, list(dict.fromkeys(names)))
    rows = [row.cells() for row in result.to_rows()]
    if json_:
        print_json([{**row, **{name: json.loads(str(row[name])) if row[name] else None for name in _JSON}} for row in rows])
        return 0
    title = f"{table} at version {result.version}: {result.rows:,} rows, {len(rows)} columns"
    shown = ["column", "type", "nulls", "distinct", "min", "median", "max", "mean", "stddev", "also", "most frequent"]
    print_table([_format_row(row) for row in rows], shown, title=title)
    is_exact = all(each.is_exact for each in result.columns)
    how = "counted one by one" if is_exact else "estimated (~): distinct within 2 %, frequent values by a sketch"
    warn(
        f"distinct and frequent values are {how}; the median and other quantiles are approximate (within 1/10,000 of the rank).\n"
        f"All of it, with quantiles and histograms: SELECT * FROM ops.profiles WHERE profile_id = '{result.profile_id}'\n"
    )
    return 0


def suggest(
    table: TableArgument,
    version: Version = None,
    spec: Annotated[
        Path | None,
        typer.Option("--spec", help="Use the references of this pipeline's tables; by default those in the ledger.", show_default=False),
    ] = None,
    lake: LakeRoot = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Propose a key and expectations from the data of a table, as YAML for `tables.<name>:` of a spec."""
    from tidemill.steps.profile import profile_table, read_declared_lineage, suggest_yaml

    loaded = load_spec_option(spec, env, set_) if spec else None
    where = _lake_with(table, version, lake or (loaded.pipeline.lake if loaded else None))
    spark = lazy_spark().get()
    profile = profile_table(spark, where, table, version)
    suggestions = suggest_yaml(spark, where, profile, read_declared_lineage(loaded) if loaded else None)
    if json_:
        print_json(yaml.safe_load(suggestions))
    else:
        write(suggestions)
    return 0


def _lake_with(table: str, version: int | None, root: str | None) -> Lake:
    """Return the lake, after checking that it has the table and the version; starts no JVM.

    Raises:
        UsageError: they are not.
    """
    lake = open_lake(root)
    split_name(table)
    latest = lake.version(table)
    if latest is None:
        known = sorted(list_tables(lake))
        raise UsageError(f"{table} is not in {lake.root}{did_you_mean(table, known) or ';'} it holds {', '.join(known) or 'no table yet'}")
    if version is not None and version > latest:
        raise UsageError(f"{table} has no version {version}; its latest is {latest}")
    return lake


def _format_row(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row for display: cells that do not apply to the type are empty, frequent values are in one cell."""
    median = json.loads(str(row["quantiles"] or "{}")).get("0.5")
    top = json.loads(str(row["top_values"] or "[]"))
    about = "" if row["is_distinct_exact"] in (True, None) else "~"
    lengths = "" if row["min_length"] is None else f"{_word(row)} {row['min_length']}–{row['max_length']}"
    counts = [f"{row[name]:,} {label}" for name, label in _COUNTS if row[name]]
    nulls, rows = row["nulls"], row["rows"]
    assert isinstance(nulls, int)
    assert isinstance(rows, int)
    return {
        "column": row["column_name"],
        "type": row["type"],
        "nulls": f"{nulls:,} ({nulls / rows:.1%})" if nulls else "0",
        "distinct": "" if row["distinct_values"] is None else f"{about}{row['distinct_values']:,}",
        "min": _shorten(row["min"]),
        "median": _shorten(None if median is None else plain_text(median)),
        "max": _shorten(row["max"]),
        "mean": _shorten(row["mean"]),
        "stddev": _shorten(row["stddev"]),
        "also": ", ".join([*([lengths] if lengths else []), *counts]),
        "most frequent": ", ".join(f"{_shorten(each['value'])} ({about}{each['rows']:,})" for each in top[:3]),
    }


_COUNTS = (("zeros", "zeros"), ("negatives", "negative"), ("not_finite", "not finite"), ("empty", "empty"))


def _word(row: Mapping[str, object]) -> str:
    return {"string": "length", "binary": "bytes"}.get(str(row["type"]), "size")


def _shorten(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def features(
    spec: SpecPath,
    run: Annotated[str | None, typer.Option("--run", help="Of this run; by default the latest.", show_default=False)] = None,
    env: Env = None,
    set_: Set = None,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show what `features: auto` chose for each column and why, as YAML for the spec; starts no Spark."""
    pipeline = load_pipeline(spec, env, set_)
    rows = pipeline.features(run, as_="rows")
    if json_:
        print_json(rows)
        return 0
    write(_format_choices(pipeline.spec, rows))
    return 0


def _format_choices(loaded: Spec, rows: Sequence[dict[str, Any]]) -> str:
    """Return the choices as comments, then the block; other keys of the spec's `features` stay."""
    from tidemill.features.choices import as_yaml, features_block

    lines = [f"# What `features: auto` chose in run {rows[0]['run_id']}, from {_count(rows)} training rows; it gives the same."]
    lines += ["# " + escape_controls(f"{row['column_name']}: {row['chosen']}; {row['reason']}") for row in rows]
    used = [row for row in rows if row["feature_group"] is not None]
    block = features_block((str(row["column_name"]), str(row["feature_group"]), row["settings"]) for row in used)
    declared = loaded.pipeline.features
    if isinstance(declared, Features):
        block |= {
            name: part.model_dump(mode="json", by_alias=True, exclude_unset=True)
            for name, part in (("checks", declared.checks), ("select", declared.select))
            if part is not None
        }
    return "\n".join(lines) + "\n" + as_yaml(block)


def _count(rows: Sequence[dict[str, Any]]) -> str:
    return f"{rows[0]['figures']['rows']:,}"
