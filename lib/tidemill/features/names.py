"""The columns that feature stages make on their way, and the SQL behind the first of them.

A name such as ``_f_linear_distance`` says who made it and from which column; the column's own name can be read back from it, so that a
model loaded from anywhere can name its slots.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tidemill.quoting import format_double, quote_name

PREFIX = "_f_"
OTHER = "(other)"
MISSING = "(missing)"
# The part of the training rows that a row lies in, where there are rows that must not see their own label.
PART = "_tidemill_part"
PARTS = 5
_EMPTY = "(empty)"

# How long one turn of a calendar part is; a part that is not here does not come round again.
PERIODS = {"quarter": 4, "month": 12, "week": 53, "day": 31, "weekday": 7, "yearday": 366, "hour": 24, "minute": 60}
_PARTS = {
    "year": "year({0})",
    "quarter": "quarter({0})",
    "month": "month({0})",
    "week": "weekofyear({0})",
    "day": "day({0})",
    "weekday": "weekday({0})",
    "yearday": "dayofyear({0})",
    "hour": "hour({0})",
    "minute": "minute({0})",
}


def internal(role: str, name: str) -> str:
    """Return the name of the column that ``role`` (a word without ``_``) makes of ``name``; MLlib cannot take dots and backticks in it."""
    return f"{PREFIX}{role}_{name.replace('%', '%25').replace('.', '%2E').replace('`', '%60')}"


def original(column: str) -> str:
    """Return the name that ``internal`` was given; any other name as it is."""
    if not column.startswith(PREFIX):
        return column
    name = column.removeprefix(PREFIX).partition("_")[2]
    return name.replace("%60", "`").replace("%2E", ".").replace("%25", "%")


def role_of(column: str) -> str:
    """Return the role that ``internal`` was given."""
    return column.removeprefix(PREFIX).partition("_")[0]


def number_sql(name: str) -> str:
    """Return SQL for the column as a DOUBLE; null for null, NaN, infinity, and text that is no number."""
    value = f"try_cast({quote_name(name)} AS DOUBLE)"
    return f"CASE WHEN abs({value}) < double('Infinity') THEN {value} END"


def readable_sql(name: str, sql_type: str) -> str:
    """Return SQL that is true where the column's value can be cast to the type; null counts as unreadable."""
    return f"(try_cast({quote_name(name)} AS {sql_type}) IS NOT NULL)"


def boolean_sql(name: str) -> str:
    """Return SQL for the column as 1 or 0; null for null, and for text that is neither true nor false."""
    return f"CAST(try_cast({quote_name(name)} AS BOOLEAN) AS DOUBLE)"


def category_sql(name: str) -> str:
    """Return SQL for the column as a STRING; MLlib cannot name a category with an empty string."""
    return f"CASE WHEN CAST({quote_name(name)} AS STRING) = '' THEN '{_EMPTY}' ELSE CAST({quote_name(name)} AS STRING) END"


def known_sql(category: str) -> str:
    """Return SQL for a category in which null is a value like others."""
    return f"coalesce({category}, '{MISSING}')"


def part_sql(name: str, part: str) -> str:
    """Return SQL for a calendar part as a DOUBLE: weekday 0 is Monday, yearday and month count from 1; null where there is no instant."""
    return f"CAST({_PARTS[part].format(f'try_cast({quote_name(name)} AS TIMESTAMP)')} AS DOUBLE)"


def turn_sql(column: str, part: str, function: str) -> str:
    """Return SQL for the sine or cosine (``function``) of a part on its circle; 0, the circle's centre, where it is null."""
    return f"coalesce({function}({quote_name(column)} * {format_double(2 * math.pi / PERIODS[part])}), 0.0D)"


def numbers_sql(values: Iterable[float]) -> str:
    """Return SQL for a list of numbers, which the parser takes for one word, however many they are."""
    return f"CAST(split('{' '.join(repr(float(value)) for value in values)}', ' ') AS ARRAY<DOUBLE>)"


def short(value: float) -> str:
    """Return a number as people write it."""
    return f"{value:.0f}" if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(value)
