"""The source kinds ``parquet``, ``orc`` and ``avro``, whose files have types. Only the readers import Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tidemill.spec.models.source_kinds import FileKind

if TYPE_CHECKING:
    from tidemill.sources.files.listing import SourceFile
    from tidemill.spec.models import Source


_SQL_TYPES = {
    "bool": "boolean", "int8": "byte", "int16": "short", "int32": "integer", "int64": "long", "float": "float", "double": "double",
    "string": "string", "large_string": "string", "date32[day]": "date", "timestamp[us]": "timestamp_ntz",
    "timestamp[us, tz=UTC]": "timestamp",
}  # fmt: skip
"""The SQL types of Arrow types that Spark reads unchanged."""


class Parquet(FileKind):
    """Parquet files."""

    reader = "tidemill.sources.files.columnar.parquet_orc:ParquetFiles"
    gives_raw_text = True
    suffixes = (".parquet",)
    has_types = True
    option_names = ("datetimeRebaseMode", "int96RebaseMode")

    def known_columns(self, source: Source) -> Mapping[str, str | None] | None:
        """Return the columns in the footers, with a type where all files agree."""
        import pyarrow.parquet as pq

        from tidemill.sources.files.listing import list_few_local_files

        types: dict[str, str | None] = {}
        for file in list_few_local_files(source):
            for part in pq.read_schema(file.readable):
                name = _SQL_TYPES.get(str(part.type))
                types[part.name] = name if types.get(part.name, name) == name else None
        return types or None

    def names_in(self, file: SourceFile, source: Source | None) -> Sequence[str]:
        """Return the names in the footer of a file."""
        import pyarrow.parquet as pq

        return list(pq.read_schema(file.readable).names)


class Orc(FileKind):
    """ORC files."""

    reader = "tidemill.sources.files.columnar.parquet_orc:OrcFiles"
    gives_raw_text = True
    suffixes = (".orc",)
    has_types = True

    def known_columns(self, source: Source) -> Mapping[str, str | None] | None:
        """Return the columns in the footers."""
        from pyarrow import orc

        from tidemill.sources.files.listing import list_few_local_files, merge_column_names

        return merge_column_names(list_few_local_files(source), lambda file: orc.ORCFile(file.readable).schema.names)


class Avro(FileKind):
    """Avro container files."""

    reader = "tidemill.sources.files.columnar.avro:AvroFiles"
    gives_raw_text = True
    suffixes = (".avro",)
    has_types = True
