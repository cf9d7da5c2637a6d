"""The names of intermediate feature columns, and the SQL of the first ones.

A name such as ``_f_linear_distance`` gives a role and the raw column; the raw name can be read back from it, so that any
loaded model can name its slots.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tidemill.quoting import format_double, quote_name

PREFIX = "_f_"
OTHER = "(other)"
MISSING = "(missing)"
# The part of the training rows that a row belongs to, for features learnt from the label.
PART = "_tidemill_part"
PARTS = 5
_EMPTY = "(empty)"

# The period of each cyclic calendar part.
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


def internal_name(role: str, name: str) -> str:
    """Return the column name of ``role`` (a word without ``_``) for ``name``; dots and backticks, which MLlib rejects, are escaped."""
    return f"{PREFIX}{role}_{name.replace('%', '%25').replace('.', '%2E').replace('`', '%60')}"


def raw_name(column: str) -> str:
    """Return the raw name in the result of ``internal_name``; any other name unchanged."""
    if not column.startswith(PREFIX):
        return column
    name = column.removeprefix(PREFIX).partition("_")[2]
    return name.replace("%60", "`").replace("%2E", ".").replace("%25", "%")


def role_of(column: str) -> str:
    """Return the role in the result of ``internal_name``."""
    return column.removeprefix(PREFIX).partition("_")[0]


def number_sql(name: str) -> str:
    """Return SQL for the column as a DOUBLE; null for null, NaN, infinity, and text that is no number."""
    value = f"try_cast({quote_name(name)} AS DOUBLE)"
    return f"CASE WHEN abs({value}) < double('Infinity') THEN {value} END"


def readable_sql(name: str, sql_type: str) -> str:
    """Return SQL that is true where the value can be cast to the type; null counts as unreadable."""
    return f"(try_cast({quote_name(name)} AS {sql_type}) IS NOT NULL)"


def boolean_sql(name: str) -> str:
    """Return SQL for the column as 1 or 0; null for null, and for text that is neither true nor false."""
    return f"CAST(try_cast({quote_name(name)} AS BOOLEAN) AS DOUBLE)"


def category_sql(name: str) -> str:
    """Return SQL for the column as a STRING; an empty string, which MLlib rejects as a category, becomes (empty)."""
    return f"CASE WHEN CAST({quote_name(name)} AS STRING) = '' THEN '{_EMPTY}' ELSE CAST({quote_name(name)} AS STRING) END"


def category_or_missing_sql(category: str) -> str:
    """Return SQL for a category in which null is the value (missing)."""
    return f"coalesce({category}, '{MISSING}')"


def part_sql(name: str, part: str) -> str:
    """Return SQL for a calendar part as a DOUBLE: weekday 0 is Monday, yearday and month count from 1; null where there is no instant."""
    return f"CAST({_PARTS[part].format(f'try_cast({quote_name(name)} AS TIMESTAMP)')} AS DOUBLE)"


def cyclic_sql(column: str, part: str, function: str) -> str:
    """Return SQL for the sine or cosine (``function``) of a calendar part; 0, the centre of the circle, where it is null."""
    return f"coalesce({function}({quote_name(column)} * {format_double(2 * math.pi / PERIODS[part])}), 0.0D)"


def numbers_sql(values: Iterable[float]) -> str:
    """Return SQL for a list of numbers, written as one string literal, which parses fast however long it is."""
    return f"CAST(split('{' '.join(repr(float(value)) for value in values)}', ' ') AS ARRAY<DOUBLE>)"


def format_number(value: float) -> str:
    """Return a number as text, without decimals if it is whole."""
    return f"{value:.0f}" if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(value)
