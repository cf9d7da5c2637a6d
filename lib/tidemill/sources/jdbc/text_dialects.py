"""The dialects of PostgreSQL and SQLite, which return every value as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import types as T

from tidemill.sources.jdbc.dialects import DbColumn, Dialect, SelectRow, WatermarkOrder, string_literal
from tidemill.sources.rows import Overlap
from tidemill.sources.schema.types import TIME_TYPES


class Postgres(Dialect):
    """PostgreSQL."""

    # Timestamps arrive as text in the session's time zone. By default the driver would hold all rows in memory.
    properties: Mapping[str, str] = {
        "sessionInitStatement": "SET TIME ZONE 'UTC'",
        "readOnly": "true",
        "readOnlyMode": "always",
        "fetchsize": "10000",
    }
    _TYPES: Mapping[str, T.DataType] = {
        "boolean": T.BooleanType(),
        "smallint": T.ShortType(),
        "integer": T.IntegerType(),
        "bigint": T.LongType(),
        "oid": T.LongType(),
        "real": T.FloatType(),
        "double precision": T.DoubleType(),
        "numeric": T.DecimalType(38, 18),
        "date": T.DateType(),
        "timestamp without time zone": T.TimestampNTZType(),
        "timestamp with time zone": T.TimestampType(),
        "bytea": T.BinaryType(),
    }

    def columns(self, select_row: SelectRow, relation: str, spark_types: T.StructType, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns with the database's own types, even for an empty table."""
        names = [f"pg_typeof(t.{self.quote(name)})::text" for name in spark_types.names]
        natives = select_row(names, f"(SELECT 1) one LEFT JOIN (SELECT * FROM {relation} LIMIT 1) t ON true")
        return [self._column(part, str(native)) for part, native in zip(spark_types.fields, natives, strict=True)]

    def text(self, sql: str, column: DbColumn) -> str:
        """Return SQL for the text of a value."""
        return f"({sql})::text"

    def literal(self, value: str, column: DbColumn) -> str:
        """Return SQL for a value."""
        return f"{string_literal(value)}::{column.native}"

    def order(self, column: DbColumn) -> WatermarkOrder:
        """Return the finite values as comparable; NaN is above infinity. The conditions can use an index."""
        if not isinstance(column.type, (*TIME_TYPES, T.DecimalType, T.FloatType, T.DoubleType)):
            return WatermarkOrder()
        name, low, high = self.quote(column.name), self.literal("-infinity", column), self.literal("infinity", column)
        return WatermarkOrder(f"{name} > {low} AND {name} < {high}", f"{name} <= {low} OR {name} >= {high}")

    def subtract(self, literal: str, overlap: Overlap, column: DbColumn) -> str:
        """Return SQL for a value minus the overlap."""
        if not overlap.amount:
            return literal
        amount = f"interval '{overlap.text} seconds'" if isinstance(column.type, TIME_TYPES) else overlap.text
        return f"({literal} - {amount})"

    def _column(self, part: T.StructField, native: str) -> DbColumn:
        name = self.quote(part.name)
        if native.endswith("[]"):
            # to_json of texts keeps every element exact; arrays of several dimensions stay in braces, which fit no type.
            element = part.dataType.elementType if isinstance(part.dataType, T.ArrayType) else T.StringType()
            text = f"CASE WHEN array_ndims({name}) > 1 THEN {name}::text ELSE to_json({name}::text[])::text END"
            return DbColumn(part.name, text, T.ArrayType(self._type(native[:-2], element)), T.StringType(), native)
        if native == "bytea":
            return DbColumn(part.name, rf"'\x' || encode({name}, 'hex')", T.BinaryType(), T.StringType(), native)
        # A cast would remove the padding of character(n).
        text = name if native.startswith(("text", "character")) else f"{name}::text"
        return DbColumn(part.name, text, self._type(native, part.dataType), T.StringType(), native)

    def _type(self, native: str, spark_types: T.DataType) -> T.DataType:
        """Return the type; Spark's type has the digits of a numeric, and the base type of a domain."""
        if native == "numeric":
            return spark_types if isinstance(spark_types, T.DecimalType) else self._TYPES[native]
        if native in self._TYPES:
            return self._TYPES[native]
        return spark_types if "." in native and isinstance(spark_types, (T.NumericType, T.BooleanType)) else T.StringType()


class Sqlite(Dialect):
    """SQLite, where each value has a type of its own and a column only an affinity.

    A column gets its declared type if its values fit, else the type of its values.
    """

    properties: Mapping[str, str] = {"open_mode": "1"}  # read-only; otherwise a wrong path would create an empty database

    def columns(self, select_row: SelectRow, relation: str, spark_types: T.StructType, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns; without a known schema, one query counts the types of all values."""
        if known is not None:
            types = {part.name.lower(): part.dataType for part in known.fields}
            return [self._column(name, types.get(name.lower(), T.StringType())) for name in spark_types.names]
        declared = self._read_declared_types(select_row, relation)
        texts = select_row([self._count_types(self.quote(name)) for name in spark_types.names], relation)
        counts = [_TypeCounts(**json.loads(text or "{}")) for text in texts]
        return [
            self._column(name, count.type(declared.get(name.lower(), ""))) for name, count in zip(spark_types.names, counts, strict=True)
        ]

    def text(self, sql: str, column: DbColumn) -> str:
        """Return SQL for the text of a value, which gives back the same number."""
        exact = f"CASE WHEN CAST(CAST({sql} AS TEXT) AS REAL) = {sql} THEN CAST({sql} AS TEXT) ELSE printf('%!.17g', {sql}) END"
        return f"CASE typeof({sql}) WHEN 'blob' THEN '\\x' || lower(hex({sql})) WHEN 'real' THEN {exact} ELSE CAST({sql} AS TEXT) END"

    def literal(self, value: str, column: DbColumn) -> str:
        """Return SQL for a value: a number or a text."""
        return f"CAST({string_literal(value)} AS NUMERIC)" if isinstance(column.type, T.NumericType) else string_literal(value)

    def order(self, column: DbColumn) -> WatermarkOrder:
        """Return the values of the column's type as comparable: all numbers come before all texts."""
        kind = f"typeof({self.quote(column.name)})"
        wanted = "('integer', 'real')" if isinstance(column.type, T.NumericType) else "('text')"
        return WatermarkOrder(f"{kind} IN {wanted}", f"{kind} NOT IN {wanted}")

    def subtract(self, literal: str, overlap: Overlap, column: DbColumn) -> str:
        """Return SQL for the value that lies ``overlap`` before one; times are texts that begin with the date."""
        if not overlap.amount:
            return literal
        if isinstance(column.type, T.NumericType):
            return f"({literal} - {overlap.text})"
        form = "%Y-%m-%d" if isinstance(column.type, T.DateType) else "%Y-%m-%d %H:%M:%S"
        return f"coalesce(strftime('{form}', {literal}, '-{overlap.text} seconds'), '')"

    def _read_declared_types(self, select_row: SelectRow, relation: str) -> dict[str, str]:
        """Return the declared types of a table's columns; empty for a query."""
        if relation.startswith("("):
            return {}
        table = string_literal(relation.rpartition(".")[2].strip('"`[]'))
        text = select_row(["json_group_object(lower(name), upper(type))"], f"pragma_table_info({table})")
        return dict(json.loads(text[0] or "{}")) if text else {}

    def _count_types(self, name: str) -> str:
        day = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
        counts = {
            "integers": f"typeof({name}) = 'integer'",
            "reals": f"typeof({name}) = 'real'",
            "texts": f"typeof({name}) = 'text'",
            "blobs": f"typeof({name}) = 'blob'",
            "flags": f"typeof({name}) = 'integer' AND {name} IN (0, 1)",
            "days": f"typeof({name}) = 'text' AND {name} GLOB '{day}'",
            "times": f"typeof({name}) = 'text' AND {name} GLOB '{day}[ T][0-9][0-9]:[0-9][0-9]*'",
        }
        pairs = ", ".join(f"'{what}', total({condition})" for what, condition in counts.items())
        return f"json_object({pairs})"

    def _column(self, name: str, kind: T.DataType) -> DbColumn:
        column = DbColumn(name, "", kind, T.StringType())
        return DbColumn(name, self.text(self.quote(name), column), kind, T.StringType())


@dataclass(frozen=True)
class _TypeCounts:
    """The number of values of a column by type."""

    integers: float = 0
    reals: float = 0
    texts: float = 0
    blobs: float = 0
    flags: float = 0
    days: float = 0
    times: float = 0

    def type(self, declared: str) -> T.DataType:
        """Return the type that holds the values, by SQLite's rules of affinity if they fit."""
        values = self.integers + self.reals + self.texts + self.blobs
        if "BOOL" in declared and values == self.flags:
            return T.BooleanType()
        if ("DATE" in declared or "TIME" in declared) and values and values == self.days + self.times:
            return T.DateType() if values == self.days else T.TimestampNTZType()
        if "INT" in declared and not self.reals:
            return T.LongType()
        if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
            return T.StringType()
        if "INT" in declared or any(word in declared for word in ("REAL", "FLOA", "DOUB", "DEC", "NUM")):
            return T.DoubleType()
        if values and values == self.blobs:
            return T.BinaryType()
        if self.texts or self.blobs or not values:
            return T.StringType()
        return T.DoubleType() if self.reals else T.LongType()
