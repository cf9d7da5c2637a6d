"""Read XML files: each element of the row tag is a record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import ROW_HASH, SOURCE_FILE, is_added
from tidemill.errors import SourceError, UsageError
from tidemill.sources.files.encodings import find_charset
from tidemill.sources.files.json.records import has_floats, has_not_finite
from tidemill.sources.files.lines import MAX_LINE_BYTES, make_locator, max_record_bytes, replace_invalid_bytes
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.files.xml import ROW_TAG, Xml
from tidemill.sources.files.xml.batches import (
    BROKEN,
    BYTES,
    LINES_SCHEMA,
    RECORD,
    SUMMARY,
    SUMMARY_SCHEMA,
    TEXT,
    UNKNOWN,
    Work,
    XmlForm,
    make_lines_work,
    make_records_work,
    make_summary_work,
    records_schema,
)
from tidemill.sources.files.xml.bytes import is_known_encoding
from tidemill.sources.files.xml.types import ElementSummary, infer_fields
from tidemill.sources.files.xml.values import XmlNames
from tidemill.sources.options import is_on, resolve_options
from tidemill.sources.records import RULES, SOURCE_LINE, Records, collect_rules, record_columns, row_hash, rule
from tidemill.sources.rows import CastResult, parse_text
from tidemill.sources.schema.nested import any_leaf, convert_leaves, has_leaf
from tidemill.sources.schema.types import NothingToInfer, validate_schema
from tidemill.spec.models import Source

_LEADING_ZERO = "^ *[+-]?0[0-9]"
_JAVA_ONLY = "[xX]"  # Java reads 0x1p3 as a number


def cast_leaves(value: Column, wanted: T.DataType, timezone: str, *, is_inferred: bool = False) -> CastResult:
    """Return a value whose leaves are texts as the wanted type; it is null where one of the texts does not fit.

    With ``is_inferred`` nobody declared the type, so a number that does not give back its text (``007``) does not fit.
    """

    def is_misfit(text: Column, kind: T.DataType) -> Column:
        misfit = parse_text(text, kind, timezone).is_misfit
        if isinstance(kind, T.FloatType | T.DoubleType):
            misfit = misfit | F.coalesce(text.rlike(_JAVA_ONLY), F.lit(False))
        if is_inferred and isinstance(kind, T.NumericType):
            misfit = misfit | F.coalesce(text.rlike(_LEADING_ZERO), F.lit(False))
        return misfit

    if not has_leaf(wanted, _is_typed):
        return CastResult(value, F.lit(False))
    has_misfit = any_leaf(value, wanted, is_misfit, _is_typed)
    typed = convert_leaves(value, wanted, lambda text, kind: parse_text(text, kind, timezone).value, _is_typed)
    return CastResult(F.when(~has_misfit, typed), has_misfit)


def _is_typed(kind: T.DataType) -> bool:
    return not isinstance(kind, T.StringType)


_SYNONYMS = {"UTF8": "UTF-8", "LATIN1": "ISO-8859-1"}
_TAG = re.compile(r"""[^\s<>/="'!?&;]+""")


def parse_form(source: Source) -> XmlForm:
    """Parse the options of a source.

    Raises:
        UsageError: an option is missing, unknown or wrong.
    """
    options = resolve_options(source, Xml.option_names)
    row_tag = options.get(ROW_TAG, "").strip().removeprefix("<").removesuffix(">")
    if not _TAG.fullmatch(row_tag):
        shown = f", found {options[ROW_TAG]!r}" if ROW_TAG in options else ""
        raise UsageError(f"options.{ROW_TAG}: expected the name of the element that is a record, such as `book`{shown}")
    encoding = options.get("encoding")
    if encoding and not is_known_encoding(encoding):
        encoding = find_charset(encoding).codec
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
        _SYNONYMS.get(encoding.upper(), encoding.upper()) if encoding else None,
        max_record_bytes(options, MAX_LINE_BYTES),
    )


_GROUP_BYTES = 4 << 20
_MAX_REMOTE_BYTES = (1 << 31) - 1


def drop_oversized_files(files: Sequence[SourceFile]) -> tuple[list[SourceFile], dict[str, str]]:
    """Return the files that a Spark task can read, and the reason for each other one."""
    bad = {
        file.path: f"it has {file.size} bytes, and one that is not on this machine's file system may have 2 GB; split it, or copy it here"
        for file in files
        if not file.is_local and file.size > _MAX_REMOTE_BYTES
    }
    return [file for file in files if file.path not in bad], bad


def map_files(
    spark: SparkSession, files: Sequence[SourceFile], form: XmlForm, work: Callable[[XmlForm], Work], schema: T.StructType
) -> DataFrame:
    """Apply work to the files, several small local ones per Spark task."""
    local_files, remote_files = [file for file in files if file.is_local], [file for file in files if not file.is_local]
    parts = []
    if local_files:
        groups = tuple(_group_files(local_files))
        parts.append(spark.range(0, len(groups), 1, len(groups)).mapInArrow(work(replace(form, groups=groups)), schema))
    if remote_files:
        reader = spark.read.format("binaryFile").options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
        parts.append(reader.load([file.uri for file in remote_files]).select("path", "content").mapInArrow(work(form), schema))
    return reduce(DataFrame.unionByName, parts)


def _group_files(files: Sequence[SourceFile]) -> Iterator[tuple[tuple[str, str], ...]]:
    group: list[tuple[str, str]] = []
    size = 0
    for file in files:
        if group and size + file.size > _GROUP_BYTES:
            yield tuple(group)
            group, size = [], 0
        group.append((file.path, file.readable))
        size += file.size
    yield tuple(group)


class XmlFiles:
    """XML files; the option ``rowTag`` names the elements that are records.

    Attributes are columns ``_name`` (``attributePrefix``), children are columns of their names as written, with prefixes
    (``ignoreNamespace`` drops them). A repeated child is an ARRAY, a child with attributes or children a STRUCT or a MAP, with its text
    in ``_VALUE`` (``valueTag``). An empty element is an empty STRING, and null in any other type; a missing one is null. Parts that are
    not in the schema, or differ in case, go to ``_rescued``.

    Rules that reject a record: ``not_xml`` (not well-formed, or cut off), ``cast:<column>``, ``not_finite:<column>``,
    ``repeated:<column>`` (several values where the schema has one), ``nul``, ``invalid_bytes``, ``too_deep``. A file is bad if it
    declares entities, is not XML, or has elements but none of the row tag.

    One Spark task reads each file and holds one record at a time. A file on another file system is read as a whole by Spark and may have
    2 GB. The encoding is that of the byte order mark, the option, or the XML declaration.
    """

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Infer columns and types from all well-formed records; whole numbers are BIGINT."""
        form = parse_form(source)
        readable, bad = drop_oversized_files(files)
        if not readable:
            raise SourceError("; ".join(f"{path}: {reason}" for path, reason in bad.items()))
        rows = map_files(spark, readable, form, make_summary_work, SUMMARY_SCHEMA).collect()
        if not rows:
            more = f" and {len(readable) - 1} more" if len(readable) > 1 else ""
            raise NothingToInfer(
                f"no well-formed <{form.row_tag}> in {readable[0].path}{more}; `options.{ROW_TAG}` names the element of a record"
            )
        summary = _merge_summaries(ElementSummary.from_json(row[SUMMARY]) for row in rows)
        fields = infer_fields(summary, form.names.value_tag)
        _check_reserved(fields, form.names)
        return validate_schema(fields)

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files, see ``Records``."""
        form = parse_form(source)
        readable, bad = drop_oversized_files(files)
        if not readable:
            return Records(None, bad)
        frame = map_files(spark, readable, form, lambda shared: make_records_work(shared, schema), records_schema(schema))

        def number_records(wanted: list[SourceFile]) -> DataFrame:
            lines = map_files(spark, wanted, form, make_lines_work, LINES_SCHEMA)
            return lines.select(SOURCE_FILE, row_hash(F.col(BYTES)).alias(ROW_HASH), SOURCE_LINE)

        return Records(_select_records(frame, schema, source), bad, locate=make_locator(readable, number_records))


def _select_records(raw: DataFrame, schema: T.StructType, source: Source) -> DataFrame:
    """Cast the records of ``make_records_work`` to the columns of the schema, and collect the rules that they break."""
    values = {
        part.name: cast_leaves(F.col(RECORD).getField(part.name), part.dataType, source.timezone, is_inferred=source.schema_ is None)
        for part in schema.fields
    }
    floating = [part for part in schema.fields if has_floats(part.dataType)]
    value_rules = collect_rules(
        [
            *[rule(f"cast:{name}", value.is_misfit) for name, value in values.items()],
            *[rule(f"not_finite:{part.name}", has_not_finite(values[part.name].value, part.dataType)) for part in floating],
        ]
    )
    rules = F.array_distinct(F.concat(F.col(BROKEN), value_rules))
    text: Column = F.col(TEXT)
    digest = row_hash(F.coalesce(F.col(BYTES), text))
    added = record_columns(replace_invalid_bytes(text.cast("string")), rescued=F.col(UNKNOWN), digest=digest)
    return raw.select("*", rules.alias(RULES)).select(*[value.value.alias(name) for name, value in values.items()], *added)


def _merge_summaries(summaries: Iterable[ElementSummary]) -> ElementSummary:
    whole = ElementSummary()
    for summary in summaries:
        whole.merge(summary)
    return whole


def _check_reserved(fields: Sequence[T.StructField], names: XmlNames) -> None:
    """Raise a SourceError where an attribute would have the name of one of tidemill's own columns."""
    for part in fields:
        if is_added(part.name):
            raise SourceError(
                f"column {part.name!r} has a name that tidemill uses itself; set `options.attributePrefix` to another than "
                f"{names.attribute_prefix!r}, or declare `schema:` without it (it goes to _rescued then)"
            )
