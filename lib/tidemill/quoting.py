"""Names and values as SQL text, and the paths of tables."""

from __future__ import annotations

import math
import re

from tidemill.errors import UsageError

LAYERS = ("bronze", "silver", "gold", "ops")
_PART = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")


def split_name(table: str) -> tuple[str, str]:
    """Return layer and name of ``layer.name``.

    Raises:
        UsageError: the name is not one of a lake's tables.
    """
    layer, _, name = table.partition(".")
    if layer not in LAYERS or not _PART.match(name):
        raise UsageError(f"{table!r} is not a table of the lake; write <layer>.<name>, the layer one of {', '.join(LAYERS)}")
    return layer, name


def quote_name(path: str) -> str:
    """Return ``path`` between backticks, safe to use in SQL."""
    return "`" + path.replace("`", "``") + "`"


def format_double(value: float) -> str:
    """Return SQL for a DOUBLE that is exactly ``value``: Spark has no digits for infinities and NaN."""
    number = float(value)  # not the name of a type of NumPy's
    if not math.isfinite(number):
        return f"double('{'NaN' if math.isnan(number) else 'Infinity' if number > 0 else '-Infinity'}')"
    return f"({number!r}D)" if math.copysign(1.0, number) < 0 else f"{number!r}D"


def is_local(root: str) -> bool:
    """Return True where ``root`` is a path of this machine's file system."""
    return "://" not in root


def name_batch_app(source: str) -> str:
    """Return the id under which Delta counts the batches of a source in its bronze table."""
    return f"tidemill/ingest/{source}"
