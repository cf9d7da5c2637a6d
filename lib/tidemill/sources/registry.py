"""The kinds of sources by name: built-in ones, entry points, and dotted Python paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pyspark.sql import SparkSession
from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource

from tidemill.errors import SetupError, UsageError, did_you_mean
from tidemill.runtime.user_code import load_object
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import Extract, Records
from tidemill.spec.models import Source

_BY_URL = {"jdbc:postgresql:": "postgresql", "jdbc:sqlite:": "sqlite"}


def needed_connectors(sources: Iterable[Source]) -> tuple[str, ...]:
    """Return the names of the connectors (``jars.CONNECTORS``) that these sources need, in order, each once."""
    return tuple(dict.fromkeys(name for name in map(connector, sources) if name is not None))


def connector(source: Source) -> str | None:
    """Return the connector that a source needs, None for one that Spark reads by itself or whose driver tidemill does not bring."""
    if source.format == "kafka":
        return "kafka"
    if source.format != "jdbc" or source.url is None:
        return None
    return next((name for start, name in _BY_URL.items() if source.url.lower().startswith(start)), None)


def not_there(what: str, name: str | None) -> SetupError:
    """Return the error that a connector's jars are not on the class path of a Java that runs already."""
    if name is None:
        return SetupError(f"{what}: Spark has no driver for it; pass its jar to spark-submit by --jars, and give `options: {{driver: …}}`")
    return SetupError(
        f"{what}: the Spark that runs has no connector {name!r}; run `python -m tidemill.runtime.spark_home --with {name}` "
        "and start again, or give spark-submit its jars by --packages"
    )


BUILT_IN = {
    "avro": "tidemill.sources.files.avro.reader.AvroFiles",
    "binaryFile": "tidemill.sources.files.text.BinaryFiles",
    "csv": "tidemill.sources.files.csv.reader.CsvFiles",
    "delta": "tidemill.sources.delta.DeltaRows",
    "jdbc": "tidemill.sources.jdbc.reader.JdbcQuery",
    "json": "tidemill.sources.files.json.reader.JsonFiles",
    "kafka": "tidemill.sources.kafka.reader.KafkaTopics",
    "orc": "tidemill.sources.files.columnar.orc.OrcFiles",
    "parquet": "tidemill.sources.files.columnar.parquet.ParquetFiles",
    "text": "tidemill.sources.files.text.TextFiles",
    "tsv": "tidemill.sources.files.csv.reader.CsvFiles",
    "xml": "tidemill.sources.files.xml.reader.XmlFiles",
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
