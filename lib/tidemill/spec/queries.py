"""Rules for the sources that have no files: what each needs, and which options it knows."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.errors import did_you_mean
from tidemill.spec.blocks import SOURCE_FORMATS
from tidemill.spec.node import Key, Node

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
