"""SQL of a spec that would do more than read the lake's tables: refused with its place, unless the spec says ``trust: true``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemill.errors import Fault, UsageError, did_you_mean
from tidemill.spec.loading.document import Key, Node, dotted
from tidemill.spec.models import SOURCE_FORMATS
from tidemill.spec.validation.dataset import aggregate_nodes
from tidemill.spec.validation.references import sql_text

JDBC_OPTIONS = (
    *("partitionColumn", "numPartitions", "lowerBound", "upperBound", "fetchsize", "queryTimeout"),
    *("sessionInitStatement", "driver", "overlap"),
)
DELTA_OPTIONS = ("versionAsOf", "timestampAsOf")
_OPTIONS = {"jdbc": JDBC_OPTIONS, "delta": DELTA_OPTIONS}
_BESIDE = {"url": "url", "dbtable": "table", "query": "query", "user": "user", "password": "password", "path": "path"}
_DATABASE_KEYS = ("url", "table", "query", "user", "password")

Found = Iterator[tuple[tuple[Key, ...], str]]


def query_faults(name: str, source: Node, kind: str) -> Found:
    """Yield the faults of a source of ``format: <kind>`` as far as it concerns what has no files."""
    if kind == "jdbc":
        yield from _jdbc(name, source)
        yield from _jdbc_options(name, source)
    if kind in _OPTIONS:
        yield from _options(name, source, kind)
    if kind == "delta":
        yield from _delta(name, source)
    is_watched = kind == "jdbc" or "." in kind
    for key in ("watermark", "overlap") if kind in SOURCE_FORMATS and not is_watched and kind != "kafka" else ():
        if _given(source, key):
            yield ("sources", name, key), f"means nothing to `format: {kind}`, where `load: incremental` takes what is new; leave it out"
    for key in _DATABASE_KEYS if kind in SOURCE_FORMATS and kind not in ("jdbc", "kafka") else ():
        if _given(source, key):
            yield ("sources", name, key), f"means nothing to `format: {kind}`, which reads `path:`; leave it out"
    # A class of one's own may have positions of another kind; it says itself what it lacks.
    if kind == "jdbc" and source.string_at("load") == "incremental":
        yield from _incremental(name, source)


def _jdbc(name: str, source: Node) -> Found:
    url = source.at("url")
    if not _given(source, "url"):
        yield ("sources", name, "url"), "missing; `format: jdbc` needs the database, such as `url: jdbc:postgresql://host:5432/db`"
    elif url is not None and url.string is not None and not url.string.startswith(("jdbc:", "${secret:")):
        yield ("sources", name, "url"), "expected a URL that begins with jdbc:, such as jdbc:postgresql://host:5432/db"
    both = [key for key in ("table", "query") if _given(source, key)]
    if len(both) != 1:
        found = "found both" if both else "found neither"
        yield ("sources", name, both[0] if both else "table"), f"expected one of `table:` and `query:`, {found}"
    if _given(source, "path"):
        yield ("sources", name, "path"), "means nothing to `format: jdbc`, which reads `table:` or `query:`; leave it out"


def _jdbc_options(name: str, source: Node) -> Found:
    """Yield the keys and options that would do nothing, as what they belong to is missing."""
    options = source.at("options")
    given = {option.lower(): (option, node) for option, node in (options.mapping if options else {}).items()}
    overlaps: list[tuple[Key, ...]] = [("sources", name, "overlap")] if _given(source, "overlap") else []
    if overlaps and "overlap" in given:
        yield ("sources", name, "options", given["overlap"][0]), "`overlap:` says it already; leave one of them out"
    overlaps += [("sources", name, "options", given["overlap"][0])] if "overlap" in given else []
    # Where `load: incremental` lacks its watermark, that is said once.
    if overlaps and not _given(source, "watermark") and source.string_at("load") != "incremental":
        yield overlaps[0], "says how far behind the watermark late rows are looked for; give `watermark: <column>`, or leave it out"
    for option in ("numPartitions", "lowerBound", "upperBound"):
        if option.lower() in given and "partitioncolumn" not in given:
            yield (
                ("sources", name, "options", given[option.lower()][0]),
                "needs `partitionColumn: <column>`, by which the rows are shared out",
            )
    count = given.get("numpartitions")
    if count is not None and not count[1].is_open and not (str(count[1].value).isdigit() and int(str(count[1].value)) >= 1):
        yield ("sources", name, "options", count[0]), f"expected a whole number from 1, found {count[1].value!r}"


def _incremental(name: str, source: Node) -> Found:
    if not _given(source, "watermark"):
        yield (
            ("sources", name, "watermark"),
            "missing; `load: incremental` needs the column that grows with each change, or write `load: full`",
        )
    if not source.at("key") or not (source.at("key") or source).items:
        yield ("sources", name, "key"), "missing; `load: incremental` reads late rows again and merges them by `key: [column, …]`"


def _options(name: str, source: Node, kind: str) -> Found:
    options = source.at("options")
    known = {option.lower() for option in _OPTIONS[kind]}
    for option in options.mapping if options else ():
        if option.lower() in _BESIDE:
            key = _BESIDE[option.lower()]
            yield ("sources", name, "options", option), f"write `{key}:` beside `format:`"
        elif option.lower() not in known:
            near = did_you_mean(option, _OPTIONS[kind])
            yield ("sources", name, "options", option), f"unknown option of {kind}{near}; known: {', '.join(sorted(_OPTIONS[kind]))}"


def _delta(name: str, source: Node) -> Found:
    options = source.at("options")
    given = [option for option in (options.mapping if options else ()) if option.lower() in ("versionasof", "timestampasof")]
    if given and source.string_at("load") == "incremental":
        yield ("sources", name, "options", given[0]), "is for `load: full`; `incremental` goes on from the version it has read"
    if len(given) > 1:
        yield ("sources", name, "options", given[1]), f"`{given[0]}` says already which version is meant; leave one of them"


def _given(source: Node, key: str) -> bool:
    node = source.at(key)
    return node is not None and node.value is not None and node.value != ""


_SELECT = "SELECT\n"


@dataclass(frozen=True)
class _Sql:
    """One piece of SQL in a spec; ``lead`` is what was put before it to make it a statement: lines, no columns."""

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
            continue  # what does not parse is told by the rule for its key
        for part in parts:
            file, line, column = _place(sql, part.line - sql.lead.count("\n"), part.column, part.words)
            message = f"{part}; rewrite it, or let the SQL of this spec do what it likes with `trust: true` at the top level"
            faults.append(Fault(file, line, dotted(sql.path), message, column))
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
    """Yield the conditions and expressions: of expectations, of aggregates, of metrics of one's own."""
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


def _place(sql: _Sql, line: int, column: int, words: str) -> tuple[str, int | None, int | None]:
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
    # A text that YAML has folded or unescaped: its words are looked for.
    for number in range(first - 1, len(lines)):
        if (at := lines[number].find(words)) >= 0:
            return file, number + 1, at + 1
    return file, first, None
