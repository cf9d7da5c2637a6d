"""The kinds of sources (``format:``): what each declares, and the registry of them. Nothing here imports Spark.

A kind is one class. It declares its options and its rules for the spec, whether it reads files, its columns as far as they are known
without Spark, and the connector that it needs; its reader is imported when the first source of the kind is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from tidemill.errors import did_you_mean
from tidemill.extensions import Registry, import_attribute
from tidemill.spec.loading.document import Node

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql import types as T

    from tidemill.sources.files.listing import SourceFile
    from tidemill.sources.records import Extract, Records
    from tidemill.spec.models.sources import Source


Faults = Iterator[tuple[tuple[str, ...], str]]
"""Keys below the source, and messages."""

UNRESOLVED = object()
"""Marks a value whose variables are not known yet; rules about values skip it."""

_DATABASE_KEYS = ("url", "table", "query", "user", "password")
_KEYS_OF_OPTIONS = {"url": "url", "dbtable": "table", "query": "query", "user": "user", "password": "password", "path": "path"}


@dataclass(frozen=True)
class DeclaredSource:
    """A source as it is declared.

    ``keys`` has the keys with a value. ``options`` has the options by their names in lower case: the name as written, and the value,
    `UNRESOLVED` if a variable is not known yet.
    """

    format: str
    keys: Mapping[str, object]
    options: Mapping[str, tuple[str, object]]

    @classmethod
    def of_node(cls, node: Node) -> DeclaredSource:
        """Return a source of a spec that may have other faults."""

        def value_of(part: Node) -> object:
            return UNRESOLVED if part.is_open else part.plain()

        keys = {key: value_of(part) for key, part in node.mapping.items() if part.value is not None and part.value != ""}
        options = {name.lower(): (name, value_of(part)) for name, part in node.entries_at("options").items()}
        return cls(node.string_at("format") or "", keys, options)

    @classmethod
    def of(cls, source: Source) -> DeclaredSource:
        """Return a source of a valid spec."""
        keys = {key: value for key, value in source.model_dump(by_alias=True).items() if value not in (None, "")}
        return cls(source.format, keys, {name.lower(): (name, value) for name, value in source.options.items()})

    def text(self, key: str) -> str | None:
        """Return the value of a key if it is text without unknown variables."""
        value = self.keys.get(key)
        return value if isinstance(value, str) else None

    @property
    def is_incremental(self) -> bool:
        """True for ``load: incremental``."""
        return self.text("load") == "incremental"


class SourceKind:
    """Base class of all kinds of sources; a kind derives from `FileKind` or `QueryKind`."""

    reads_files: bool
    """Whether its records are those of files that can be listed; any other source is polled at each run."""
    needs_path: bool = False
    """Whether ``path:`` is required."""
    adds_columns: bool = False
    """Whether its records have more columns than ``schema:`` declares."""
    gives_raw_text: bool = False
    """Whether its reader gives the raw text of each record; else a JSON object of the record is stored."""
    option_names: tuple[str, ...] = ()
    """The options that it accepts, in the reader's spelling."""
    options_model: type[BaseModel] | None = None
    """A model that validates ``options:``, for kinds that check the values too."""
    reader: str = ""
    """The class that reads the records, as ``module:Class``; empty for a kind that reads them itself."""

    def __init__(self, name: str) -> None:
        """Take the name under which the kind is known."""
        self.name = name

    def faults(self, source: DeclaredSource) -> Faults:
        """Yield faults of the declaration; each names a key below the source."""
        if self.options_model is not None:
            yield from _model_faults(self.options_model, source)

    def connector(self, source: Source) -> str | None:
        """Return the connector (``spark_home.CONNECTORS``) that the source needs; None for one that Spark reads by itself."""
        return None

    def known_columns(self, source: Source) -> Mapping[str, str | None] | None:
        """Return the source's columns and their SQL types (None: not known), read without Spark; None if only a run can find them.

        The caller ignores exceptions for unreadable files: the run reports them.
        """
        return None

    def _reader(self) -> Any:
        return import_attribute(self.reader)()


class FileKind(SourceKind):
    """A kind of file: each file is listed, read once, and accounted for."""

    reads_files = True
    needs_path = True
    suffixes: tuple[str, ...] = ()
    """The file name suffixes of this kind, for `tidemill score --input`."""
    family: str = ""
    """Kinds of one family read each other's files; empty: the kind is a family of its own."""
    is_text: bool = False
    """Whether a file is text, so that compressions which Spark reads with losses are refused."""
    has_types: bool = False
    """Whether a file declares the types of its columns."""
    takes_empty_files: bool = False
    """Whether an empty file is valid."""
    tells_columns_by_record: bool = False
    """Whether only records have columns (JSON, XML); other kinds report new and missing columns per file."""
    reads_dates_loosely: bool = False
    """Whether trailing text of a DATE is ignored."""
    rounds_decimals: bool = False
    """Whether a DECIMAL is rounded to its scale when it is read."""

    def faults(self, source: DeclaredSource) -> Faults:
        """Yield faults of the declaration of a file source."""
        yield from super().faults(source)
        if self.needs_path:
            yield from file_faults(source)

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns and types that all records of the files fit."""
        types: T.StructType = self._reader().infer(spark, source, files)
        return types

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return a row for every physical record of the files; errors of Spark while reading are raised when the frame is used."""
        records: Records = self._reader().read(spark, source, files, schema)
        return records

    def names_in(self, file: SourceFile, source: Source | None) -> Sequence[str] | None:
        """Return the column names of one file on this machine, read without Spark; None if it does not have them.

        ``source`` is the one whose reader would read the file; None if there is none.
        """
        return None

    def options_of_input(self, file: SourceFile, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``options`` of a source as `tidemill score --input` reads this file with them."""
        return dict(options)

    def options_without_source(self, file: SourceFile, declared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the options for a file that no source of its family reads; ``declared`` are those of the pipeline's sources of it."""
        return self.options_of_input(file, {})


class QueryKind(SourceKind):
    """A kind of source without files of its own: a database, a topic, a table. It is queried for records after a position."""

    reads_files = False

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the columns and types of the records."""
        types: T.StructType = self._reader().infer(spark, source)
        return types

    def complete_schema(self, source: Source, schema: T.StructType) -> T.StructType:
        """Return a declared schema with the columns added that all records of this kind have."""
        return schema

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the records after ``since``, the ``position`` of the previous extract; None reads all of them.

        The extract is fixed when this returns: later rows are not in it, however often its frame is computed.
        """
        extract: Extract = self._reader().extract(spark, source, schema, since)
        return extract


def file_faults(source: DeclaredSource) -> Faults:
    """Yield the faults of a source that reads ``path:`` and has neither a watermark nor a database."""
    if "path" not in source.keys:
        yield ("path",), f"missing; `format: {source.format}` reads files, so give `path:` (globs are fine)"
    for key in ("watermark", "overlap"):
        if key in source.keys:
            yield (key,), f"means nothing to `format: {source.format}`, where `load: incremental` takes what is new; leave it out"
    for key in _DATABASE_KEYS:
        if key in source.keys:
            yield (key,), f"means nothing to `format: {source.format}`, which reads `path:`; leave it out"


def option_name_faults(source: DeclaredSource, known: Collection[str]) -> Faults:
    """Yield a fault for each option that is unknown, or that belongs to the source's own keys."""
    spelling = {name.lower() for name in known}
    for name, (written, _) in source.options.items():
        if name in _KEYS_OF_OPTIONS:
            yield ("options", written), f"write `{_KEYS_OF_OPTIONS[name]}:` beside `format:`"
        elif name not in spelling:
            near = did_you_mean(written, known)
            yield ("options", written), f"unknown option of {source.format}{near}; known: {', '.join(sorted(known))}"


def _model_faults(model: type[BaseModel], source: DeclaredSource) -> Faults:
    """Yield the faults that an options model reports for options with known values."""
    try:
        model.model_validate({written: value for written, value in source.options.values() if value is not UNRESOLVED})
    except ValidationError as error:
        unresolved = {written for written, value in source.options.values() if value is UNRESOLVED}
        for part in error.errors(include_url=False):
            place = tuple(map(str, part["loc"]))
            if not place or place[0] not in unresolved:
                yield ("options", *place), str(part["msg"])


def _accept(name: str, definition: Any) -> SourceKind:
    if isinstance(definition, type) and issubclass(definition, SourceKind):
        return definition(name)
    # A class that only reads: the package of the readers knows the interfaces that it may have.
    kind: SourceKind = import_module("tidemill.sources.tables").wrap_source_class(name, definition)
    return kind


SOURCE_KINDS: Registry[SourceKind] = Registry(
    "source format",
    "tidemill.sources",
    {
        "csv": "tidemill.sources.files.csv:Csv",
        "tsv": "tidemill.sources.files.csv:Tsv",
        "json": "tidemill.sources.files.json:Json",
        "parquet": "tidemill.sources.files.columnar:Parquet",
        "orc": "tidemill.sources.files.columnar:Orc",
        "avro": "tidemill.sources.files.columnar:Avro",
        "xml": "tidemill.sources.files.xml:Xml",
        "text": "tidemill.sources.kinds:Text",
        "binaryFile": "tidemill.sources.kinds:BinaryFile",
        "delta": "tidemill.sources.kinds:Delta",
        "jdbc": "tidemill.sources.jdbc:Jdbc",
        "kafka": "tidemill.sources.kafka:Kafka",
    },
    _accept,
)
