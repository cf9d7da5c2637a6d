"""What SQL may do without being trusted: read tables of the lake with Spark's own functions. Judged on the parsed statement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from tidemill.lake.functions import ALLOWED, UNSAFE
from tidemill.lake.names import LAYERS
from tidemill.lake.sql import parse

_WRITES = (exp.DDL, exp.DML, exp.Command, exp.Set, exp.Into)


@dataclass(frozen=True)
class Unsafe:
    """One part of a statement that needs trust: where it stands (both from 1), the words that stand there, and why."""

    line: int
    column: int
    words: str
    reason: str

    def __str__(self) -> str:
        """Return the sentence for people, without the place."""
        return f"`{self.words}` {self.reason}"


def function_reason(name: str) -> str | None:
    """Return why SQL may not call the function, None where it may."""
    if name.lower() in ALLOWED:
        return None
    return UNSAFE.get(name.lower(), "is none of Spark's own functions that only compute")


def table_reason(parts: tuple[str, ...]) -> str | None:
    """Return why SQL may not read the table of these name parts, None where it may; one part alone is a name of the query's own."""
    if len(parts) == 1 or (len(parts) == 2 and parts[0].lower() in LAYERS):
        return None
    if "/" in parts[-1] or ":" in parts[-1]:
        return f"reads a path; SQL reads the lake's tables, such as {LAYERS[1]}.flights"
    return f"is no table of the lake; write <layer>.<name>, the layer one of {', '.join(LAYERS)}"


def unsafe_parts(sql: str) -> list[Unsafe]:
    """Return what in the query would run programs or foreign code, write, or read something else than the lake, in the order of the text.

    Raises:
        UsageError: the SQL does not parse, or is more than one statement.
    """
    tree, text, added = parse(sql)
    return sorted(_parts(tree, text, added), key=lambda part: (part.line, part.column))


def _parts(tree: exp.Expr, text: str, added: tuple[int, ...]) -> Iterator[Unsafe]:
    # What a hint names is nothing that runs, and has no place of its own.
    for node in tree.walk(prune=lambda part: isinstance(part, exp.Hint)):
        if isinstance(node, exp.QueryTransform):
            yield _at(text, added, _first(node), "TRANSFORM … USING", "runs a program")
        elif isinstance(node, _WRITES):
            yield _at(text, added, _first(node), node.key.upper(), "does more than read")
        elif isinstance(node, exp.Func) and "start" in node.meta:
            start, end = node.meta["start"], node.meta["end"] + 1
            name = node.name if isinstance(node, exp.Anonymous) else text[start:end].strip("`")
            if reason := function_reason(name):
                yield _at(text, added, start, text[start:end].strip("`"), reason)
        elif isinstance(node, exp.Table) and not isinstance(node.this, exp.Func):
            names = [part for part in node.find_all(exp.Identifier) if part.find_ancestor(exp.Table) is node and part.arg_key != "alias"]
            parts = tuple(part.name for part in node.parts)
            if reason := table_reason(parts):
                start = min((part.meta["start"] for part in names if "start" in part.meta), default=0)
                yield _at(text, added, start, ".".join(parts), reason)


def _first(node: exp.Expr) -> int:
    """Return where the first part of ``node`` whose place is known begins."""
    return min((each.meta["start"] for each in node.walk() if "start" in each.meta), default=0)


def _at(text: str, added: tuple[int, ...], start: int, words: str, reason: str) -> Unsafe:
    begin = text.rfind("\n", 0, start) + 1
    shift = sum(begin <= place < start for place in added)
    return Unsafe(text.count("\n", 0, start) + 1, start - begin - shift + 1, words, reason)
