"""Faults for SQL of a spec that would do more than read the lake's tables, unless the spec has ``trust: true``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemill.errors import Fault, UsageError
from tidemill.spec.loading.document import Key, Node, dotted_key
from tidemill.spec.validation.dataset import aggregate_nodes
from tidemill.spec.validation.references import sql_text

_SELECT = "SELECT\n"


@dataclass(frozen=True)
class _Sql:
    """One piece of SQL in a spec; ``lead`` is a prefix of whole lines that makes it a statement."""

    path: tuple[Key, ...]
    node: Node
    text: str
    file: Path | None = None
    lead: str = ""


def unsafe_sql_faults(root: Node, folder: Path) -> list[Fault]:
    """Return a fault for each program, foreign function, path or statement that writes in the spec's SQL."""
    from tidemill.lake.safety import find_unsafe_parts

    trust = root.at("trust")
    if trust is not None and trust.value is True:
        return []
    faults = []
    for sql in _all_sql(root, folder):
        try:
            parts = find_unsafe_parts(sql.lead + sql.text)
        except UsageError:
            continue  # SQL that does not parse is a fault of its key's own rule
        for part in parts:
            file, line, column = _find_place(sql, part.line - sql.lead.count("\n"), part.column, part.words)
            message = f"{part}; rewrite it, or allow it with `trust: true` at the top level of the spec"
            faults.append(Fault(file, line, dotted_key(sql.path), message, column))
    return faults


def _all_sql(root: Node, folder: Path) -> Iterator[_Sql]:
    paths: list[tuple[Key, ...]] = [("tables", name, "sql") for name in root.entries_at("tables")]
    for path in (*paths, ("dataset", "sql"), ("scoring", "sql")):
        node = root.at(*path)
        if node is None or node.string is None:
            continue
        try:
            text = sql_text(folder, node.string)
        except UsageError:
            continue
        yield _Sql(path, node, text, None if text is node.string else folder / node.string.strip())
    for path, node in _expressions(root):
        if node is not None and node.string is not None and node.string.strip():
            yield _Sql(path, node, node.string, lead=_SELECT)


def _expressions(root: Node) -> Iterator[tuple[tuple[Key, ...], Node | None]]:
    """Yield the conditions and expressions of expectations, aggregates and custom metrics."""
    for block in ("sources", "tables"):
        for name, part in root.entries_at(block).items():
            for rule, expectation in part.entries_at("expectations").items():
                for key in (("check",), ("sum", "column")):
                    yield (block, name, "expectations", rule, *key), expectation.at(*key)
    for path, part in aggregate_nodes(root):
        for name, node in part.entries_at("features").items():
            yield (*path, "features", name), node
    for name, node in root.entries_at("evaluation", "metrics").items():
        yield ("evaluation", "metrics", name), node


def _find_place(sql: _Sql, line: int, column: int, words: str) -> tuple[str, int | None, int | None]:
    """Return file, line and column of a place in the SQL: of its own file, or of the YAML that holds it."""
    if sql.file is not None:
        return str(sql.file), line, column
    file, first = sql.node.fault_place()
    written = sql.text.splitlines()[line - 1]
    if first is None or not Path(file).is_file():
        return file, first, None
    lines = Path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number in range(first - 1, len(lines)):
        if written.strip() and (at := lines[number].find(written.strip())) >= 0:
            return file, number + 1, at + column - (len(written) - len(written.lstrip()))
    # YAML has folded or unescaped the text: search for the words.
    for number in range(first - 1, len(lines)):
        if (at := lines[number].find(words)) >= 0:
            return file, number + 1, at + 1
    return file, first, None
