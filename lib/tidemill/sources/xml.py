"""XML files: each element of one name is a record, whatever stands around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE, is_added
from tidemill.errors import SourceError
from tidemill.sources.files import SourceFile
from tidemill.sources.json_nested import has_floats, has_not_finite
from tidemill.sources.line_numbers import locate
from tidemill.sources.lines import legible
from tidemill.sources.records import IS_HEADER, RAW, RULES, SOURCE_LINE, Records, broken, row_hash, rule
from tidemill.sources.schemas import NothingToInfer, checked_schema
from tidemill.sources.xml_batches import (
    BROKEN,
    BYTES,
    LINES_SCHEMA,
    RECORD,
    SEEN,
    SEEN_SCHEMA,
    TEXT,
    UNKNOWN,
    lines_work,
    records_schema,
    records_work,
    seen_work,
)
from tidemill.sources.xml_casts import typed
from tidemill.sources.xml_options import ROW_TAG, form_of
from tidemill.sources.xml_tasks import within_reach, worked
from tidemill.sources.xml_types import Seen, fields_of
from tidemill.sources.xml_values import XmlNames
from tidemill.spec.models import Source


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

    tells_columns_by_record = True

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
