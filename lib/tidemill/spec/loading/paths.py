"""The paths of a spec: relative ones are below the root of its project, never below the working directory."""

from __future__ import annotations

import re
from pathlib import Path

from tidemill.spec.models import Pipeline, Source

_SPECIAL = re.compile(r"[\[\]{}*?\\]")
_BRACES = re.compile(r"(?<!\\)\{([^{}]*)\}")


def is_pattern(path: str) -> bool:
    """Return True if the path has a glob character."""
    return bool(_SPECIAL.search(path))


def escape_glob(path: str) -> str:
    """Return the path with its glob characters escaped, since Spark treats every path as a glob."""
    return _SPECIAL.sub(lambda match: "\\" + match.group(), path)


def expand_braces(pattern: str) -> list[str]:
    """Return the patterns that ``{a,b}`` expands to, innermost braces first; a pattern without braces alone."""
    braces = _BRACES.search(pattern)
    if not braces:
        return [pattern]
    expanded = []
    for choice in braces.group(1).split(","):
        expanded += expand_braces(pattern[: braces.start()] + choice + pattern[braces.end() :])
    return expanded


def python_glob(pattern: str) -> str:
    r"""Return the pattern for Python's ``glob``, which escapes with ``[*]``, not with ``\``."""
    return re.sub(r"\\(.)", lambda match: f"[{match.group(1)}]" if match.group(1) in "*?[" else match.group(1), pattern)


_ROOT_MARKS = ("pyproject.toml", "setup.py", ".git")
_WITH_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_SECRET = "${secret:"
_REFERENCE = re.compile(r"\$\{secret:[^}]*\}")
_SQLITE = re.compile(r"(jdbc:sqlite:(?:file:)?)([^?]*)(.*)", re.DOTALL | re.IGNORECASE)


def find_project_root(folder: Path) -> Path:
    """Return the nearest folder from ``folder`` upwards that holds pyproject.toml, setup.py or .git, else ``folder`` itself; absolute."""
    folder = folder.resolve()
    return next((place for place in (folder, *folder.parents) if any((place / mark).exists() for mark in _ROOT_MARKS)), folder)


def resolve_lake(text: str, root: Path) -> str:
    """Return the location of the lake: a relative path is below ``root``; a URI or a catalog stays as it is."""
    is_elsewhere = "://" in text or text.startswith("catalog:")
    return text if is_elsewhere or not text.strip() else str(root / text)


def resolve_pipeline(pipeline: Pipeline, root: Path) -> Pipeline:
    """Return the pipeline with the paths of its lake and its sources absolute."""
    sources = {name: resolve_source(source, root) for name, source in pipeline.sources.items()}
    return pipeline.model_copy(update={"lake": resolve_lake(pipeline.lake, root), "sources": sources})


def resolve_source(source: Source, root: Path) -> Source:
    """Return the source with absolute paths; a path that begins with a secret, which is not known yet, stays as it is."""
    path, url = source.path, source.url
    if isinstance(path, str):
        path = _resolve(path, root)
    elif path is not None:
        path = [_resolve(part, root) for part in path]
    if url is not None:
        url = _resolve_sqlite(url, root)
    return source.model_copy(update={"path": path, "url": url})


def _resolve(path: str, root: Path) -> str:
    literal = root / path  # an absolute path stays itself
    plain = _REFERENCE.sub("", path)  # braces of a secret reference are not glob characters
    if not path.strip() or path.startswith((_SECRET, "/")) or _WITH_SCHEME.match(path):
        return path
    # Glob characters in the root itself are literal, even with a pattern.
    return f"{escape_glob(str(root))}/{path.removeprefix('./')}" if is_pattern(plain) and not literal.exists() else str(literal)


def _resolve_sqlite(url: str, root: Path) -> str:
    """Return the URL of a SQLite file with an absolute path; a database in memory or of a class path stays as it is."""
    match = _SQLITE.fullmatch(url)
    if match is None or not match[2] or match[2].startswith(("/", ":", _SECRET)):
        return url
    return f"{match[1]}{root / match[2]}{match[3]}"
