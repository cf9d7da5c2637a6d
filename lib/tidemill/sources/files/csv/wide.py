"""Parse CSV lines with more than ``WIDE`` fields in chunks.

Spark's CSV parser takes time quadratic in its columns, and Spark's optimizer visits each expression many times: so there is one parser per
chunk of fields, and no expression per column. The rules are those of ``fields``.
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

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.quoting import quote_name
from tidemill.sources.files.csv.fields import (
    CORRUPT,
    JAVA_NUMBER,
    LEADING_ZERO,
    NAME,
    NOT_FINITE,
    Layout,
    add_prefix,
    has_leading_zero,
    list_line_rules,
    parse_csv,
)
from tidemill.sources.files.csv.records import Quoting
from tidemill.sources.files.lines import HAS_INVALID_BYTES, LINE, has_nul, replace_invalid_bytes
from tidemill.sources.records import (
    IS_HEADER,
    RECORD_COLUMNS,
    RULES,
    all_columns_except,
    isolate_selects,
    no_rules,
    record_columns,
)

_CHUNK_FIELDS = 500
_BASE = (LINE, HAS_INVALID_BYTES, SOURCE_FILE, ROW_HASH, IS_HEADER)
_FIELDS, _HAS_ALL, _IS_SUSPECT = "raw_fields", "has_all_fields", "is_suspect"
_GAP = "\x1f"
# A DATE with a time of day other than midnight.
_TIME_OF_DAY = NAME + r'" *[^" T]+[ T](?! *"|(?:00:00(?::00(?:\.0*)?)? *"))[^"]*"'


@dataclass(frozen=True)
class ColumnChunk:
    """The fields of a layout from ``start`` to ``stop``, as struct columns of a frame.

    ``parsed`` is the parser's struct, with fractions as text. ``values_column`` has them as numbers, null where the text is no number.
    ``texts_json`` and ``numbers_json`` are the two as JSON. ``strings`` has every field as text, for suspect lines only.
    """

    layout: Layout
    start: int
    stop: int

    @cached_property
    def kinds(self) -> dict[str, T.DataType]:
        """The type of each field, by its ``field_name``."""
        schema = {part.name: part.dataType for part in self.layout.schema.fields}
        places = range(self.start, self.stop)
        return {self.layout.field_name(place): schema.get(self.layout.columns[place] or "", T.StringType()) for place in places}

    def of_types(self, *kinds: type[T.DataType]) -> list[str]:
        """Return the fields of these types."""
        return [name for name, kind in self.kinds.items() if isinstance(kind, kinds)]

    @cached_property
    def float_columns(self) -> list[str]:
        """The FLOAT and DOUBLE fields."""
        return self.of_types(T.FloatType, T.DoubleType)

    @cached_property
    def fractions(self) -> list[str]:
        """The FLOAT and DOUBLE fields, and those whose values Spark would shorten."""
        cut = () if self.layout.has_date_format else (T.DateType,)
        return self.of_types(T.FloatType, T.DoubleType, T.DecimalType, *cut)

    @property
    def parsed(self) -> str:
        """The column of the parser's struct."""
        return f"parsed{self.start}"

    @property
    def values_column(self) -> str:
        """The column of the struct of values."""
        return f"values{self.start}" if self.fractions else self.parsed

    @property
    def strings(self) -> str:
        """The column of the struct of texts."""
        return f"strings{self.start}"

    @property
    def texts_json(self) -> Column:
        """The parser's struct as JSON."""
        return F.col(f"texts{self.start}") if self.fractions else F.to_json(self.parsed)

    @property
    def numbers_json(self) -> Column:
        """The struct of values as JSON."""
        return F.col(f"numbers{self.start}") if self.fractions else F.to_json(self.parsed)

    def parse(self, kinds: Sequence[T.DataType], options: Mapping[str, str], timezone: str) -> Column:
        """Return the struct of the fields as these types, null for a line with another number of fields."""
        raw = F.array_join(F.slice(_FIELDS, self.start + 1, self.stop - self.start), options["sep"])
        return parse_csv(list(self.kinds), kinds, options, timezone, F.when(F.col(_HAS_ALL), raw))

    def parse_columns(self, options: Mapping[str, str], timezone: str) -> Column:
        """Return the parser's struct."""
        late = set(self.fractions)
        kinds = [T.StringType() if name in late else kind for name, kind in self.kinds.items()]
        return self.parse(kinds, options, timezone).alias(self.parsed)

    def cast_columns(self) -> Column:
        """Return the struct of values."""
        fields = [T.StructField(name, kind) for name, kind in self.kinds.items()]
        return F.col(self.parsed).try_cast(T.StructType([*fields, T.StructField(CORRUPT, T.StringType())])).alias(self.values_column)

    def json_columns(self) -> list[Column]:
        """Return both structs as JSON."""
        return [F.to_json(self.parsed).alias(f"texts{self.start}"), F.to_json(self.values_column).alias(f"numbers{self.start}")]

    def suspicions(self) -> list[Column]:
        """Return conditions for fields that may break a rule."""
        suspicions = [F.col(self.parsed)[CORRUPT].isNotNull()]
        if self.fractions:
            # A text that is no number has a null as its value.
            suspicions.append(F.size(F.json_object_keys(self.numbers_json)) < F.size(F.json_object_keys(self.texts_json)))
            suspicions += [self.texts_json.rlike(pattern) for pattern in (JAVA_NUMBER, *self._too_precise())]
            suspicions.append(self.numbers_json.rlike(NOT_FINITE))
        return suspicions

    def list_misfits(self) -> Column:
        """Return the names of columns whose values do not fit."""
        keys = F.json_object_keys(F.to_json(self.strings))
        names = [F.array_except(keys, F.json_object_keys(self.numbers_json))]
        names += [_find_names(self.texts_json, JAVA_NUMBER, self.float_columns)] if self.float_columns else []
        names += [_find_names(self.texts_json, pattern, fields) for pattern, fields in self._too_precise().items()]
        names += [_find_names(F.to_json(self.strings), LEADING_ZERO, self.of_types(T.NumericType))] if self.layout.is_inferred else []
        return F.array_distinct(F.concat(*names))

    def list_not_finite(self) -> Column:
        """Return the names of columns whose values are not finite."""
        return _find_names(self.numbers_json, NOT_FINITE, self.float_columns)

    def _too_precise(self) -> dict[str, list[str]]:
        """Return patterns for values that Spark would round or shorten, and the fields that they apply to."""
        patterns: dict[str, list[str]] = {}
        for name, kind in self.kinds.items():
            if isinstance(kind, T.DecimalType):
                patterns.setdefault(rf'{NAME}"[^"]*\.\d{{{kind.scale}}}\d*[1-9]', []).append(name)
            elif isinstance(kind, T.DateType) and name in self.fractions:
                patterns.setdefault(_TIME_OF_DAY, []).append(name)
        return patterns


def parse_wide_records(lines: DataFrame, layout: Layout, options: Mapping[str, str], timezone: str) -> DataFrame:
    """Return the records of CSV lines (see ``read_group``) with the columns of ``Records.frame``."""
    chunks, quoting, line = _split_layout(layout), Quoting.of(options), replace_invalid_bytes(F.col(LINE))
    cut = lines.select(*_BASE, _raw_fields(line, quoting, options).alias(_FIELDS))
    counted = cut.select("*", (F.size(_FIELDS) == len(layout.names)).alias(_HAS_ALL))
    parsed = counted.select("*", *[chunk.parse_columns(options, timezone) for chunk in chunks])
    with_values = parsed.select("*", *[chunk.cast_columns() for chunk in chunks if chunk.fractions])
    as_json = with_values.select("*", *[column for chunk in chunks if chunk.fractions for column in chunk.json_columns()])
    suspicions = [~F.col(_HAS_ALL), F.col(HAS_INVALID_BYTES), has_nul(F.col(LINE)), quoting.is_unclosed(F.col(LINE))]
    suspicions += [sign for chunk in chunks for sign in chunk.suspicions()]
    suspicions += [has_leading_zero(line, options)] if layout.is_inferred else []
    # Null is suspect too. Hundreds of nested "or" expressions would overflow Spark's stack.
    marked = as_json.select("*", (F.size(F.array_remove(F.array(*suspicions), False)) > 0).alias(_IS_SUSPECT))
    words = [(chunk, chunk.parse([T.StringType()] * len(chunk.kinds), options, "UTC")) for chunk in chunks]
    with_strings = marked.select("*", *[F.when(F.col(_IS_SUSPECT), text).alias(chunk.strings) for chunk, text in words])
    rules = F.when(F.col(_IS_SUSPECT), _list_broken_rules(chunks, quoting)).otherwise(no_rules()).alias(RULES)
    columns = _select_schema(chunks, layout)
    added = record_columns(line, rescued=_rescue_fields(chunks, layout), is_header=F.col(IS_HEADER))
    checked = with_strings.select("*", rules).select(*columns.values(), *added)
    spread = [all_columns_except([CORRUPT], of=name) for name in columns]
    return isolate_selects(checked.select(*spread, *RECORD_COLUMNS), layout.schema)


def _split_layout(layout: Layout) -> list[ColumnChunk]:
    count = len(layout.names)
    number = -(-count // _CHUNK_FIELDS)
    cuts = [count * place // number for place in range(number + 1)]
    return [ColumnChunk(layout, start, stop) for start, stop in pairwise(cuts)]


def _raw_fields(line: Column, quoting: Quoting, options: Mapping[str, str]) -> Column:
    """Return the fields of a line as they are written, with quotes."""
    separator = options["sep"]
    plain = F.split(line, re.escape(separator), -1)
    if not quoting.quote:
        return plain
    fields = F.regexp_extract_all(F.concat(line, F.lit(separator)), F.lit(quoting.field), F.lit(1))
    return F.when(F.contains(line, F.lit(quoting.quote)), fields).otherwise(plain)


def _list_broken_rules(chunks: Sequence[ColumnChunk], quoting: Quoting) -> Column:
    """Return the rules that a suspect line breaks."""
    none, has_all = no_rules(), F.col(_HAS_ALL)
    casts = F.concat(*[F.coalesce(chunk.list_misfits(), none) for chunk in chunks])
    list_not_finite = [F.coalesce(chunk.list_not_finite(), none) for chunk in chunks if chunk.float_columns]
    rules = F.concat(
        *list_line_rules(quoting, has_all),
        F.when(has_all, add_prefix("cast:", casts)).otherwise(none),
        add_prefix("not_finite:", F.concat(*list_not_finite)) if list_not_finite else none,
    )
    is_corrupt = F.array_contains(F.array(*[F.col(chunk.parsed)[CORRUPT].isNotNull() for chunk in chunks]), F.lit(True))
    return F.when(is_corrupt & (F.size(rules) == 0), F.array(F.lit("unreadable"))).otherwise(rules)


def _select_schema(chunks: Sequence[ColumnChunk], layout: Layout) -> dict[str, Column]:
    """Return structs of the schema's columns in order, each with ``CORRUPT`` at its end; columns that are not in the file are null."""
    if layout.columns == tuple(layout.schema.names):
        return {chunk.values_column: F.col(chunk.values_column) for chunk in chunks}
    places = {name: chunk.values_column for chunk in chunks for name in chunk.kinds}
    parts, structs = layout.schema.fields, {}
    for start in range(0, len(parts), _CHUNK_FIELDS):
        chosen = parts[start : start + _CHUNK_FIELDS]
        cast_columns = [
            f"{places[part.name]}.{quote_name(part.name)}" if part.name in places else f"CAST(NULL AS {part.dataType.simpleString()})"
            for part in chosen
        ]
        kind = T.StructType([*chosen, T.StructField(CORRUPT, T.StringType())])
        structs[f"columns{start}"] = _struct([*cast_columns, "CAST(NULL AS STRING)"]).cast(kind).alias(f"columns{start}")
    return structs


def _rescue_fields(chunks: Sequence[ColumnChunk], layout: Layout) -> Column:
    """Return the fields that are not in the schema as a JSON object, null without any."""
    unknown = [place for place, name in enumerate(layout.columns) if name is None]
    if not unknown:
        return F.lit(None).cast("string")
    places = {place: chunk.parsed for chunk in chunks for place in range(chunk.start, chunk.stop)}
    cast_columns = [f"{places[place]}.{quote_name(layout.field_name(place))}" for place in unknown]
    kind = T.StructType([T.StructField(layout.names[place], T.StringType()) for place in unknown])
    return F.to_json(_struct(cast_columns).cast(kind), {"ignoreNullFields": "false"})


def _struct(cast_columns: Sequence[str]) -> Column:
    """Return a struct of SQL expressions."""
    return F.expr(f"struct({', '.join(cast_columns)})")


def _find_names(text: Column, pattern: str, names: Collection[str]) -> Column:
    """Return those of the names that a pattern finds in a text."""
    return F.array_intersect(F.regexp_extract_all(text, F.lit(pattern), F.lit(1)), F.split(F.lit(_GAP.join(names)), _GAP))
