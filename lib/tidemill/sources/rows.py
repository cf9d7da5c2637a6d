"""Rows of a place that has columns of its own (a database, a table, a Python source) as records of a schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE, renaming_notes
from tidemill.columns import column
from tidemill.errors import UsageError, did_you_mean
from tidemill.sources.fitted import fitted
from tidemill.sources.records import IS_HEADER, RAW, RULES, Difference, Records, broken, is_not_finite, row_hash, rule
from tidemill.sources.schemas import is_wider, matched_names
from tidemill.spec.models import Source

_KEEP_NULLS = {"ignoreNullFields": "false"}
_JSON = " json"


@dataclass(frozen=True)
class Given:
    """A column of the place: its name there, the column of the frame that holds it, that one's type, and the type to tell people."""

    name: str
    value: Column
    found: T.DataType
    declared: T.DataType


def given_columns(frame: DataFrame) -> list[Given]:
    """Return the columns of a frame as they are."""
    return [Given(part.name, column(part.name), part.dataType, part.dataType) for part in frame.schema.fields]


def row_records(frame: DataFrame, given: Sequence[Given], schema: T.StructType, source: Source, place: str) -> Records:
    """Return the records of the rows.

    A row is refused for ``cast:<column>`` (a value that does not fit the schema's type) and ``not_finite:<column>``. Its raw text is the
    row as a JSON object. Columns that the schema lacks go to ``_rescued``.
    """
    matched = matched_names([part.name for part in given], schema)
    by_name = {name: part for part, name in zip(given, matched, strict=True) if name is not None}
    whole = F.to_json(F.struct(*[part.value.alias(part.name) for part in given]), _KEEP_NULLS)
    unknown = [part.value.alias(part.name) for part, name in zip(given, matched, strict=True) if name is None]
    values = {name: fitted(part.value, part.found, schema[name].dataType, source.timezone) for name, part in by_name.items()}
    floating = [name for name in by_name if isinstance(schema[name].dataType, T.FloatType | T.DoubleType)]
    rules = broken(
        [
            *[rule(f"cast:{name}", values[name].is_misfit) for name in schema.names if name in values],
            *[rule(f"not_finite:{name}", is_not_finite(values[name].value)) for name in floating],
        ]
    )
    absent = F.lit(None)
    parsed = frame.select(
        *[(values[part.name].value if part.name in values else absent.cast(part.dataType)).alias(part.name) for part in schema.fields],
        (F.to_json(F.struct(*unknown), _KEEP_NULLS) if unknown else absent.cast("string")).alias(RESCUED),
        rules.alias(RULES),
        whole.alias(_JSON),
    )
    return Records(
        parsed.select(
            *[column(name) for name in schema.names],
            F.lit(place).alias(SOURCE_FILE),
            row_hash(F.col(_JSON).cast("binary")).alias(ROW_HASH),
            RESCUED,
            RULES,
            F.col(_JSON).alias(RAW),
            F.lit(False).alias(IS_HEADER),
        ),
        notes=renaming_notes([part.name for part in given]),
        differences=_differences(given, matched, schema, source, place),
    )


def known_column(name: str, names: Sequence[str], what: str, place: str) -> str:
    """Return the name as the place writes it; upper and lower case are not told apart.

    Raises:
        UsageError: the place has no such column.
    """
    found = name if name in names else next((other for other in names if other.lower() == name.lower()), None)
    if found is None:
        raise UsageError(f"{what}: {place} has no column {name!r}{did_you_mean(name, names)}; it has {', '.join(names[:20])}")
    return found


def _differences(
    given: Sequence[Given], matched: Sequence[str | None], schema: T.StructType, source: Source, place: str
) -> tuple[Difference, ...]:
    """Return where the place does not have the schema's columns; types are compared only with those once found there, not declared."""
    found = []
    for part, name in zip(given, matched, strict=True):
        told = part.declared.simpleString().upper()
        if name is None:
            found.append(Difference("new", part.name, (place,), found=told))
        elif source.schema_ is None and not _is_kept(part.declared, schema[name].dataType):
            found.append(Difference("type", name, (place,), found=told, expected=schema[name].dataType.simpleString().upper()))
    missing = [name for name in schema.names if name not in matched]
    found += [Difference("missing", name, (place,), expected=schema[name].dataType.simpleString().upper()) for name in missing]
    return tuple(found)


def _is_kept(found: T.DataType, wanted: T.DataType) -> bool:
    return is_wider(found, wanted) or found.simpleString() == wanted.simpleString()
