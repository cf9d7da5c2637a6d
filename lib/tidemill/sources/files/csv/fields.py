"""Parse the fields of CSV lines, and find the rules that they break."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.columns import column
from tidemill.exact_cast import exact_date
from tidemill.quoting import quote_name
from tidemill.sources.files.csv.records import Quoting
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, has_nul, replace_invalid_bytes
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import IS_HEADER, RULES, Difference, no_rules
from tidemill.sources.schema.types import match_names

FIELDS = " fields"
CORRUPT = " corrupt"
_TEXT_OF = " word of "
_UNKNOWN = " unknown "
_FLOATING = (T.FloatType, T.DoubleType)
# Options of files, which do not apply to single lines.
_NOT_OF_A_LINE = ("header", "encoding", "lineSep", "multiLine", "comment")


@dataclass(frozen=True)
class Layout:
    """The fields of a line in order: the names in the file, and the columns of the schema that they match, or None.

    With ``is_inferred`` nobody declared the types, so a text that a number would not give back (``007``) does not fit. With
    ``has_date_format`` the source has a format for DATE, so Spark accepts nothing else.
    """

    schema: T.StructType
    names: tuple[str, ...]
    columns: tuple[str | None, ...]
    is_inferred: bool = False
    has_date_format: bool = False

    @classmethod
    def of(cls, names: Sequence[str], schema: T.StructType, *, is_inferred: bool = False, has_date_format: bool = False) -> Layout:
        """Return the layout of files with these names in their header; an empty name is replaced by its position, as in ``infer``."""
        named = [name or f"_c{place}" for place, name in enumerate(names)]
        return cls(schema, tuple(named), tuple(match_names(named, schema)), is_inferred, has_date_format)

    def type_of(self, place: int) -> T.DataType:
        """Return the type of the field at ``place``; unknown fields are strings."""
        name = self.columns[place]
        return T.StringType() if name is None else self.schema[name].dataType

    def field_name(self, place: int) -> str:
        """Return the name of a field while it is parsed, see ``field_names``."""
        return self.columns[place] or f"{_UNKNOWN}{place}"

    @property
    def field_names(self) -> list[str]:
        """The names of fields while they are parsed: the matching column's, or one that no column can have."""
        return [self.field_name(place) for place in range(len(self.columns))]

    @property
    def float_columns(self) -> list[str]:
        """The FLOAT and DOUBLE columns in the files."""
        return [part.name for part in self.schema.fields if isinstance(part.dataType, _FLOATING) and part.name in self.columns]

    @property
    def cut_columns(self) -> list[str]:
        """The columns whose values Spark would shorten: DECIMAL, and DATE without a format."""
        kinds = (T.DecimalType,) if self.has_date_format else (T.DecimalType, T.DateType)
        return [part.name for part in self.schema.fields if isinstance(part.dataType, kinds) and part.name in self.columns]

    @property
    def numeric_columns(self) -> list[str]:
        """The numeric columns in the files."""
        return [part.name for part in self.schema.fields if isinstance(part.dataType, T.NumericType) and part.name in self.columns]

    def select_schema(self) -> list[Column]:
        """Return the schema's columns in order; columns that are not in the files are null."""
        present = set(self.columns)
        return [
            column(part.name) if part.name in present else F.lit(None).cast(part.dataType).alias(part.name) for part in self.schema.fields
        ]

    def rescue_fields(self) -> Column:
        """Return the fields that are not in the schema as a JSON object, null without any."""
        unknown = [column(f"{_UNKNOWN}{place}").alias(self.names[place]) for place, name in enumerate(self.columns) if name is None]
        if not unknown:
            return F.lit(None).cast("string")
        return F.to_json(F.struct(*unknown), {"ignoreNullFields": "false"})

    def differences(self, files: Sequence[SourceFile]) -> list[Difference]:
        """Return the missing and the new columns of the files."""
        paths, present = tuple(file.path for file in files), set(self.columns)
        missing = [
            Difference("missing", part.name, paths, expected=part.dataType.simpleString())
            for part in self.schema.fields
            if part.name not in present
        ]
        new = [Difference("new", self.names[place], paths) for place, name in enumerate(self.columns) if name is None]
        return missing + new


def parse_fields(lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str) -> DataFrame:
    """Return the lines with a typed column per field, and ``CORRUPT``, null for lines that fit.

    Some columns are parsed as text first, which stays beside them (``field_text``): fractions, because Java reads ``1.5d`` as a number;
    DECIMAL, because Spark would round; DATE, because Spark would drop a time of day.
    """
    late_columns = {*layout.float_columns, *layout.cut_columns}
    kinds = [T.StringType() if name in late_columns else layout.type_of(place) for place, name in enumerate(layout.field_names)]
    base = (LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH, IS_HEADER)
    spread = lines.select(*base, parse_csv(layout.field_names, kinds, options, timezone).alias(FIELDS)).select(*base, f"`{FIELDS}`.*")
    if not late_columns:
        return spread
    values = [_value(name, layout.schema[name].dataType) if name in late_columns else column(name) for name in layout.field_names]
    texts = [column(name).alias(_TEXT_OF + name) for name in (*layout.float_columns, *layout.cut_columns)]
    return spread.select(*base, *values, *texts, CORRUPT)


def _value(name: str, kind: T.DataType) -> Column:
    """Return the number or date in the text of a column, null where it does not fit the type exactly."""
    if isinstance(kind, T.DateType):
        return exact_date(column(name)).alias(name)
    number = column(name).try_cast(kind)
    if isinstance(kind, T.DecimalType):
        number = F.when(~column(name).rlike(rf"\.\d{{{kind.scale}}}\d*[1-9]"), number)
    return number.alias(name)


def field_text(name: str) -> Column:
    """Return the text of a FLOAT or DOUBLE column, or of one of ``cut_columns``."""
    return column(_TEXT_OF + name)


def parse_as_strings(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return the line parsed into strings, whatever the types."""
    return parse_csv(layout.field_names, [T.StringType()] * len(layout.names), options, "UTC")


def parse_csv(
    names: Sequence[str], kinds: Sequence[T.DataType], options: Mapping[str, str], timezone: str, text: Column | None = None
) -> Column:
    """Return the struct that Spark parses from a line, or from ``text``; a line that does not fit is in ``CORRUPT``."""
    line_options = {name: value for name, value in options.items() if name not in _NOT_OF_A_LINE}
    columns = [f"{quote_name(name)} {kind.simpleString()}" for name, kind in zip(names, kinds, strict=True)]
    ddl = ", ".join([*columns, f"`{CORRUPT}` STRING"])
    parse = {**line_options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "timeZone": timezone}
    return F.from_csv(replace_invalid_bytes(F.col(LINE)) if text is None else text, ddl, parse)


# Java reads 1.5d, 2f and 0x1p3 as numbers, which no CSV file means.
JAVA_ONLY = "[dDfFxX]"
_IS_SUSPECT, _STRINGS, _NAMED_RULES = " is_suspect", " strings", " named_rules"
# A name in a JSON object. Possessive, and only where a name can begin, so that megabytes of text take linear time and no stack.
NAME = r'(?<=[{,])"([^"\\]*+(?:\\.[^"\\]*+)*+)":'
NOT_FINITE = NAME + '"(?:NaN|-?Infinity)"'
LEADING_ZERO = NAME + '" *[+-]?0[0-9][^"]*"'
# Texts with so many digits and points may have more digits than DOUBLE holds.
_MANY_DIGITS = "[0-9.]{17}"
JAVA_NUMBER = NAME + r'"[^"]*(?:[0-9.][dDfF]|0[xX][^"]*) *"'


def add_rules(parsed: DataFrame, layout: Layout, options: Mapping[str, str]) -> DataFrame:
    """Add ``RULES``, the rules that a line breaks (ARRAY<STRING>, empty for a valid line).

    Every line gets a cheap test; only suspect ones are parsed again, into strings, to name the rules. The rules of columns come from the
    names in a JSON text of the fields, so their number of expressions does not grow with the columns, and Spark can compile the path of
    valid lines into one loop.
    """
    checked = parsed.select("*", is_suspect(layout, options).alias(_IS_SUSPECT))
    with_strings = checked.select("*", F.when(F.col(_IS_SUSPECT), parse_as_strings(layout, options)).alias(_STRINGS))
    with_rules = with_strings.select(
        "*", F.when(F.col(_IS_SUSPECT), _list_broken_rules(layout, options)).otherwise(no_rules()).alias(_NAMED_RULES)
    )
    rules, is_corrupt = F.col(_NAMED_RULES), F.col(CORRUPT).isNotNull()
    # A line that Spark could not parse is never valid, even if no rule names the reason.
    return with_rules.select("*", F.when(is_corrupt & (F.size(rules) == 0), F.array(F.lit("unreadable"))).otherwise(rules).alias(RULES))


def is_suspect(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return true for a parsed line that may break a rule, false for a line that certainly breaks none."""
    line = F.col(LINE)
    signs = [F.col(CORRUPT).isNotNull(), F.col(HAS_INVALID_BYTES), has_nul(line), Quoting.of(options).is_unclosed(line)]
    float_columns, fractions = layout.float_columns, [*layout.float_columns, *layout.cut_columns]
    if float_columns:
        sizes = [F.abs(column(name)).cast("double") for name in float_columns]
        signs.append(F.coalesce(F.greatest(*sizes, F.lit(0.0)) >= float("inf"), F.lit(False)))
        signs.append(
            F.concat_ws(" ", *[field_text(name) for name in float_columns]).rlike(
                f"{JAVA_ONLY}|{_MANY_DIGITS}" if layout.is_inferred else JAVA_ONLY
            )
        )
    if fractions:
        texts, values = [field_text(name) for name in fractions], [column(name) for name in fractions]
        # A text that is no number or date has a null as its value.
        signs.append(_number_of_nulls(values) > _number_of_nulls(texts))
    if layout.is_inferred and layout.numeric_columns:
        signs.append(has_leading_zero(line, options))
    return F.coalesce(reduce(or_, signs), F.lit(True))


def has_leading_zero(line: Column, options: Mapping[str, str]) -> Column:
    """Return true for a line that may have a number with leading zeros such as ``007``."""
    return line.rlike(rf"(?:^|[{re.escape(options['sep'] + options['quote'])} ])[+-]?0[0-9]")


def _number_of_nulls(columns: list[Column]) -> Column:
    return F.size(F.array_remove(F.array(*[each.isNull() for each in columns]), False))


def _list_broken_rules(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return the rules that a suspect line breaks."""
    strings = F.col(_STRINGS)
    has_all_fields = strings[CORRUPT].isNull()
    none = no_rules()
    values = F.to_json(F.struct(*[column(name) for name in layout.field_names]))
    misfits = F.array_except(F.json_object_keys(F.to_json(strings)), F.json_object_keys(values))
    parts = list_line_rules(Quoting.of(options), has_all_fields)
    casts, infinite = misfits, none
    if layout.float_columns:
        texts = F.to_json(F.struct(*[field_text(name).alias(name) for name in layout.float_columns]))
        casts = F.array_distinct(F.concat(misfits, F.regexp_extract_all(texts, F.lit(JAVA_NUMBER), F.lit(1))))
        casts = F.array_union(casts, _list_rounded_columns(layout)) if layout.is_inferred else casts
        numbers = F.to_json(F.struct(*[column(name) for name in layout.float_columns]))
        infinite = F.regexp_extract_all(numbers, F.lit(NOT_FINITE), F.lit(1))
    if layout.is_inferred and layout.numeric_columns:
        with_zeros = F.regexp_extract_all(F.to_json(strings), F.lit(LEADING_ZERO), F.lit(1))
        casts = F.array_union(casts, F.array_intersect(with_zeros, F.array(*[F.lit(name) for name in layout.numeric_columns])))
    parts.append(F.when(has_all_fields, add_prefix("cast:", casts)).otherwise(none))
    parts.append(add_prefix("not_finite:", infinite))
    return F.concat(*parts)


def list_line_rules(quoting: Quoting, has_all_fields: Column) -> list[Column]:
    """Return an array for each rule about the line as a whole: with its name where the line breaks it, else empty."""
    line = F.col(LINE)
    conditions = {
        "invalid_bytes": F.col(HAS_INVALID_BYTES),
        "nul": has_nul(line),
        "unclosed_quote": quoting.is_unclosed(line),
        "field_count": ~has_all_fields,
    }
    return [F.when(is_broken, F.array(F.lit(name))).otherwise(no_rules()) for name, is_broken in conditions.items()]


def _list_rounded_columns(layout: Layout) -> Column:
    """Return the names of float columns whose text has more digits than the number."""
    rounded_columns = []
    for name in layout.float_columns:
        text, number = field_text(name), column(name).cast("string")
        differs = [text.try_cast(kind) != number.try_cast(kind) for kind in ("decimal(38,18)", "decimal(38,0)")]
        is_rounded = text.rlike(_MANY_DIGITS) & F.coalesce(differs[0], differs[1], F.lit(False))
        rounded_columns.append(F.when(is_rounded, F.lit(name)))
    return F.array_compact(F.array(*rounded_columns))


def add_prefix(prefix: str, names: Column) -> Column:
    """Prefix each of the names."""
    gap = "\x1f"
    joined = F.concat(F.lit(prefix), F.array_join(names, gap + prefix))
    return F.when(F.size(names) > 0, F.split(joined, gap)).otherwise(no_rules())
