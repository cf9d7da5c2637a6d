"""What a Parquet file says of its own columns, as Delta's log wants it told, so that readers can pass over files."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow.parquet as pq

_MOST_COLUMNS = 32
"""So many columns of a table have statistics, the first ones, as Delta has it."""
_LONGEST = 64
"""A text that is longer has no place in a log."""


def file_statistics(path: str, columns: Collection[str]) -> dict[str, object]:
    """Return number of rows, and by column smallest and greatest value and number of nulls, for those of ``columns`` that are not nested.

    They come from the file's footer, so no value is read. What has no order, or none that all readers agree on, has no bounds.

    Source: Delta's protocol, "Per-file Statistics".
    """
    footer = pq.read_metadata(path)
    least: dict[str, object] = {}
    greatest: dict[str, object] = {}
    nulls: dict[str, int] = {}
    wanted = set(columns)
    places = [place for place in range(footer.num_columns) if footer.schema.column(place).path in wanted]
    for place in places[:_MOST_COLUMNS]:
        name = footer.schema.column(place).path
        chunks = [footer.row_group(group).column(place).statistics for group in range(footer.num_row_groups)]
        if any(chunk is None or not chunk.has_null_count for chunk in chunks):
            continue
        nulls[name] = sum(chunk.null_count for chunk in chunks)
        bounded = [chunk for chunk in chunks if chunk.has_min_max]
        has_bounds = all(chunk.has_min_max or chunk.num_values == 0 for chunk in chunks)
        if bounded and has_bounds:
            low, high = min(chunk.min for chunk in bounded), max(chunk.max for chunk in bounded)
            told = _as_told(low), _as_told(high, is_greatest=True)
            if None not in told:
                least[name], greatest[name] = told
    return {"numRecords": footer.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _as_told(value: object, *, is_greatest: bool = False) -> object:
    """Return a bound as JSON has it, None where it cannot be told exactly enough; an instant is widened to the millisecond."""
    if isinstance(value, bool | bytes):
        return None
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Decimal):
        return float(value) if Decimal(repr(float(value))) == value else None
    if isinstance(value, datetime):
        rest = timedelta(microseconds=value.microsecond % 1000)
        value = value - rest + (timedelta(milliseconds=1) if is_greatest and rest else timedelta())
        local = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return local.isoformat(timespec="milliseconds") + ("Z" if value.tzinfo else "")
    return value.isoformat() if isinstance(value, date) else None
