"""What a query gives, as Arrow record batches, one after the other: nothing is cast by Python on the way, and nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql import types as T


def read_batches(frame: DataFrame) -> pa.RecordBatchReader:
    """Return the rows of ``frame`` in their order, fetched partition by partition.

    Column names (of structs too) are unique: ``x``, ``x_2``. What Arrow or its readers do not know (intervals, variants, times of day)
    is text, as Spark casts it.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import to_arrow_schema

    from tidemill.quoting import quoted

    frame = frame.toDF(*unique_names(frame.columns))
    kinds = {part.name: _plain(part.dataType) for part in frame.schema.fields}
    columns = [
        F.col(quoted(part.name)).cast(kinds[part.name]).alias(part.name) if kinds[part.name] != part.dataType else F.col(quoted(part.name))
        for part in frame.schema.fields
    ]
    frame = frame.select(*columns)
    schema = to_arrow_schema(frame.schema, timezone="UTC")
    return pa.RecordBatchReader.from_batches(schema, _batches(frame, schema))


def _batches(frame: DataFrame, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    plan = getattr(frame, "_jdf", None)
    if plan is None:  # Spark Connect, which streams results by itself
        yield from frame.toArrow().to_batches()
        return
    messages = plan.toArrowBatchRdd().toJavaRDD().toLocalIterator()
    while messages.hasNext():
        yield pa.ipc.read_record_batch(pa.py_buffer(bytes(messages.next())), schema)


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names with a number behind each that came before: ``x``, ``x_2``; never one that another column has."""
    taken, unique = set(names), list[str]()
    used = set[str]()
    for name in names:
        number, shown = 2, name
        while shown in used or (shown != name and shown in taken):
            shown, number = f"{name}_{number}", number + 1
        used.add(shown)
        unique.append(shown)
    return unique


def _plain(kind: T.DataType) -> T.DataType:
    """Return the type that a column is cast to: the same where all readers of Arrow know it and its fields have unique names."""
    from pyspark.sql import types as T

    if isinstance(kind, T.StructType):
        names = unique_names([part.name for part in kind.fields])
        return T.StructType(
            [T.StructField(name, _plain(part.dataType), part.nullable) for name, part in zip(names, kind.fields, strict=True)]
        )
    if isinstance(kind, T.ArrayType):
        return T.ArrayType(_plain(kind.elementType), kind.containsNull)
    if isinstance(kind, T.MapType):
        return T.MapType(_plain(kind.keyType), _plain(kind.valueType), kind.valueContainsNull)
    has_no_arrow = isinstance(kind, T.DayTimeIntervalType | T.YearMonthIntervalType | T.CalendarIntervalType | T.VariantType)
    return T.StringType() if has_no_arrow or kind.typeName().startswith("time(") or kind.typeName() == "time" else kind
