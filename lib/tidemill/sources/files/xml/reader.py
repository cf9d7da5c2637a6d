"""XML files: each element of one name is a record, whatever stands around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE, is_added
from tidemill.errors import SourceError, UsageError
from tidemill.sources.files.encodings import charset
from tidemill.sources.files.json.records import has_floats, has_not_finite
from tidemill.sources.files.lines import LONGEST_LINE, legible, locate, longest_record
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.files.xml import ROW_TAG, Xml
from tidemill.sources.files.xml.batches import (
    BROKEN,
    BYTES,
    LINES_SCHEMA,
    RECORD,
    SEEN,
    SEEN_SCHEMA,
    TEXT,
    UNKNOWN,
    Work,
    XmlForm,
    lines_work,
    records_schema,
    records_work,
    seen_work,
)
from tidemill.sources.files.xml.bytes import known_encoding
from tidemill.sources.files.xml.types import Seen, fields_of
from tidemill.sources.files.xml.values import XmlNames
from tidemill.sources.options import checked_options, is_on
from tidemill.sources.records import IS_HEADER, RAW, RULES, SOURCE_LINE, Records, broken, row_hash, rule
from tidemill.sources.rows import Fitted, from_text
from tidemill.sources.schema.types import NothingToInfer, checked_schema
from tidemill.spec.models import Source

_LEADING_ZERO = "^ *[+-]?0[0-9]"
_OF_JAVA = "[xX]"  # it reads 0x1p3 as a number


def typed(value: Column, wanted: T.DataType, timezone: str, *, is_inferred: bool = False) -> Fitted:
    """Return a value whose leaves are texts as the wanted type; the column is null where a text does not fit.

    ``is_inferred`` says that nobody declared the type, so that a number which does not give back its text (``007``) does not fit.
    """
    if not _has_types(wanted):
        return Fitted(value, F.lit(False))
    is_misfit = _is_misfit(value, wanted, timezone, is_inferred)
    return Fitted(F.when(~is_misfit, _converted(value, wanted, timezone)), is_misfit)


def _has_types(kind: T.DataType) -> bool:
    """Return True for a type with a leaf that is no text."""
    if isinstance(kind, T.StructType):
        return any(_has_types(part.dataType) for part in kind.fields)
    if isinstance(kind, T.ArrayType):
        return _has_types(kind.elementType)
    return _has_types(kind.valueType) if isinstance(kind, T.MapType) else not isinstance(kind, T.StringType)


def _converted(value: Column, wanted: T.DataType, timezone: str) -> Column:
    if not _has_types(wanted):
        return value
    if isinstance(wanted, T.StructType):
        fields = [_converted(value.getField(part.name), part.dataType, timezone).alias(part.name) for part in wanted.fields]
        return F.when(value.isNotNull(), F.struct(*fields))
    if isinstance(wanted, T.ArrayType):
        element = wanted.elementType
        return F.transform(value, lambda item: _converted(item, element, timezone))
    if isinstance(wanted, T.MapType):
        inner = wanted.valueType
        return F.transform_values(value, lambda _, item: _converted(item, inner, timezone))
    return from_text(value, wanted, timezone).value


def _is_misfit(value: Column, wanted: T.DataType, timezone: str, is_inferred: bool) -> Column:
    if not _has_types(wanted):
        return F.lit(False)
    if isinstance(wanted, T.StructType):
        parts = [part for part in wanted.fields if _has_types(part.dataType)]
        return reduce(or_, [_is_misfit(value.getField(part.name), part.dataType, timezone, is_inferred) for part in parts])
    if isinstance(wanted, T.ArrayType):
        element = wanted.elementType
        return F.coalesce(F.exists(value, lambda item: _is_misfit(item, element, timezone, is_inferred)), F.lit(False))
    if isinstance(wanted, T.MapType):
        return _is_misfit(F.map_values(value), T.ArrayType(wanted.valueType), timezone, is_inferred)
    is_misfit = from_text(value, wanted, timezone).is_misfit
    if isinstance(wanted, T.FloatType | T.DoubleType):
        is_misfit = is_misfit | F.coalesce(value.rlike(_OF_JAVA), F.lit(False))
    if is_inferred and isinstance(wanted, T.NumericType):
        is_misfit = is_misfit | F.coalesce(value.rlike(_LEADING_ZERO), F.lit(False))
    return is_misfit


_SAME = {"UTF8": "UTF-8", "LATIN1": "ISO-8859-1"}
_TAG = re.compile(r"""[^\s<>/="'!?&;]+""")


def form_of(source: Source) -> XmlForm:
    """Return how the files of a source are to be read.

    Raises:
        UsageError: an option is missing, unknown or wrong.
    """
    options = checked_options(source, Xml.option_names)
    row_tag = options.get(ROW_TAG, "").strip().removeprefix("<").removesuffix(">")
    if not _TAG.fullmatch(row_tag):
        found = f", found {options[ROW_TAG]!r}" if ROW_TAG in options else ""
        raise UsageError(f"options.{ROW_TAG}: expected the name of the element that is a record, such as `book`{found}")
    encoding = options.get("encoding")
    if encoding and not known_encoding(encoding):
        encoding = charset(encoding).codec
    names = XmlNames(
        attribute_prefix=options.get("attributePrefix", XmlNames.attribute_prefix),
        value_tag=options.get("valueTag", XmlNames.value_tag),
        null_value=options.get("nullValue"),
        keeps_spaces=options.get("ignoreSurroundingSpaces") == "false",
        drops_attributes=is_on(options, "excludeAttribute"),
        drops_prefixes=is_on(options, "ignoreNamespace"),
    )
    return XmlForm(
        row_tag.rpartition(":")[2] if names.drops_prefixes else row_tag,
        names,
        _SAME.get(encoding.upper(), encoding.upper()) if encoding else None,
        longest_record(options, LONGEST_LINE),
    )


_TOGETHER = 4 << 20
_LARGEST_AWAY = (1 << 31) - 1


def within_reach(files: Sequence[SourceFile]) -> tuple[list[SourceFile], dict[str, str]]:
    """Return the files that a task can read, and the reason for each that none can."""
    bad = {
        file.path: f"it has {file.size} bytes, and one that is not on this machine's file system may have 2 GB; split it, or copy it here"
        for file in files
        if not file.is_local and file.size > _LARGEST_AWAY
    }
    return [file for file in files if file.path not in bad], bad


def worked(
    spark: SparkSession, files: Sequence[SourceFile], form: XmlForm, work: Callable[[XmlForm], Work], schema: T.StructType
) -> DataFrame:
    """Return what the tasks make of the files."""
    near, far = [file for file in files if file.is_local], [file for file in files if not file.is_local]
    parts = []
    if near:
        groups = tuple(_grouped(near))
        parts.append(spark.range(0, len(groups), 1, len(groups)).mapInArrow(work(replace(form, groups=groups)), schema))
    if far:
        reader = spark.read.format("binaryFile").options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
        parts.append(reader.load([file.uri for file in far]).select("path", "content").mapInArrow(work(form), schema))
    return reduce(DataFrame.unionByName, parts)


def _grouped(files: Sequence[SourceFile]) -> Iterator[tuple[tuple[str, str], ...]]:
    group: list[tuple[str, str]] = []
    size = 0
    for file in files:
        if group and size + file.size > _TOGETHER:
            yield tuple(group)
            group, size = [], 0
        group.append((file.path, file.readable))
        size += file.size
    yield tuple(group)


class XmlFiles:
    """XML files; the option ``rowTag`` names the elements that are records.

    An element's attributes are columns ``_name`` (``attributePrefix``), its children columns of their names, as they are written,
    prefixes included (``ignoreNamespace`` drops these); a child that repeats is an ARRAY, one with attributes or children a STRUCT (or
    a MAP), its text ``_VALUE`` (``valueTag``). An empty element is an empty STRING, null in any other type; a missing one is null.
    What the schema lacks, or writes in another case, goes to ``_rescued``.

    A record is refused for: ``not_xml`` (it is not well-formed, or is cut off), ``cast:<column>``, ``not_finite:<column>``,
    ``repeated:<column>`` (several values where the schema has one), ``nul``, ``invalid_bytes``, ``too_deep``. A file is bad that declares
    entities, that is not XML, or that has elements but none of that name.

    Each file is read by one task, which holds the largest of its records, not the file; a file that is not on a file system of this
    machine comes through Spark as a whole, and may have 2 GB. An encoding is told by the byte order mark, the option, or the file's
    own first line.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns and types that the texts of all well-formed records have; whole numbers are BIGINT."""
        form = form_of(source)
        near, bad = within_reach(files)
        if not near:
            raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
        rows = worked(spark, near, form, seen_work, SEEN_SCHEMA).collect()
        if not rows:
            more = f" and {len(near) - 1} more" if len(near) > 1 else ""
            raise NothingToInfer(
                f"no well-formed <{form.row_tag}> in {near[0].path}{more}; `options.{ROW_TAG}` names the element of a record"
            )
        seen = _merged(Seen.from_json(row[SEEN]) for row in rows)
        fields = fields_of(seen, form.names.value_tag)
        _check_reserved(fields, form.names)
        return checked_schema(fields)

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        form = form_of(source)
        near, bad = within_reach(files)
        if not near:
            return Records(None, bad)
        frame = worked(spark, near, form, lambda shared: records_work(shared, schema), records_schema(schema))

        def with_lines(refused: DataFrame) -> DataFrame:
            def numbered(paths: Sequence[str]) -> DataFrame:
                wanted = set(paths)
                found = worked(spark, [file for file in near if file.path in wanted], form, lines_work, LINES_SCHEMA)
                return found.select(SOURCE_FILE, row_hash(F.col(BYTES)).alias(ROW_HASH), F.lit(False).alias(IS_HEADER), SOURCE_LINE)

            return locate(refused, numbered)

        return Records(_judged(frame, schema, source), bad, locate=with_lines)


def _judged(raw: DataFrame, schema: T.StructType, source: Source) -> DataFrame:
    """Return the records of ``records_work`` as the columns of the schema, with the rules that their values break."""
    values = {
        part.name: typed(F.col(RECORD).getField(part.name), part.dataType, source.timezone, is_inferred=source.schema_ is None)
        for part in schema.fields
    }
    floating = [part for part in schema.fields if has_floats(part.dataType)]
    told = broken(
        [
            *[rule(f"cast:{name}", value.is_misfit) for name, value in values.items()],
            *[rule(f"not_finite:{part.name}", has_not_finite(values[part.name].value, part.dataType)) for part in floating],
        ]
    )
    rules = F.array_distinct(F.concat(F.col(BROKEN), told))
    text: Column = F.col(TEXT)
    return raw.select("*", rules.alias(RULES)).select(
        *[value.value.alias(name) for name, value in values.items()],
        SOURCE_FILE,
        row_hash(F.coalesce(F.col(BYTES), text)).alias(ROW_HASH),
        F.col(UNKNOWN).alias(RESCUED),
        legible(text.cast("string")).alias(RAW),
        RULES,
        F.lit(False).alias(IS_HEADER),
    )


def _merged(found: Iterable[Seen]) -> Seen:
    whole = Seen()
    for seen in found:
        whole.merge(seen)
    return whole


def _check_reserved(fields: Sequence[T.StructField], names: XmlNames) -> None:
    """Raise where an attribute would be a column that tidemill uses itself."""
    for part in fields:
        if is_added(part.name):
            raise SourceError(
                f"column {part.name!r} has a name that tidemill uses itself; set `options.attributePrefix` to another than "
                f"{names.attribute_prefix!r}, or declare `schema:` without it (it goes to _rescued then)"
            )
