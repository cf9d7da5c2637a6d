"""Names of columns: those that tidemill adds itself, and those that a table gives to what files call otherwise. Needs no Spark."""

from __future__ import annotations

import re
from collections.abc import Sequence

SOURCE_FILE = "_source_file"
ROW_HASH = "_source_row_hash"
INGESTED_AT = "_ingested_at"
BATCH_ID = "_batch_id"
RESCUED = "_rescued"

PROVENANCE = (SOURCE_FILE, ROW_HASH, INGESTED_AT, BATCH_ID, RESCUED)
"""The columns that ingest adds to a bronze table."""

INTERNAL = "_tidemill"
"""What the names of columns begin with that exist only while a step runs."""

_TOLD = 5
_NOT_FOR_DELTA = re.compile(r"[ ,;{}()\n\t=]")


def is_added(name: str) -> bool:
    """Return True for a column that tidemill adds itself; any other name is the data's own, one with ``_`` in front too."""
    lower = name.lower()
    return lower in PROVENANCE or lower.startswith(INTERNAL)


def list_table_columns(headers: Sequence[str]) -> list[str]:
    """Return the names that a table gives to columns with these headers, in order.

    Each character that Delta refuses (space, comma, semicolon, braces, brackets, equals sign, tab, line end) becomes ``_``; an empty
    header is named by its position, ``_c0`` for the first.
    """
    return [_NOT_FOR_DELTA.sub("_", header) or f"_c{place}" for place, header in enumerate(headers)]


def rename_columns(headers: Sequence[str]) -> dict[str, str]:
    """Return the table's name of each header that it does not keep as it is."""
    return {header: name for header, name in zip(headers, list_table_columns(headers), strict=True) if header != name}


def describe_renamings(headers: Sequence[str]) -> tuple[str, ...]:
    """Return a remark on the columns that a table calls otherwise than their headers; none where there is none."""
    renamed = [f"{header!r} is {name}" for header, name in rename_columns(headers).items()]
    more = f" and {len(renamed) - _TOLD} more" if len(renamed) > _TOLD else ""
    return (
        (f"columns renamed, as a table takes no space or any of ,;{{}}()= in a name: {', '.join(renamed[:_TOLD])}{more}",)
        if renamed
        else ()
    )
