"""How PostgreSQL is asked."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import types as T

from tidemill.sources.jdbc.dialects import NUMBERS, TIMES, Ask, DbColumn, Order, string_literal
from tidemill.sources.watermarks import Overlap


class Postgres:
    """PostgreSQL."""

    # Instants come as text in the session's zone; rows are fetched in portions, where the driver would hold all of them.
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

    def quoted(self, name: str) -> str:
        """Return a name as SQL writes it."""
        return '"' + name.replace('"', '""') + '"'

    def columns(self, ask: Ask, relation: str, found: T.StructType, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns; their types are the database's own words for them, however empty the table is."""
        names = [f"pg_typeof(t.{self.quoted(name)})::text" for name in found.names]
        natives = ask(names, f"(SELECT 1) one LEFT JOIN (SELECT * FROM {relation} LIMIT 1) t ON true")
        return [self._column(part, str(native)) for part, native in zip(found.fields, natives, strict=True)]

    def text(self, sql: str, column: DbColumn) -> str:
        """Return SQL for the text of a value."""
        return f"({sql})::text"

    def literal(self, value: str, column: DbColumn) -> str:
        """Return SQL for a value."""
        return f"{string_literal(value)}::{column.native}"

    def order(self, column: DbColumn) -> Order:
        """Return the finite values as comparable; NaN is above infinity. An index serves the conditions."""
        if not isinstance(column.type, (*TIMES, T.DecimalType, T.FloatType, T.DoubleType)):
            return Order()
        name, low, high = self.quoted(column.name), self.literal("-infinity", column), self.literal("infinity", column)
        return Order(f"{name} > {low} AND {name} < {high}", f"{name} <= {low} OR {name} >= {high}")

    def up_to(self, value: str, column: DbColumn) -> str:
        """Return a condition for the values not above one."""
        return f"{self.quoted(column.name)} <= {self.literal(value, column)}"

    def before(self, literal: str, overlap: Overlap, column: DbColumn) -> str:
        """Return SQL for the value that lies ``overlap`` before one."""
        if not overlap.amount:
            return literal
        amount = f"interval '{overlap.text} seconds'" if isinstance(column.type, TIMES) else overlap.text
        return f"({literal} - {amount})"

    def _column(self, part: T.StructField, native: str) -> DbColumn:
        name = self.quoted(part.name)
        if native.endswith("[]"):
            # to_json of texts keeps every element as the database writes it; more dimensions than one stay in braces, which fit no type.
            element = part.dataType.elementType if isinstance(part.dataType, T.ArrayType) else T.StringType()
            text = f"CASE WHEN array_ndims({name}) > 1 THEN {name}::text ELSE to_json({name}::text[])::text END"
            return DbColumn(part.name, text, T.ArrayType(self._type(native[:-2], element)), T.StringType(), native)
        if native == "bytea":
            return DbColumn(part.name, rf"'\x' || encode({name}, 'hex')", T.BinaryType(), T.StringType(), native)
        # A cast would cut the spaces that fill a character(n).
        text = name if native.startswith(("text", "character")) else f"{name}::text"
        return DbColumn(part.name, text, self._type(native, part.dataType), T.StringType(), native)

    def _type(self, native: str, found: T.DataType) -> T.DataType:
        """Return the type; Spark knows the digits of a numeric, and the numbers behind a domain."""
        if native == "numeric":
            return found if isinstance(found, T.DecimalType) else self._TYPES[native]
        if native in self._TYPES:
            return self._TYPES[native]
        return found if "." in native and isinstance(found, (*NUMBERS, T.BooleanType)) else T.StringType()
