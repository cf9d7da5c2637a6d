r"""Glob patterns as Hadoop writes them (``*``, ``?``, ``[abc]``, ``{a,b}``, ``\`` escapes), for Python and for Spark."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[\[\]{}*?\\]")
_BRACES = re.compile(r"(?<!\\)\{([^{}]*)\}")


def is_pattern(path: str) -> bool:
    """Return True where the path has a character that means something in a glob."""
    return bool(_SPECIAL.search(path))


def escaped(path: str) -> str:
    """Return the path so that Spark, which takes every path for a glob, finds this very file."""
    return _SPECIAL.sub(lambda match: "\\" + match.group(), path)


def braces_expanded(pattern: str) -> list[str]:
    """Return the patterns that ``{a,b}`` stands for, innermost braces first; a pattern without braces is its own list."""
    found = _BRACES.search(pattern)
    if not found:
        return [pattern]
    expanded = []
    for choice in found.group(1).split(","):
        expanded += braces_expanded(pattern[: found.start()] + choice + pattern[found.end() :])
    return expanded


def python_glob(pattern: str) -> str:
    r"""Return the pattern in the dialect of Python's ``glob``, which escapes by a set of one (``[*]``), not by ``\``."""
    return re.sub(r"\\(.)", lambda match: f"[{match.group(1)}]" if match.group(1) in "*?[" else match.group(1), pattern)
