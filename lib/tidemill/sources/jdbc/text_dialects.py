"""PostgreSQL and SQLite, which give every value as the text that they write themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import types as T

from tidemill.sources.jdbc.dialects import NUMBERS, TIMES, Ask, DbColumn, Order, string_literal
from tidemill.sources.rows import Overlap


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


class Sqlite:
    """SQLite, where each value has a type of its own and a column only an affinity.

    The type of a column is what it was declared as where its values are such, else what its values are.
    """

    properties: Mapping[str, str] = {"open_mode": "1"}  # read-only; without it a wrong path makes a new, empty database

    def quoted(self, name: str) -> str:
        """Return a name as SQL writes it."""
        return '"' + name.replace('"', '""') + '"'

    def columns(self, ask: Ask, relation: str, found: T.StructType, known: T.StructType | None) -> list[DbColumn]:
        """Return the columns; only where no schema is known, all values are looked at once, in one pass."""
        if known is not None:
            types = {part.name.lower(): part.dataType for part in known.fields}
            return [self._column(name, types.get(name.lower(), T.StringType())) for name in found.names]
        declared = self._declared(ask, relation)
        told = ask([self._census(self.quoted(name)) for name in found.names], relation)
        counts = [_Census(**json.loads(text or "{}")) for text in told]
        return [self._column(name, count.type(declared.get(name.lower(), ""))) for name, count in zip(found.names, counts, strict=True)]

    def text(self, sql: str, column: DbColumn) -> str:
        """Return SQL for the text of a value, from which the same number is read."""
        exact = f"CASE WHEN CAST(CAST({sql} AS TEXT) AS REAL) = {sql} THEN CAST({sql} AS TEXT) ELSE printf('%!.17g', {sql}) END"
        return f"CASE typeof({sql}) WHEN 'blob' THEN '\\x' || lower(hex({sql})) WHEN 'real' THEN {exact} ELSE CAST({sql} AS TEXT) END"

    def literal(self, value: str, column: DbColumn) -> str:
        """Return SQL for a value: a number or a text."""
        return f"CAST({string_literal(value)} AS NUMERIC)" if isinstance(column.type, NUMBERS) else string_literal(value)

    def order(self, column: DbColumn) -> Order:
        """Return the values of the column's type as comparable: all numbers come before all texts."""
        kind = f"typeof({self.quoted(column.name)})"
        wanted = "('integer', 'real')" if isinstance(column.type, NUMBERS) else "('text')"
        return Order(f"{kind} IN {wanted}", f"{kind} NOT IN {wanted}")

    def up_to(self, value: str, column: DbColumn) -> str:
        """Return a condition for the values not above one."""
        return f"{self.quoted(column.name)} <= {self.literal(value, column)}"

    def before(self, literal: str, overlap: Overlap, column: DbColumn) -> str:
        """Return SQL for the value that lies ``overlap`` before one; times are texts that begin with the date."""
        if not overlap.amount:
            return literal
        if isinstance(column.type, NUMBERS):
            return f"({literal} - {overlap.text})"
        form = "%Y-%m-%d" if isinstance(column.type, T.DateType) else "%Y-%m-%d %H:%M:%S"
        return f"coalesce(strftime('{form}', {literal}, '-{overlap.text} seconds'), '')"

    def _declared(self, ask: Ask, relation: str) -> dict[str, str]:
        """Return the declared types of a table's columns; empty for a query."""
        if relation.startswith("("):
            return {}
        table = string_literal(relation.rpartition(".")[2].strip('"`[]'))
        text = ask(["json_group_object(lower(name), upper(type))"], f"pragma_table_info({table})")
        return dict(json.loads(text[0] or "{}")) if text else {}

    def _census(self, name: str) -> str:
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
        return DbColumn(name, self.text(self.quoted(name), column), kind, T.StringType())


@dataclass(frozen=True)
class _Census:
    """How many values of a column are of each type."""

    integers: float = 0
    reals: float = 0
    texts: float = 0
    blobs: float = 0
    flags: float = 0
    days: float = 0
    times: float = 0

    def type(self, declared: str) -> T.DataType:
        """Return the type that holds the values, by SQLite's rules of affinity where they let it."""
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
