"""The kinds of raw columns by their types, and the columns that are never features."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pyspark.sql import types as T

from tidemill.column_names import is_added
from tidemill.features.contributions import ColumnFacts
from tidemill.spec.models import Dataset

_MARKS = ("split", "fold")


def is_reserved(name: str, exclude: Collection[str]) -> bool:
    """Return True for a column that is never a feature: one of ``exclude``, ``split``, ``fold``, or one that tidemill adds."""
    return name in exclude or name in _MARKS or is_added(name)


def reserved_columns(dataset: Dataset) -> frozenset[str]:
    """Return the columns of a dataset that must never be features: key, label, weight, excluded columns, and the split column."""
    own = [name for name in (dataset.label, dataset.weight, dataset.split_rule().column) if name]
    return frozenset([*dataset.key, *dataset.exclude, *own])


def kind_of(kind: T.DataType) -> str:
    """Return numeric (booleans too), datetime, string or other."""
    if isinstance(kind, T.NumericType | T.BooleanType):
        return "numeric"
    if isinstance(kind, T.DateType | T.TimestampType | T.TimestampNTZType):
        return "datetime"
    return "string" if isinstance(kind, T.StringType) else "other"


def column_kind(kind: T.DataType) -> str:
    """Return the kind of a column for feature groups: numeric, boolean, datetime, string, words, numbers, or other."""
    if isinstance(kind, T.BooleanType):
        return "boolean"
    if isinstance(kind, T.ArrayType):
        return {"numeric": "numbers", "string": "words"}.get(kind_of(kind.elementType), "other")
    return kind_of(kind)


def column_facts(schema: T.StructType, sizes: Mapping[str, int] | None = None) -> ColumnFacts:
    """Return the facts that feature groups use about the columns of ``schema``."""
    return ColumnFacts(
        {each.name: column_kind(each.dataType) for each in schema.fields},
        {each.name: each.dataType.simpleString() for each in schema.fields},
        frozenset(each.name for each in schema.fields if isinstance(each.dataType, T.DateType)),
        sizes or {},
    )
