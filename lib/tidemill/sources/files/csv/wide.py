"""CSV lines with very many fields, parsed in pieces: Spark's parser looks each column up among all of them when it is made.

The rules are those of ``csv_rules``. Nothing here is an expression a column: Spark goes through all of them for each of its own rules.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.quoting import quote_name
from tidemill.sources.files.csv.fields import (
    CORRUPT,
    LEADING_ZERO,
    NAME,
    NOT_FINITE,
    NUMBER_OF_JAVA,
    Layout,
    from_csv,
    has_leading_zero,
    prefixed,
)
from tidemill.sources.files.csv.records import Quoting
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, has_nul, legible
from tidemill.sources.records import IS_HEADER, RAW, RULES, all_but, apart, no_rules

_PIECE = 500
_BASE = (LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH, IS_HEADER)
_FIELDS, _HAS_ALL, _IS_ODD = "raw_fields", "has_all_fields", "is_odd"
_GAP = "\x1f"
# What follows a day, midnight apart; of other columns than DATE it is not asked.
_BEHIND_A_DAY = NAME + r'" *[^" T]+[ T](?! *"|(?:00:00(?::00(?:\.0*)?)? *"))[^"]*"'


@dataclass(frozen=True)
class Piece:
    """The fields of a layout from ``start`` on, as columns of a frame.

    ``parsed`` is the struct that the parser gives, with fractions as text; ``valued`` has these as numbers, null where the text is none;
    ``texts`` and ``numbers`` are the two as JSON, where there are fractions. ``worded`` has every field as text, on odd lines only.
    """

    layout: Layout
    start: int
    stop: int

    @cached_property
    def kinds(self) -> dict[str, T.DataType]:
        """The type of each field, by its name on the way."""
        schema = {part.name: part.dataType for part in self.layout.schema.fields}
        places = range(self.start, self.stop)
        return {self.layout.fields_at(place): schema.get(self.layout.columns[place] or "", T.StringType()) for place in places}

    def of_type(self, *kinds: type[T.DataType]) -> list[str]:
        """Return the fields of these types."""
        return [name for name, kind in self.kinds.items() if isinstance(kind, kinds)]

    @cached_property
    def floating(self) -> list[str]:
        """The FLOAT and DOUBLE fields."""
        return self.of_type(T.FloatType, T.DoubleType)

    @cached_property
    def fractions(self) -> list[str]:
        """Those, and the ones of which Spark would cut something off."""
        cut = () if self.layout.has_date_format else (T.DateType,)
        return self.of_type(T.FloatType, T.DoubleType, T.DecimalType, *cut)

    @property
    def parsed(self) -> str:
        """The column of the parser's struct."""
        return f"parsed{self.start}"

    @property
    def valued(self) -> str:
        """The column of the struct of values."""
        return f"valued{self.start}" if self.fractions else self.parsed

    @property
    def worded(self) -> str:
        """The column of the struct of texts."""
        return f"worded{self.start}"

    @property
    def texts(self) -> Column:
        """What was parsed, as JSON."""
        return F.col(f"texts{self.start}") if self.fractions else F.to_json(self.parsed)

    @property
    def numbers(self) -> Column:
        """The values, as JSON."""
        return F.col(f"numbers{self.start}") if self.fractions else F.to_json(self.parsed)

    def parse(self, kinds: Sequence[T.DataType], options: Mapping[str, str], timezone: str) -> Column:
        """Return the struct of the fields as these types, null for a line that has another number of fields."""
        raw = F.array_join(F.slice(_FIELDS, self.start + 1, self.stop - self.start), options["sep"])
        return from_csv(list(self.kinds), kinds, options, timezone, F.when(F.col(_HAS_ALL), raw))

    def first(self, options: Mapping[str, str], timezone: str) -> Column:
        """Return the fields parsed."""
        late = set(self.fractions)
        kinds = [T.StringType() if name in late else kind for name, kind in self.kinds.items()]
        return self.parse(kinds, options, timezone).alias(self.parsed)

    def values(self) -> Column:
        """Return the fields as their types."""
        fields = [T.StructField(name, kind) for name, kind in self.kinds.items()]
        return F.col(self.parsed).try_cast(T.StructType([*fields, T.StructField(CORRUPT, T.StringType())])).alias(self.valued)

    def told(self) -> list[Column]:
        """Return both as JSON."""
        return [F.to_json(self.parsed).alias(f"texts{self.start}"), F.to_json(self.valued).alias(f"numbers{self.start}")]

    def signs(self) -> list[Column]:
        """Return what tells that something may be odd about the fields."""
        signs = [F.col(self.parsed)[CORRUPT].isNotNull()]
        if self.fractions:
            # A text that is no number has left a null in its place.
            signs.append(F.size(F.json_object_keys(self.numbers)) < F.size(F.json_object_keys(self.texts)))
            signs += [self.texts.rlike(pattern) for pattern in (NUMBER_OF_JAVA, *self._too_precise())]
            signs.append(self.numbers.rlike(NOT_FINITE))
        return signs

    def misfits(self) -> Column:
        """Return the names of the columns whose values do not fit."""
        words = F.json_object_keys(F.to_json(self.worded))
        found = [F.array_except(words, F.json_object_keys(self.numbers))]
        found += [_among(self.texts, NUMBER_OF_JAVA, self.floating)] if self.floating else []
        found += [_among(self.texts, pattern, names) for pattern, names in self._too_precise().items()]
        found += [_among(F.to_json(self.worded), LEADING_ZERO, self.of_type(T.NumericType))] if self.layout.is_inferred else []
        return F.array_distinct(F.concat(*found))

    def infinite(self) -> Column:
        """Return the names of the columns whose values are not finite."""
        return _among(self.numbers, NOT_FINITE, self.floating)

    def _too_precise(self) -> dict[str, list[str]]:
        """Return what tells a value that Spark would round or cut, and the fields that it concerns."""
        found: dict[str, list[str]] = {}
        for name, kind in self.kinds.items():
            if isinstance(kind, T.DecimalType):
                found.setdefault(rf'{NAME}"[^"]*\.\d{{{kind.scale}}}\d*[1-9]', []).append(name)
            elif isinstance(kind, T.DateType) and name in self.fractions:
                found.setdefault(_BEHIND_A_DAY, []).append(name)
        return found


def wide_records(lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str) -> DataFrame:
    """Return the records of CSV lines (as of ``group_records``), as ``csv`` gives them for fewer columns."""
    pieces, quoting, line = _pieces(layout), Quoting.of(options), legible(F.col(LINE))
    cut = lines.select(*_BASE, _raw_fields(line, quoting, options).alias(_FIELDS))
    counted = cut.select("*", (F.size(_FIELDS) == len(layout.names)).alias(_HAS_ALL))
    parsed = counted.select("*", *[piece.first(options, timezone) for piece in pieces])
    valued = parsed.select("*", *[piece.values() for piece in pieces if piece.fractions])
    told = valued.select("*", *[column for piece in pieces if piece.fractions for column in piece.told()])
    signs = [~F.col(_HAS_ALL), F.col(HAS_INVALID_BYTES), has_nul(F.col(LINE)), quoting.is_unclosed(F.col(LINE))]
    signs += [sign for piece in pieces for sign in piece.signs()]
    signs += [has_leading_zero(line, options)] if layout.is_inferred else []
    # Neither true nor false is odd too. One "or" in another, hundreds of times, would be more than Spark's stack holds.
    odd = told.select("*", (F.size(F.array_remove(F.array(*signs), False)) > 0).alias(_IS_ODD))
    words = [(piece, piece.parse([T.StringType()] * len(piece.kinds), options, "UTC")) for piece in pieces]
    worded = odd.select("*", *[F.when(F.col(_IS_ODD), text).alias(piece.worded) for piece, text in words])
    rules = F.when(F.col(_IS_ODD), _rules(pieces, quoting)).otherwise(no_rules()).alias(RULES)
    columns = _selected(pieces, layout)
    judged = worded.select("*", rules).select(
        *columns.values(),
        SOURCE_FILE,
        ROW_HASH,
        _rescued(pieces, layout).alias(RESCUED),
        line.alias(RAW),
        RULES,
        IS_HEADER,
    )
    spread = [all_but([CORRUPT], of=name) for name in columns]
    return apart(judged.select(*spread, SOURCE_FILE, ROW_HASH, RESCUED, RAW, RULES, IS_HEADER), layout.schema)


def _pieces(layout: Layout) -> list[Piece]:
    count = len(layout.names)
    number = -(-count // _PIECE)
    cuts = [count * place // number for place in range(number + 1)]
    return [Piece(layout, start, stop) for start, stop in pairwise(cuts)]


def _raw_fields(line: Column, quoting: Quoting, options: Mapping[str, str]) -> Column:
    """Return the fields of a line as they are written, quotes and all."""
    separator = options["sep"]
    plain = F.split(line, re.escape(separator), -1)
    if not quoting.quote:
        return plain
    found = F.regexp_extract_all(F.concat(line, F.lit(separator)), F.lit(quoting.field), F.lit(1))
    return F.when(F.contains(line, F.lit(quoting.quote)), found).otherwise(plain)


def _rules(pieces: Sequence[Piece], quoting: Quoting) -> Column:
    """Return the names of the rules that an odd line breaks."""
    none, has_all = no_rules(), F.col(_HAS_ALL)
    casts = F.concat(*[F.coalesce(piece.misfits(), none) for piece in pieces])
    infinite = [F.coalesce(piece.infinite(), none) for piece in pieces if piece.floating]
    found = F.concat(
        F.when(F.col(HAS_INVALID_BYTES), F.array(F.lit("invalid_bytes"))).otherwise(none),
        F.when(has_nul(F.col(LINE)), F.array(F.lit("nul"))).otherwise(none),
        F.when(quoting.is_unclosed(F.col(LINE)), F.array(F.lit("unclosed_quote"))).otherwise(none),
        F.when(~has_all, F.array(F.lit("field_count"))).otherwise(none),
        F.when(has_all, prefixed("cast:", casts)).otherwise(none),
        prefixed("not_finite:", F.concat(*infinite)) if infinite else none,
    )
    is_corrupt = F.array_contains(F.array(*[F.col(piece.parsed)[CORRUPT].isNotNull() for piece in pieces]), F.lit(True))
    return F.when(is_corrupt & (F.size(found) == 0), F.array(F.lit("unreadable"))).otherwise(found)


def _selected(pieces: Sequence[Piece], layout: Layout) -> dict[str, Column]:
    """Return structs that hold the schema's columns, in its order, each with ``CORRUPT`` behind them; one that the file lacks is null."""
    if layout.columns == tuple(layout.schema.names):
        return {piece.valued: F.col(piece.valued) for piece in pieces}
    places = {name: piece.valued for piece in pieces for name in piece.kinds}
    parts, structs = layout.schema.fields, {}
    for start in range(0, len(parts), _PIECE):
        chosen = parts[start : start + _PIECE]
        values = [
            f"{places[part.name]}.{quote_name(part.name)}" if part.name in places else f"CAST(NULL AS {part.dataType.simpleString()})"
            for part in chosen
        ]
        kind = T.StructType([*chosen, T.StructField(CORRUPT, T.StringType())])
        structs[f"columns{start}"] = _struct([*values, "CAST(NULL AS STRING)"]).cast(kind).alias(f"columns{start}")
    return structs


def _rescued(pieces: Sequence[Piece], layout: Layout) -> Column:
    """Return the fields that the schema lacks as a JSON object, null where there is none."""
    unknown = [place for place, name in enumerate(layout.columns) if name is None]
    if not unknown:
        return F.lit(None).cast("string")
    places = {place: piece.parsed for piece in pieces for place in range(piece.start, piece.stop)}
    values = [f"{places[place]}.{quote_name(layout.fields_at(place))}" for place in unknown]
    kind = T.StructType([T.StructField(layout.names[place], T.StringType()) for place in unknown])
    return F.to_json(_struct(values).cast(kind), {"ignoreNullFields": "false"})


def _struct(values: Sequence[str]) -> Column:
    """Return a struct of values that are written as SQL."""
    return F.expr(f"struct({', '.join(values)})")


def _among(text: Column, pattern: str, names: Collection[str]) -> Column:
    """Return what a pattern finds in a text, as far as it is one of the names."""
    return F.array_intersect(F.regexp_extract_all(text, F.lit(pattern), F.lit(1)), F.split(F.lit(_GAP.join(names)), _GAP))
