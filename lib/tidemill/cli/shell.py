"""A small SQL shell: statements end with a semicolon."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tidemill.cli.printing import warn, write_frame
from tidemill.lake.statements import split_statements
from tidemill.workflow.words import in_one_sentence

if TYPE_CHECKING:
    from tidemill.lake.catalog import Catalog


def shell(catalog: Catalog, limit: int, trust: bool = False) -> int:
    """Read statements from standard input and print what they give, until its end or ``exit``."""
    if sys.stdin.isatty():
        warn(f"tables: {', '.join(catalog.tables())}\nend a statement with ;  leave with exit or Ctrl-D\n")
    for statement in _statements():
        try:
            write_frame(catalog.query(statement, trust=trust), "table", None, limit=limit)
        except Exception as error:  # noqa: BLE001 - a wrong statement must not end the shell
            warn(f"error: {in_one_sentence(error)}\n")
    return 0


def _statements() -> Iterator[str]:
    """Yield each statement of standard input as soon as its semicolon is there."""
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
