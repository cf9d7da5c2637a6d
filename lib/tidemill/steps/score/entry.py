"""The entry of the rows of `tidemill score --input` into the pipeline; resolved without Spark."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from tidemill.column_names import list_table_columns
from tidemill.errors import SourceError, StepError, TidemillError, UsageError, did_you_mean
from tidemill.lake.catalog import list_tables
from tidemill.model_registry import Deployments
from tidemill.quoting import LAYERS
from tidemill.sources.files.listing import PACKED, SourceFile, list_files
from tidemill.spec.models.source_kinds import SOURCE_KINDS, FileKind
from tidemill.steps.score.routes import DATASET, Route, find_routes

if TYPE_CHECKING:
    from tidemill.lake import Lake
    from tidemill.spec import Spec
    from tidemill.spec.models import Source


_TABLE = re.compile(rf"^({'|'.join(LAYERS)})\.[A-Za-z_]\w*$")
_REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_MAX_SHOWN = 12


@dataclass(frozen=True)
class Entry:
    """The origin of rows, and their entry into the pipeline.

    ``place`` is the table whose columns they have (``bronze.x``, ``silver.x``), or ``dataset``; ``nodes`` are the nodes that they pass
    from there. ``table`` is their table of the lake, None for files. ``files`` are local files, empty for those of another file system.
    ``source`` is the source of the records; ``has_own_reader``: its own reader reads them, else ``kind`` is the format. ``version`` is
    that of the champion.
    """

    given: str
    place: str
    nodes: tuple[str, ...]
    version: int
    table: str | None = None
    source: str | None = None
    files: tuple[SourceFile, ...] = ()
    kind: str | None = None
    has_own_reader: bool = False

    @property
    def path(self) -> str:
        """The path or glob of the files; an existing path is taken literally."""
        return str(Path(self.given).absolute()) if Path(self.given).exists() else self.given

    @property
    def goal(self) -> str:
        """The node whose rows the model scores."""
        return self.nodes[-1] if self.nodes else DATASET


def find_entry(spec: Spec, lake: Lake, given: str, *, source: str | None = None, at: str | None = None) -> Entry:
    """Resolve the entry of the rows of a file, a folder, a glob, or a table of the lake; starts no JVM.

    Args:
        spec: the pipeline.
        lake: its lake.
        given: the value of `--input`.
        source: the source of the records; None where it is unambiguous.
        at: ``bronze``, ``silver.<table>`` or ``dataset``; None is the earliest possible place.

    Raises:
        UsageError: there is no such file or table, or its rows cannot pass to the model from there.
        StepError: there is no champion yet.
    """
    pipeline = spec.pipeline
    if source is not None and source not in pipeline.sources:
        raise UsageError(f"--source {source}: no such source{did_you_mean(source, pipeline.sources)}; known: {', '.join(pipeline.sources)}")
    routes = find_routes(spec)
    place = _resolve_place(spec, routes, at, source)
    is_table = bool(_TABLE.match(given)) and not Path(given).exists()
    if is_table:
        _check_table(lake, given)
    files = () if is_table else _list_files(given)
    version = Deployments(lake.ledger, pipeline.pipeline).champion()
    if version is None:
        raise StepError(f"{pipeline.pipeline} has no champion to score with; run the pipeline first: tidemill run {spec.file}")
    if is_table:
        if place == "bronze":
            place = given if given.startswith("bronze.") else f"bronze.{_resolve_source(spec, lake, routes, given, (), None)}"
        place = place or (given if given in routes else DATASET)
        return Entry(given, place, _list_nodes(spec, routes, place), version, table=given)
    kind = _read_suffix_kind(files[0].path if files else given)
    if place is None or place == "bronze":
        place = f"bronze.{_resolve_source(spec, lake, routes, given, files, kind)}"
    nodes = _list_nodes(spec, routes, place)
    _check_columns(spec, lake, place, given, files, kind)
    source_name = place.removeprefix("bronze.") if place.startswith("bronze.") else None
    has_own_reader = source_name is not None and _has_own_reader(spec, pipeline.sources[source_name], kind)
    if kind is None and not has_own_reader:
        raise UsageError(
            f"--input {given}: unknown kind of file, expected a name that ends in {', '.join(_kinds_by_suffix())}, packed or not"
        )
    return Entry(given, place, nodes, version, source=source_name, files=files, kind=kind, has_own_reader=has_own_reader)


def _resolve_place(spec: Spec, routes: Mapping[str, Route], at: str | None, source: str | None) -> str | None:
    """Return the requested place: a table, ``dataset``, or ``bronze`` without a known source."""
    pipeline = spec.pipeline
    if at in (DATASET, pipeline.dataset_table):
        if source is not None:
            raise UsageError(f"--source {source} means a record of that source, which `--at {at}` does not take; leave one of them out")
        return DATASET
    if at in (None, "bronze"):
        return f"bronze.{source}" if source is not None else at
    known = [*(f"bronze.{name}" for name in pipeline.sources), *(f"silver.{name}" for name in pipeline.tables)]
    if at not in known:
        similar = did_you_mean(str(at), [*known, DATASET])
        raise UsageError(
            f"--at {at}: expected bronze, silver.<table> or dataset{similar}; rows can enter with {_format_places(spec, routes)}"
        )
    if source is not None and at != f"bronze.{source}":
        raise UsageError(f"--source {source} means a record of that source, which `--at {at}` does not take; leave one of them out")
    return at


def _list_nodes(spec: Spec, routes: Mapping[str, Route], place: str) -> tuple[str, ...]:
    """Return the nodes that rows pass from a place to the model.

    Raises:
        UsageError: rows cannot pass one by one from there; the message lists the possible places.
    """
    if place == DATASET:
        return ()
    route = routes.get(place)
    if route is None:
        raise UsageError(
            f"no row of {place} gets to the model: the dataset is not made of it; rows can enter with {_format_places(spec, routes)}"
        )
    if route.fault:
        raise UsageError(
            f"rows of {place} cannot be taken to the model one by one: {route.fault}; rows can enter, with the columns of the place, by "
            f"{_format_places(spec, routes)}"
        )
    return route.nodes


def _format_places(spec: Spec, routes: Mapping[str, Route]) -> str:
    open_routes = [table for table, route in routes.items() if not route.fault]
    tables = [f"--at {table}" for table in sorted(open_routes) if table.startswith("silver.")]
    bronze = ["--at bronze"] if any(table.startswith("bronze.") for table in open_routes) else []
    return ", ".join([*bronze, *tables, f"--at {DATASET}"]) + f" (the columns of {spec.pipeline.dataset_table})"


def _resolve_source(
    spec: Spec, lake: Lake, routes: Mapping[str, Route], given: str, files: tuple[SourceFile, ...], kind: str | None
) -> str:
    """Return the source of the records in the files."""
    sources = [name for name in spec.pipeline.sources if f"bronze.{name}" in routes]
    if not sources:
        raise UsageError(f"--input {given}: no source leads to the model; rows can enter with {_format_places(spec, routes)}")
    open_routes = [name for name in sources if not routes[f"bronze.{name}"].fault]
    if not open_routes:
        _list_nodes(spec, routes, f"bronze.{sources[0]}")
    if len(open_routes) > 1:
        open_routes = _select_most_similar(spec, lake, open_routes, files, kind) or open_routes
    if len(open_routes) > 1:
        raise UsageError(f"--input {given} may hold records of {' or '.join(open_routes)}; choose one: --source {open_routes[0]}")
    return open_routes[0]


def _check_columns(spec: Spec, lake: Lake, place: str, given: str, files: tuple[SourceFile, ...], kind: str | None) -> None:
    """Refuse a file that has no column of the source; only for formats whose files declare all columns at once."""
    source = spec.pipeline.sources[place.removeprefix("bronze.")] if place.startswith("bronze.") else None
    of_files = None if kind is None else SOURCE_KINDS.get(kind)
    if not isinstance(of_files, FileKind) or of_files.tells_columns_by_record:
        return
    if source is None or not files or not _has_own_reader(spec, source, kind):
        return
    if _count_common_columns(spec, lake, place, source, files[0], kind) == 0:
        raise UsageError(
            f"--input {given}: it has none of the columns of {place}; check that it has a header, its `sep`, and that {place} is meant"
        )


def _select_most_similar(spec: Spec, lake: Lake, names: Collection[str], files: tuple[SourceFile, ...], kind: str | None) -> list[str]:
    """Return the sources with the most columns in common with the first file; empty where its columns are unknown."""
    if not files:
        return []
    counts = {name: _count_common_columns(spec, lake, f"bronze.{name}", spec.pipeline.sources[name], files[0], kind) for name in names}
    most = max((count for count in counts.values() if count is not None), default=0)
    return [name for name, count in counts.items() if count == most] if most and None not in counts.values() else []


def _list_files(given: str) -> tuple[SourceFile, ...]:
    """List the local files; none for a remote file system."""
    path = Path(given)
    if (path / "_delta_log").is_dir():
        raise UsageError(
            f"--input {given} is the folder of a Delta table, whose files are not its rows; name the table, such as silver.flights"
        )
    if not path.exists() and _REMOTE.match(given) and not given.lower().startswith("file:"):
        return ()
    try:
        return list_files([str(path.absolute()) if path.exists() else given])
    except SourceError as error:
        folder = path.parent
        similar = did_you_mean(path.name, [each.name for each in folder.iterdir()]) if folder.is_dir() else ""
        raise UsageError(f"--input {given}: no such file, and not a table of the lake such as silver.flights{similar}") from error


def _check_table(lake: Lake, table: str) -> None:
    if lake.exists(table):
        return
    known = list_tables(lake)
    layer, _, noun = table.partition(".")
    nouns = {each.partition(".")[2]: each for each in known if each.startswith(f"{layer}.")} or {each: each for each in known}
    similar = [nouns[each] for each in get_close_matches(noun, nouns, n=1, cutoff=0.0)]
    hint = f"; did you mean {similar[0]!r}?" if similar else ";"
    known_tables = ", ".join(known[:_MAX_SHOWN]) + (", …" if len(known) > _MAX_SHOWN else "")
    raise UsageError(f"--input {table}: no such file, and no such table in {lake.root}{hint} It holds: {known_tables or 'no table yet'}")


def _read_suffix_kind(path: str) -> str | None:
    """Return the format by the suffix of a file name, None where it is unknown."""
    name = Path(path)
    suffix = Path(name.stem).suffix if name.suffix.lower() in PACKED else name.suffix
    kind = _kinds_by_suffix().get(suffix.lower())
    return None if kind is None else kind.name


def _kinds_by_suffix() -> dict[str, FileKind]:
    """Return the kinds of files by the suffix of the name."""
    kinds = [SOURCE_KINDS.get(name) for name in SOURCE_KINDS.names]
    return {suffix: kind for kind in kinds if isinstance(kind, FileKind) for suffix in kind.suffixes}


def is_of_family(name: str, kind: FileKind, folder: Path) -> bool:
    """Return True where sources of the format ``name`` read files of this kind."""
    other = SOURCE_KINDS.get(name, folder)
    return name == kind.name or (isinstance(other, FileKind) and bool(kind.family) and other.family == kind.family)


def _has_own_reader(spec: Spec, source: Source, kind: str | None) -> bool:
    """Return True where the source's own reader reads files of this kind; a format without suffixes reads all."""
    own = SOURCE_KINDS.get(source.format, spec.folder)
    if source.always_poll or not isinstance(own, FileKind):
        return False
    by_name = {each.name: each for each in _kinds_by_suffix().values()}
    return kind is None or own.name not in by_name or is_of_family(source.format, by_name[kind], spec.folder)


def _count_common_columns(spec: Spec, lake: Lake, table: str, source: Source, file: SourceFile, kind: str | None) -> int | None:
    """Return how many columns of the file the table has; None where the file's columns are unknown, or there is no table."""
    names = _read_column_names(spec, file, source, kind or source.format)
    if not names or not lake.exists(table):
        return None
    known = {field.name.lower() for field in lake.open(table).schema().fields}
    return len(known & {name.lower() for name in list_table_columns(names)})


def _read_column_names(spec: Spec, file: SourceFile, source: Source, kind: str) -> Sequence[str] | None:
    own, of_file = SOURCE_KINDS.get(source.format, spec.folder), SOURCE_KINDS.get(kind, spec.folder)
    if not isinstance(of_file, FileKind):
        return None
    try:
        if isinstance(own, FileKind) and is_of_family(source.format, of_file, spec.folder):
            return own.names_in(file, source)
        return of_file.names_in(file, None)
    except (TidemillError, OSError, EOFError, ValueError, LookupError, csv.Error, pa.ArrowException):
        return None  # reading the whole file reports the error
