"""Tables and queries of databases.

In: a URL, and a table or a query. Out: the rows after the last watermark, with exact values, and the new position. The SQL may change
inside; the JSON of positions may not, because it is stored with each commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tidemill.spec.models.source_kinds import UNRESOLVED, DeclaredSource, Faults, QueryKind, option_name_faults

if TYPE_CHECKING:
    from tidemill.spec.models import Source


CONNECTORS = {"jdbc:postgresql:": "postgresql", "jdbc:sqlite:": "sqlite"}
"""The connector that contains the driver, by the beginning of the URL."""


class Jdbc(QueryKind):
    """A table or a query of a database."""

    reader = "tidemill.sources.jdbc.reader:JdbcQuery"
    gives_raw_text = True
    option_names = (
        *("partitionColumn", "numPartitions", "lowerBound", "upperBound", "fetchsize", "queryTimeout"),
        *("sessionInitStatement", "driver", "overlap"),
    )

    def faults(self, source: DeclaredSource) -> Faults:
        """Yield the faults of the declaration."""
        yield from _place_faults(source)
        yield from _overlap_faults(source)
        yield from _partition_faults(source)
        yield from option_name_faults(source, self.option_names)
        if source.is_incremental:
            if "watermark" not in source.keys:
                yield ("watermark",), "missing; `load: incremental` needs the column that grows with each change, or write `load: full`"
            if not source.keys.get("key"):
                yield ("key",), "missing; `load: incremental` reads late rows again and merges them by `key: [column, …]`"

    def connector(self, source: Source) -> str | None:
        """Return the connector with the driver; None for databases whose driver the user provides."""
        url = (source.url or "").lower()
        return next((name for start, name in CONNECTORS.items() if url.startswith(start)), None)

    def known_columns(self, source: Source) -> Mapping[str, str | None] | None:
        """Return the columns of a table or query of a SQLite file; other databases are not queried before a run."""
        place = (source.url or "").partition("jdbc:sqlite:")[2].partition("?")[0].removeprefix("file:")
        if not place.startswith("/") or "${secret:" in place or not Path(place).is_file():
            return None
        table = (source.table or "").strip('"`[]').replace('"', '""')
        relation = f"({source.query.strip().rstrip(';')})" if source.query else f'"{table}"'
        try:
            connection = sqlite3.connect(f"file:{quote(place)}?mode=ro", uri=True, timeout=1)
            try:
                return dict.fromkeys(column[0] for column in connection.execute(f"SELECT * FROM {relation} LIMIT 0").description)
            finally:
                connection.close()
        except sqlite3.Error:
            return None


def _place_faults(source: DeclaredSource) -> Faults:
    url = source.text("url")
    if "url" not in source.keys:
        yield ("url",), "missing; `format: jdbc` needs the database, such as `url: jdbc:postgresql://host:5432/db`"
    elif url is not None and not url.startswith(("jdbc:", "${secret:")):
        yield ("url",), "expected a URL that begins with jdbc:, such as jdbc:postgresql://host:5432/db"
    given = [key for key in ("table", "query") if key in source.keys]
    if len(given) != 1:
        yield (given[0] if given else "table",), f"expected one of `table:` and `query:`, found {'both' if given else 'neither'}"
    if "path" in source.keys:
        yield ("path",), "means nothing to `format: jdbc`, which reads `table:` or `query:`; leave it out"


def _overlap_faults(source: DeclaredSource) -> Faults:
    """Yield faults of an overlap that is given twice, or without a watermark."""
    overlaps: list[tuple[str, ...]] = [("overlap",)] if "overlap" in source.keys else []
    option = source.options.get("overlap")
    if option is not None:
        if overlaps:
            yield ("options", option[0]), "`overlap:` says it already; leave one of them out"
        overlaps.append(("options", option[0]))
    # A missing watermark of `load: incremental` is reported elsewhere.
    if overlaps and "watermark" not in source.keys and not source.is_incremental:
        yield overlaps[0], "says how far behind the watermark late rows are looked for; give `watermark: <column>`, or leave it out"


def _partition_faults(source: DeclaredSource) -> Faults:
    for name in ("numPartitions", "lowerBound", "upperBound"):
        option = source.options.get(name.lower())
        if option is not None and "partitioncolumn" not in source.options:
            yield ("options", option[0]), "needs `partitionColumn: <column>`, by which the rows are shared out"
    spelling, count = source.options.get("numpartitions", ("", UNRESOLVED))
    if count is not UNRESOLVED and not (str(count).isdigit() and int(str(count)) >= 1):
        yield ("options", spelling), f"expected a whole number from 1, found {count!r}"
