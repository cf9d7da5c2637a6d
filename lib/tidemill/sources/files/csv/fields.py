"""Which rules a parsed CSV line breaks."""

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
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, has_nul, legible
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.records import IS_HEADER, RULES, Difference, no_rules
from tidemill.sources.schema.types import matched_names

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
    fields = [f"{quote_name(name)} {kind.simpleString()}" for name, kind in zip(names, kinds, strict=True)]
    ddl = ", ".join([*fields, f"`{CORRUPT}` STRING"])
    parse = {**kept, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "timeZone": timezone}
    return F.from_csv(legible(F.col(LINE)) if text is None else text, ddl, parse)


# Java reads 1.5d, 2f and 0x1p3 as numbers; nobody who writes CSV means that.
JAVA_ONLY = "[dDfFxX]"
_IS_ODD, _TOKENS, _NAMED = " is_odd", " tokens", " named"
# A name in a JSON object. Possessive, and only behind what comes before one: megabytes of text take linear time and no stack.
NAME = r'(?<=[{,])"([^"\\]*+(?:\\.[^"\\]*+)*+)":'
NOT_FINITE = NAME + '"(?:NaN|-?Infinity)"'
LEADING_ZERO = NAME + '" *[+-]?0[0-9][^"]*"'
# So many digits and a point may be more than a double holds.
_LONG = "[0-9.]{17}"
NUMBER_OF_JAVA = NAME + r'"[^"]*(?:[0-9.][dDfF]|0[xX][^"]*) *"'


def with_rules(parsed: DataFrame, layout: Layout, options: Mapping[str, str]) -> DataFrame:
    """Return the parsed lines with ``RULES``: the rules that a line breaks as ``ARRAY<STRING>``, empty for a good one.

    Whether anything is odd is asked of every line; only the odd ones are parsed once more, into strings, to tell what it is. The
    rules of columns are told by the names in a JSON of the fields, so that thirty thousand columns need no more expressions than
    three; and no expression here keeps Spark from compiling the whole path of a good line into one loop.
    """
    odd = parsed.select("*", is_odd(layout, options).alias(_IS_ODD))
    worded = odd.select("*", F.when(F.col(_IS_ODD), tokens(layout, options)).alias(_TOKENS))
    judged = worded.select("*", F.when(F.col(_IS_ODD), _rules(layout, options)).otherwise(no_rules()).alias(_NAMED))
    named, is_corrupt = F.col(_NAMED), F.col(CORRUPT).isNotNull()
    # A line that Spark gave up on is never good, even where no rule says why.
    return judged.select("*", F.when(is_corrupt & (F.size(named) == 0), F.array(F.lit("unreadable"))).otherwise(named).alias(RULES))


def is_odd(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return true for a parsed line that may break a rule, false for one that breaks none."""
    line = F.col(LINE)
    signs = [F.col(CORRUPT).isNotNull(), F.col(HAS_INVALID_BYTES), has_nul(line), Quoting.of(options).is_unclosed(line)]
    floating, fractions = layout.floating, [*layout.floating, *layout.cut_by_spark]
    if floating:
        sizes = [F.abs(column(name)).cast("double") for name in floating]
        signs.append(F.coalesce(F.greatest(*sizes, F.lit(0.0)) >= float("inf"), F.lit(False)))
        signs.append(
            F.concat_ws(" ", *[word(name) for name in floating]).rlike(f"{JAVA_ONLY}|{_LONG}" if layout.is_inferred else JAVA_ONLY)
        )
    if fractions:
        words, numbers = [word(name) for name in fractions], [column(name) for name in fractions]
        # A word that is no number or date has left a null beside it.
        signs.append(_number_of_nulls(numbers) > _number_of_nulls(words))
    if layout.is_inferred and layout.numbers:
        signs.append(has_leading_zero(line, options))
    return F.coalesce(reduce(or_, signs), F.lit(True))


def has_leading_zero(line: Column, options: Mapping[str, str]) -> Column:
    """Return true for a line that may have a field such as ``007``, which a number would not give back."""
    return line.rlike(rf"(?:^|[{re.escape(options['sep'] + options['quote'])} ])[+-]?0[0-9]")


def _number_of_nulls(columns: list[Column]) -> Column:
    return F.size(F.array_remove(F.array(*[each.isNull() for each in columns]), False))


def _rules(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return the names of the rules that an odd line breaks."""
    line, words = F.col(LINE), F.col(_TOKENS)
    has_its_fields = words[CORRUPT].isNull()
    none = no_rules()
    fields = F.to_json(F.struct(*[column(name) for name in layout.fields]))
    unfit = F.array_except(F.json_object_keys(F.to_json(words)), F.json_object_keys(fields))
    parts = [
        F.when(F.col(HAS_INVALID_BYTES), F.array(F.lit("invalid_bytes"))).otherwise(none),
        F.when(has_nul(line), F.array(F.lit("nul"))).otherwise(none),
        F.when(Quoting.of(options).is_unclosed(line), F.array(F.lit("unclosed_quote"))).otherwise(none),
        F.when(~has_its_fields, F.array(F.lit("field_count"))).otherwise(none),
    ]
    casts, infinite = unfit, none
    if layout.floating:
        texts = F.to_json(F.struct(*[word(name).alias(name) for name in layout.floating]))
        casts = F.array_distinct(F.concat(unfit, F.regexp_extract_all(texts, F.lit(NUMBER_OF_JAVA), F.lit(1))))
        casts = F.array_union(casts, _shortened(layout)) if layout.is_inferred else casts
        numbers = F.to_json(F.struct(*[column(name) for name in layout.floating]))
        infinite = F.regexp_extract_all(numbers, F.lit(NOT_FINITE), F.lit(1))
    if layout.is_inferred and layout.numbers:
        with_zeros = F.regexp_extract_all(F.to_json(words), F.lit(LEADING_ZERO), F.lit(1))
        casts = F.array_union(casts, F.array_intersect(with_zeros, F.array(*[F.lit(name) for name in layout.numbers])))
    parts.append(F.when(has_its_fields, prefixed("cast:", casts)).otherwise(none))
    parts.append(prefixed("not_finite:", infinite))
    return F.concat(*parts)


def _shortened(layout: Layout) -> Column:
    """Return the names of the DOUBLE columns whose texts have digits that their numbers do not give back."""
    lost = []
    for name in layout.floating:
        written, held = word(name), column(name).cast("string")
        differs = [written.try_cast(kind) != held.try_cast(kind) for kind in ("decimal(38,18)", "decimal(38,0)")]
        is_lost = written.rlike(_LONG) & F.coalesce(differs[0], differs[1], F.lit(False))
        lost.append(F.when(is_lost, F.lit(name)))
    return F.array_compact(F.array(*lost))


def prefixed(prefix: str, names: Column) -> Column:
    """Return the names with the prefix before each."""
    gap = "\x1f"
    joined = F.concat(F.lit(prefix), F.array_join(names, gap + prefix))
    return F.when(F.size(names) > 0, F.split(joined, gap)).otherwise(no_rules())
