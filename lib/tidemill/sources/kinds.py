"""The source kinds ``text``, ``binaryFile`` and ``delta``, and the connectors that sources need. Imports no Spark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.errors import SetupError
from tidemill.spec.models.source_kinds import SOURCE_KINDS, DeclaredSource, Faults, FileKind, QueryKind, file_faults, option_name_faults

if TYPE_CHECKING:
    from tidemill.spec.models import Source


_VERSIONS = ("versionAsOf", "timestampAsOf")
_FEED_COLUMNS = ("_change_type", "_commit_version", "_commit_timestamp")


class Text(FileKind):
    """Text files: one record per line, one column."""

    reader = "tidemill.sources.files.text:TextFiles"
    gives_raw_text = True
    is_text = True
    takes_empty_files = True
    option_names = ("encoding", "lineSep", "wholetext", "maxRecordBytes")

    def known_columns(self, source: Source) -> Mapping[str, str | None]:
        """Return the one column of text."""
        return {"value": None}


class BinaryFile(FileKind):
    """Files of any kind: one record per file."""

    reader = "tidemill.sources.files.text:BinaryFiles"
    gives_raw_text = True
    takes_empty_files = True

    def known_columns(self, source: Source) -> Mapping[str, str | None]:
        """Return Spark's columns for files."""
        return dict.fromkeys(("path", "modificationTime", "length", "content"))


class Delta(QueryKind):
    """A Delta table outside of the lake: at a version, or its change feed."""

    reader = "tidemill.sources.tables:DeltaRows"
    gives_raw_text = True
    needs_path = True
    option_names = _VERSIONS

    def faults(self, source: DeclaredSource) -> Faults:
        """Yield faults of the declaration: only full loads take a version, and only one."""
        yield from file_faults(source)
        yield from option_name_faults(source, _VERSIONS)
        given = [spelling for name, (spelling, _) in source.options.items() if name in {each.lower() for each in _VERSIONS}]
        if given and source.is_incremental:
            yield ("options", given[0]), "is for `load: full`; `incremental` continues from the version that it has read"
        if len(given) > 1:
            yield ("options", given[1]), f"`{given[0]}` says already which version is meant; leave one of them"

    def known_columns(self, source: Source) -> Mapping[str, str | None] | None:
        """Return the columns of the table's log, and those of its change feed."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        options = {name.lower(): value for name, value in source.options.items()}
        if not source.paths or "timestampasof" in options or "${secret:" in source.paths[0]:
            return None
        version = options.get("versionasof")
        try:
            fields = DeltaTable(source.paths[0], version=None if version is None else int(str(version))).schema().fields
        except DeltaError:
            return None
        feed = _FEED_COLUMNS if source.load == "incremental" else ()
        return dict.fromkeys([*(part.name for part in fields), *feed])


def needed_connectors(sources: Iterable[Source], folder: Path | None = None) -> tuple[str, ...]:
    """Return the names of the connectors (``spark_home.CONNECTORS``) that these sources need, without duplicates."""
    names = (SOURCE_KINDS.get(source.format, folder).connector(source) for source in sources)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def missing_connector(place: str, name: str | None) -> SetupError:
    """Return the error for a connector whose jars are not on the class path; None stands for a driver of the user's own."""
    if name is None:
        return SetupError(f"{place}: Spark has no driver for it; pass its jar to spark-submit by --jars, and give `options: {{driver: …}}`")
    return SetupError(
        f"{place}: the Spark that runs has no connector {name!r}; run `python -m tidemill.runtime.spark_home --with {name}` "
        "and start again, or give spark-submit its jars by --packages"
    )
