"""Tables and columns so plain that Spark and delta-rs write the same of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable, TableFeatures

from tidemill.lake.delta_log import has_table, open_table

if TYPE_CHECKING:
    from pyspark.sql import types as T


# A table with columns of its own making, with rules about its files or its readers: Spark writes those itself.
_HARMLESS = {"delta.checkpointInterval", "delta.logRetentionDuration", "delta.deletedFileRetentionDuration"}
_FEATURES = {"timestampNtz"}
_PLAIN = {"boolean", "byte", "short", "integer", "long", "float", "double", "string", "binary", "date", "timestamp", "timestamp_ntz"}


def is_plain(kind: str | Mapping[str, Any]) -> bool:
    """Return True for a type that any writer of the table's protocol knows."""
    if isinstance(kind, str):
        return kind in _PLAIN or kind.startswith("decimal(")
    if kind["type"] == "struct":
        return all(is_plain(field["type"]) for field in kind["fields"])
    inner = [kind["elementType"]] if kind["type"] == "array" else [kind["keyType"], kind["valueType"]]
    return all(is_plain(each) for each in inner)


def is_plain_table(table: DeltaTable) -> bool:
    """Return True for a table that takes files from any writer: nothing is asked of them beyond the schema."""
    protocol, metadata = table.protocol(), table.metadata()
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    is_old = protocol.min_reader_version == 1 and protocol.min_writer_version <= 2
    return (is_old or features <= _FEATURES) and not metadata.partition_columns and set(metadata.configuration) <= _HARMLESS


def let_hold(path: str, schema: T.StructType) -> None:
    """Let the table at ``path``, where there is one, hold such columns: times without a zone are a feature that Delta wants asked for."""
    if '"timestamp_ntz"' not in schema.json() or not has_table(path):
        return
    table = open_table(path, path)
    if "timestampNtz" not in (table.protocol().writer_features or ()):
        table.alter.add_feature([TableFeatures.TimestampWithoutTimezone], allow_protocol_versions_increase=True)


def nullable(kind: Any) -> Any:
    """Return a type, as JSON, in which everything may be null and nothing is remarked, as Spark writes the schema of a table."""
    if isinstance(kind, list):
        return [nullable(each) for each in kind]
    if not isinstance(kind, dict):
        return kind
    free = {"nullable": True, "containsNull": True, "valueContainsNull": True, "metadata": {}}
    return {name: free.get(name, nullable(value)) for name, value in kind.items()}
