"""The kinds of sources by name: built-in ones, entry points, and dotted Python paths."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pyspark.sql import SparkSession
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource

from tidemill.errors import UsageError, did_you_mean
from tidemill.sources.files import SourceFile
from tidemill.sources.records import Extract, Records
from tidemill.spec.code import load_object
from tidemill.spec.models import Source

BUILT_IN = {
    "avro": "tidemill.sources.avro.AvroFiles",
    "binaryFile": "tidemill.sources.binary.BinaryFiles",
    "csv": "tidemill.sources.csv.CsvFiles",
    "delta": "tidemill.sources.delta.DeltaRows",
    "jdbc": "tidemill.sources.jdbc.JdbcQuery",
    "json": "tidemill.sources.json.JsonFiles",
    "kafka": "tidemill.sources.kafka.KafkaTopics",
    "orc": "tidemill.sources.orc.OrcFiles",
    "parquet": "tidemill.sources.parquet.ParquetFiles",
    "text": "tidemill.sources.text.TextFiles",
    "tsv": "tidemill.sources.csv.CsvFiles",
    "xml": "tidemill.sources.xml.XmlFiles",
}
ENTRY_POINTS = "tidemill.sources"


class SourceKind(Protocol):
    """A way to read files. A new kind is one class with these two methods, registered under its name; no neighbour changes.

    A kind whose columns show in the records alone (JSON, XML), and not in a header or footer of each file, says so with the attribute
    ``tells_columns_by_record = True``; any other reports new and missing columns as ``Records.differences``.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns and types that all records of the files fit."""
        ...

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return a row for every physical record of the files; what Spark meets while reading is raised when the frame is used."""
        ...


@runtime_checkable
class QueryKind(Protocol):
    """A way to read what has no files: a database, a topic, a table. It is asked for what lies behind a position.

    A kind that tells more of each record than a declared schema says has a method ``completed(source, schema)``, which returns the
    schema with its own columns added.
    """

    def infer(self, spark: SparkSession, source: Source) -> T.StructType:
        """Return the columns and types of the records."""
        ...

    def extract(self, spark: SparkSession, source: Source, schema: T.StructType, since: str | None) -> Extract:
        """Return the records behind ``since``, the ``position`` of the extract before; None reads all of them.

        The extract is fixed when this returns: rows that arrive later are not in it, however often its frame is computed.
        """
        ...


def source_kind(name: str, folder: Path | None = None) -> SourceKind | QueryKind:
    """Return the reader of a ``format``; a dotted name is looked up in ``folder``, the spec's, then among installed modules.

    Raises:
        UsageError: no kind has this name.
    """
    dotted = BUILT_IN.get(name) or next((point.value.replace(":", ".") for point in entry_points(group=ENTRY_POINTS, name=name)), name)
    module, _, attribute = dotted.rpartition(".")
    if not module:
        raise UsageError(f"no kind of source is called {name!r}{did_you_mean(name, BUILT_IN)}; known: {', '.join(BUILT_IN)}")
    try:
        is_users = dotted == name and folder is not None
        found: Any = load_object(folder, dotted) if is_users and folder is not None else getattr(import_module(module), attribute)
        if isinstance(found, type) and issubclass(found, DataSource):
            from tidemill.sources.data_source import DataSourceRows

            return DataSourceRows(found)
        kind: SourceKind | QueryKind = found()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"format {name!r} cannot be loaded: {error}; give a built-in name or the dotted path of a class") from error
    return kind
