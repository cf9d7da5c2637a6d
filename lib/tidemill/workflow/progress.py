"""The display of a running run: one line per node."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tidemill.runtime.terminal import escape_controls_in_lines
from tidemill.workflow.outcome import Outcome

STYLES = {
    "PENDING": "dim",
    "RUNNING": "cyan",
    "SUCCEEDED": "green",
    "FAILED": "bold red",
    "SKIPPED": "blue",
    "BLOCKED": "yellow",
    "AWAITING_APPROVAL": "magenta",
}


class Progress(Protocol):
    """Follows a run; called from several threads."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop showing."""

    def show_start(self, node: str) -> None:
        """Show that a node runs."""

    def show_end(self, outcome: Outcome) -> None:
        """Show how a node ended."""


class PlainProgress:
    """One plain line on standard error for each node that ended: for logs and pipes."""

    def __enter__(self) -> Self:
        """Begin: nothing to do."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End: nothing to do."""

    def show_start(self, node: str) -> None:
        """Show nothing: the line is written when the node has ended."""

    def show_end(self, outcome: Outcome) -> None:
        """Write the node's line."""
        counts = [
            f"{name} {count:,}"
            for name, count in (
                ("in", outcome.rows_in),
                ("out", outcome.rows_out),
                ("quarantined", outcome.rows_quarantined),
                ("dropped", outcome.rows_dropped),
            )
            if count is not None and (count or name in ("in", "out"))
        ]
        line = f"{outcome.node:<22} {outcome.state:<10} {outcome.seconds:6.1f} s  {'  '.join(counts)}".rstrip()
        sys.stderr.write(escape_controls_in_lines("\n".join([line, *(f"    {note}" for note in _remarks(outcome))])) + "\n")
        sys.stderr.flush()


class LiveProgress:
    """A live table on a terminal."""

    def __init__(self, nodes: Sequence[str], console: Console) -> None:
        """Show all ``nodes`` as pending."""
        self._nodes = tuple(nodes)
        self._outcomes: dict[str, Outcome] = {}
        self._running: dict[str, tuple[float, Spinner]] = {}
        self._console, self._lock = console, threading.Lock()
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        """Begin the live display."""
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the last state of the table on the screen, the remarks below it."""
        self._live.stop()
        for name in self._nodes:
            for note in _remarks(self._outcomes[name]) if name in self._outcomes else ():
                self._console.print(Text(f"{name}: ", style="bold") + Text(escape_controls_in_lines(note)))

    def show_start(self, node: str) -> None:
        """Turn the node's line into a running one."""
        with self._lock:
            self._running[node] = (time.monotonic(), Spinner("dots", style="cyan"))

    def show_end(self, outcome: Outcome) -> None:
        """Fill in the node's line."""
        with self._lock:
            self._running.pop(outcome.node, None)
            self._outcomes[outcome.node] = outcome

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for title in ("", "step", "state"):
            table.add_column(title)
        for title in ("rows in", "rows out", "quarantined", "dropped", "seconds"):
            table.add_column(title, justify="right")
        with self._lock:
            for name in self._nodes:
                table.add_row(*self._line(name))
        return table

    def _line(self, name: str) -> tuple[Text | Spinner | str, ...]:
        if name in self._running:
            began, spinner = self._running[name]
            return (spinner, name, Text("RUNNING", style="cyan"), "", "", "", "", f"{time.monotonic() - began:.0f}")
        outcome = self._outcomes.get(name)
        if outcome is None:
            return ("", Text(name, style="dim"), Text("PENDING", style="dim"), "", "", "", "", "")
        mark = {"SUCCEEDED": "✓", "SKIPPED": "✓", "FAILED": "✗", "BLOCKED": "–"}.get(outcome.state, "")
        style = STYLES[outcome.state]
        counts = (
            _count(outcome.rows_in),
            _count(outcome.rows_out),
            _count(outcome.rows_quarantined or None),
            _count(outcome.rows_dropped or None),
        )
        return (Text(mark, style=style), escape(name), Text(outcome.state, style=style), *counts, f"{outcome.seconds:.1f}")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _remarks(outcome: Outcome) -> list[str]:
    return [*([f"{outcome.error}"] if outcome.error else []), *outcome.notes]


def choose_progress(nodes: Sequence[str], console: Console) -> Progress:
    """Return the live display on a terminal, plain lines elsewhere."""
    return LiveProgress(nodes, console) if console.is_terminal else PlainProgress()
