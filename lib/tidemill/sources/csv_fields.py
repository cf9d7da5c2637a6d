"""A CSV line as fields: where each column of the schema stands in a file, and the line parsed accordingly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.columns import column
from tidemill.exact_cast import exact_date
from tidemill.lake.names import quoted
from tidemill.sources.files import SourceFile
from tidemill.sources.lines import HAS_INVALID_BYTES, LINE, legible
from tidemill.sources.records import IS_HEADER, Difference
from tidemill.sources.schemas import matched_names

FIELDS = " fields"
CORRUPT = " corrupt"
_WORD = " word of "
_UNKNOWN = " unknown "
_FLOATING = (T.FloatType, T.DoubleType)
# Options of the file, which mean nothing to a single line.
_NOT_OF_A_LINE = ("header", "encoding", "lineSep", "multiLine", "comment")


@dataclass(frozen=True)
class Layout:
    """The fields of a line, in order: the name in the file, the schema's column it means (or None), and its type.

    ``is_inferred`` says that nobody declared the types, so that a value which a number would not give back (``007``) does not fit it.
    ``has_date_format`` says that the source tells how a DATE is written, so that nothing else is taken for one.
    """

    schema: T.StructType
    names: tuple[str, ...]
    columns: tuple[str | None, ...]
    is_inferred: bool = False
    has_date_format: bool = False

    @classmethod
    def of(cls, names: Sequence[str], schema: T.StructType, *, is_inferred: bool = False, has_date_format: bool = False) -> Layout:
        """Return the layout of files with these names in their header; one that is empty is told by its place, as ``infer`` does."""
        named = [name or f"_c{place}" for place, name in enumerate(names)]
        return cls(schema, tuple(named), tuple(matched_names(named, schema)), is_inferred, has_date_format)

    def type_of(self, place: int) -> T.DataType:
        """Return the type of the field at ``place``; unknown fields are strings."""
        name = self.columns[place]
        return T.StringType() if name is None else self.schema[name].dataType

    def fields_at(self, place: int) -> str:
        """Return the name of a field on the way, see ``fields``."""
        return self.columns[place] or f"{_UNKNOWN}{place}"

    @property
    def fields(self) -> list[str]:
        """The name of each field on the way: its column's, or one that no column can have."""
        return [self.fields_at(place) for place in range(len(self.columns))]

    @property
    def floating(self) -> list[str]:
        """The FLOAT and DOUBLE columns that the files have."""
        return [part.name for part in self.schema.fields if isinstance(part.dataType, _FLOATING) and part.name in self.columns]

    @property
    def cut_by_spark(self) -> list[str]:
        """The columns of which Spark would cut something off: DECIMAL, and DATE where no format is given."""
        kinds = (T.DecimalType,) if self.has_date_format else (T.DecimalType, T.DateType)
        return [part.name for part in self.schema.fields if isinstance(part.dataType, kinds) and part.name in self.columns]

    @property
    def numbers(self) -> list[str]:
        """The columns of numbers that the files have."""
        return [part.name for part in self.schema.fields if isinstance(part.dataType, T.NumericType) and part.name in self.columns]

    def selected(self) -> list[Column]:
        """Return the schema's columns, in its order; one that the files lack is null."""
        found = set(self.columns)
        return [
            column(part.name) if part.name in found else F.lit(None).cast(part.dataType).alias(part.name) for part in self.schema.fields
        ]

    def rescued(self) -> Column:
        """Return the fields that the schema lacks as a JSON object, null where there is none."""
        unknown = [column(f"{_UNKNOWN}{place}").alias(self.names[place]) for place, name in enumerate(self.columns) if name is None]
        if not unknown:
            return F.lit(None).cast("string")
        return F.to_json(F.struct(*unknown), {"ignoreNullFields": "false"})

    def differences(self, files: Sequence[SourceFile]) -> list[Difference]:
        """Return the columns that the files lack, and those they have beyond the schema."""
        paths, found = tuple(file.path for file in files), set(self.columns)
        missing = [
            Difference("missing", part.name, paths, expected=part.dataType.simpleString())
            for part in self.schema.fields
            if part.name not in found
        ]
        new = [Difference("new", self.names[place], paths) for place, name in enumerate(self.columns) if name is None]
        return missing + new


def parsed_fields(lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str) -> DataFrame:
    """Return the lines with a column for every field, typed, and ``CORRUPT`` (null: the line fits).

    Fractions come as text first, in a ``word`` beside them, because Java takes ``1.5d`` for a number and the text tells; so do decimals,
    because Spark would round one that has more digits than its type, and dates, because it would leave out a time of day behind one.
    """
    floating = {*layout.floating, *layout.cut_by_spark}
    kinds = [T.StringType() if name in floating else layout.type_of(place) for place, name in enumerate(layout.fields)]
    base = (LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH, IS_HEADER)
    spread = lines.select(*base, from_csv(layout.fields, kinds, options, timezone).alias(FIELDS)).select(*base, f"`{FIELDS}`.*")
    if not floating:
        return spread
    numbers = [_value(name, layout.schema[name].dataType) if name in floating else column(name) for name in layout.fields]
    words = [column(name).alias(_WORD + name) for name in (*layout.floating, *layout.cut_by_spark)]
    return spread.select(*base, *numbers, *words, CORRUPT)


def _value(name: str, kind: T.DataType) -> Column:
    """Return the number or date that the text of a column is, null where it is none of this type."""
    if isinstance(kind, T.DateType):
        return exact_date(column(name)).alias(name)
    number = column(name).try_cast(kind)
    if isinstance(kind, T.DecimalType):
        number = F.when(~column(name).rlike(rf"\.\d{{{kind.scale}}}\d*[1-9]"), number)
    return number.alias(name)


def word(name: str) -> Column:
    """Return the text of a column that is FLOAT, DOUBLE or ``cut_by_spark``."""
    return column(_WORD + name)


def tokens(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return the line parsed into strings: what stands in a field, whatever its type."""
    return from_csv(layout.fields, [T.StringType()] * len(layout.names), options, "UTC")


def from_csv(
    names: Sequence[str], kinds: Sequence[T.DataType], options: Mapping[str, str], timezone: str, text: Column | None = None
) -> Column:
    """Return the struct that Spark parses from a line, or from ``text``; one that does not fit is in ``CORRUPT``."""
    kept = {name: value for name, value in options.items() if name not in _NOT_OF_A_LINE}
    fields = [f"{quoted(name)} {kind.simpleString()}" for name, kind in zip(names, kinds, strict=True)]
    ddl = ", ".join([*fields, f"`{CORRUPT}` STRING"])
    parse = {**kept, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "timeZone": timezone}
    return F.from_csv(legible(F.col(LINE)) if text is None else text, ddl, parse)
