"""A CSV line as fields: where each column of the schema stands in a file, and the line parsed accordingly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.sources.files import SourceFile
from tidemill.sources.lines import LINE, legible
from tidemill.sources.schemas import matched_names

FIELDS = "_fields"
TOKENS = "_tokens"
CORRUPT = "_corrupt"
_FLOATING = (T.FloatType, T.DoubleType)
# Options of the file, which mean nothing to a single line.
_NOT_OF_A_LINE = ("header", "encoding", "lineSep", "multiLine", "comment")


@dataclass(frozen=True)
class Layout:
    """The fields of a line, in order: the name in the file, the schema's column it means (or None), and its type."""

    schema: T.StructType
    names: tuple[str, ...]
    columns: tuple[str | None, ...]

    @classmethod
    def of(cls, names: Sequence[str], schema: T.StructType) -> Layout:
        """Return the layout of files with these names in their header."""
        return cls(schema, tuple(names), tuple(matched_names(names, schema)))

    def type_of(self, place: int) -> T.DataType:
        """Return the type of the field at ``place``; unknown fields are strings."""
        name = self.columns[place]
        return T.StringType() if name is None else self.schema[name].dataType

    def places(self, *kinds: type[T.DataType]) -> list[int]:
        """Return the places of the schema's columns of these types."""
        return [place for place, name in enumerate(self.columns) if name is not None and isinstance(self.type_of(place), kinds)]

    @property
    def typed_places(self) -> list[int]:
        """The places of the schema's columns whose text may not fit their type."""
        return [place for place, name in enumerate(self.columns) if name is not None and not isinstance(self.type_of(place), T.StringType)]

    @property
    def floating_places(self) -> list[int]:
        """The places of FLOAT and DOUBLE columns."""
        return self.places(*_FLOATING)

    def selected(self, fields: Column) -> list[Column]:
        """Return the schema's columns, in its order, from a struct of fields; one that the files lack is null."""
        found = {name: fields[f"c{place}"] for place, name in enumerate(self.columns) if name is not None}
        return [found.get(part.name, F.lit(None)).cast(part.dataType).alias(part.name) for part in self.schema.fields]

    def rescued(self, fields: Column) -> Column:
        """Return the fields that the schema lacks as a JSON object, null where there is none."""
        unknown = [fields[f"c{place}"].alias(self.names[place]) for place, name in enumerate(self.columns) if name is None]
        if not unknown:
            return F.lit(None).cast("string")
        return F.to_json(F.struct(*unknown), {"ignoreNullFields": "false"})

    def notes(self, files: Sequence[SourceFile]) -> list[str]:
        """Return remarks on columns that the files lack or have beyond the schema."""
        where = files[0].path + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        missing = [name for name in self.schema.names if name not in self.columns]
        unknown = [self.names[place] for place, name in enumerate(self.columns) if name is None]
        notes = [f"{where}: no column {', '.join(missing)}; null there"] if missing else []
        return notes + ([f"{where}: unknown column {', '.join(unknown)}; kept in _rescued"] if unknown else [])


def parsed_fields(lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str) -> DataFrame:
    """Return the lines with ``_fields``, the line parsed into typed columns ``c0``, ``c1`` … and ``_corrupt`` (null: it fits)."""
    typed = [T.StructField(f"c{place}", layout.type_of(place)) for place in range(len(layout.names))]
    parse = from_csv(T.StructType([*typed, T.StructField(CORRUPT, T.StringType())]), options, timezone)
    return lines.withColumn(FIELDS, parse)


def tokens(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return the line parsed into strings: what stands in a field, whatever its type."""
    plain = [T.StructField(f"c{place}", T.StringType()) for place in range(len(layout.names))]
    return from_csv(T.StructType([*plain, T.StructField(CORRUPT, T.StringType())]), options, "UTC")


def from_csv(schema: T.StructType, options: Mapping[str, str], timezone: str) -> Column:
    """Return the struct that Spark parses from a line; a line that does not fit is in ``_corrupt``."""
    kept = {name: value for name, value in options.items() if name not in _NOT_OF_A_LINE}
    ddl = ", ".join(f"{part.name} {part.dataType.simpleString()}" for part in schema.fields)
    return F.from_csv(legible(F.col(LINE)), ddl, {**kept, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "timeZone": timezone})
