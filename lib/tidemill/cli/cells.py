"""Values as text, none of them changed: exact decimals, floats that read back equal, instants in ISO 8601."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

Row = Mapping[str, object]
_DAY = 86_400_000_000
_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0xD800, 0xE000))}  # what JSON may hold and a terminal obeys


def rows_of(reader: pa.RecordBatchReader) -> Iterator[Row]:
    """Yield the rows of a reader as Python values that lose nothing: see ``_values``."""
    names = reader.schema.names
    for batch in reader:
        for row in zip(*(_values(column) for column in batch.columns), strict=True):
            yield dict(zip(names, row, strict=True))


def _values(array: pa.Array) -> list[Any]:
    """Return the values of an array: instants and dates as text (Python's end at the year 9999), 32-bit floats by their own digits."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        micros = array.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
        return [None if value is None else _instant(value) + zone for value in micros.to_pylist()]
    if pa.types.is_date(kind):
        days = array.cast(pa.date32()).cast(pa.int32())
        return [None if value is None else _day(value) for value in days.to_pylist()]
    if pa.types.is_float32(kind):
        return [None if value is None else _single(value) for value in array.to_pylist()]
    if pa.types.is_map(kind):
        return _groups(array, list(zip(_values(array.keys), _values(array.items), strict=True)), dict)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _groups(array, _values(array.values), list)
    if pa.types.is_struct(kind):
        fields = [_values(array.field(place)) for place in range(kind.num_fields)]
        names = [field.name for field in kind]
        is_null = array.is_null().to_pylist()
        return [None if is_null[row] else dict(zip(names, values, strict=True)) for row, values in enumerate(zip(*fields, strict=True))]
    values: list[Any] = array.to_pylist()
    return values


def _groups(array: pa.Array, values: list[Any], group: Callable[[list[Any]], Any]) -> list[Any]:
    offsets, is_null = array.offsets.to_pylist(), array.is_null().to_pylist()
    return [None if is_null[row] else group(values[offsets[row] : offsets[row + 1]]) for row in range(len(array))]


def _single(value: float) -> float:
    """Return the double with the fewest digits that is this 32-bit float: 0.1, not 0.10000000149011612."""
    import numpy as np

    return float(str(np.float32(value)))


def _instant(micros: int) -> str:
    days, rest = divmod(micros, _DAY)
    seconds, fraction = divmod(rest, 1_000_000)
    shown = f"{_day(days)}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{shown}.{fraction:06d}" if fraction else shown


def _day(days: int) -> str:
    """Return the date so many days after 1970-01-01, of any year, as ISO 8601 writes it: those beyond four digits with a sign."""
    era, day = divmod(days + 719_468, 146_097)
    of_era = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * of_era + of_era // 4 - of_era // 100)
    month = (5 * of_year + 2) // 153
    number = of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    year = of_era + era * 400 + (month <= 2)
    sign = "" if 0 <= year <= 9999 else "-" if year < 0 else "+"
    return f"{sign}{abs(year):04d}-{month:02d}-{number:02d}"


def plain_text(value: object) -> str:
    """Return a value as text without quotes: of numbers all digits, ``Z`` behind instants that have a zone; what is nested is JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat() if value.tzinfo is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return json_text(value) if isinstance(value, Mapping | list | tuple) else str(value)


def json_text(value: object) -> str:
    """Return a value as JSON: DECIMAL as a number with all its digits, NaN and the infinities as strings, bytes as hexadecimal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_string(_key(key))}: {json_text(cell)}" for key, cell in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_text, value)) + "]"
    is_number = isinstance(value, int | Decimal) or (isinstance(value, float) and math.isfinite(value))
    return plain_text(value) if is_number else _string(plain_text(value))


def _key(key: object) -> str:
    return json_text(key) if isinstance(key, bool) or key is None else plain_text(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_CONTROLS)
