"""The declared groups against the columns of a frame: all faults at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.errors import Fault, SpecError, did_you_mean
from tidemill.features.kinds import group_of, is_reserved, one_row
from tidemill.features.names import OF_THE_DAY, number_sql
from tidemill.features.scalars import powers
from tidemill.spec.models import GROUPS, Array, Datetime, Features

_NUMBERS = ("numeric", "boolean", "string")
_PLAIN = ("numeric", "boolean", "string", "datetime")
# What a group's columns may hold; None: anything.
_ALLOWED: dict[str, Collection[str] | None] = {
    "numeric": _NUMBERS,
    "boolean": _NUMBERS,
    "categorical": None,
    "datetime": ("datetime", "string"),
    "array": ("words", "numbers"),
    "text": ("string",),
    "buckets": _NUMBERS,
    "interactions": _PLAIN,
    "polynomial": _NUMBERS,
    "pca": _NUMBERS,
    "hashing": _PLAIN,
}
_EXPECTED = {
    "datetime": "TIMESTAMP or DATE", "array": "ARRAY of STRING or of numbers", "text": "STRING", "boolean": "BOOLEAN",
    "interactions": "a number, STRING or BOOLEAN", "hashing": "a number, STRING or BOOLEAN",
}  # fmt: skip
# More products than this are no features any more, but a search of its own.
MOST_PRODUCTS = 2000
# Lists of more numbers than this are summed up, unless slots are asked for.
MOST_PLACES = 256


def declared_groups(features: Features, df: DataFrame, exclude: Collection[str]) -> tuple[dict[str, Any], list[str], dict[str, int]]:
    """Return the groups with each column once, notes, and the lengths of lists that all have one; ``df`` is read once at most.

    Raises:
        SpecError: a declared column is not there, is excluded, or has a type that does not fit.
    """
    faults = [fault for group in GROUPS for fault in _group_faults(features, group, df, exclude)]
    if not faults:
        for block in features.blocks("datetime"):
            faults += _hours_of_dates(df, block)
        for block in features.blocks("polynomial"):
            many = len(powers(block.columns, block.degree))
            if many > MOST_PRODUCTS:
                message = f"{many:,} products, expected at most {MOST_PRODUCTS:,}; name fewer columns or lower `degree`"
                faults.append(_fault("polynomial", message))
        for block in features.blocks("array"):
            faults += _unfit_encoding(df, block)
    if faults:
        raise SpecError(faults)
    groups = {group: tuple(_once(block) for block in features.blocks(group)) or None for group in GROUPS}
    groups = {group: blocks[0] if blocks and len(blocks) == 1 else blocks for group, blocks in groups.items()}
    return groups, *_profiled(features, df)


def _group_faults(features: Features, group: str, df: DataFrame, exclude: Collection[str]) -> list[Fault]:
    usable = [name for name in df.columns if not is_reserved(name, exclude)]
    key = "pairs" if group == "interactions" else "columns"
    found = []
    for block in features.blocks(group):
        for name in block.columns:
            message = _unfit(df, name, exclude, usable, group)
            if message:
                found.append(_fault(f"{group}.{key}", message))
    return found


def _unfit(df: DataFrame, name: str, exclude: Collection[str], usable: Collection[str], group: str) -> str | None:
    """Return why the column cannot be in the group, None where it can."""
    if name not in df.columns:
        return f"column {name!r} is not in the dataset{did_you_mean(name, usable)}"
    if is_reserved(name, exclude):
        return f"column {name!r} is a key, the label, excluded, or one that tidemill adds (split, _source_file …); it cannot be a feature"
    kind, allowed = df.schema[name].dataType, _ALLOWED[group]
    if allowed is not None and group_of(kind) not in allowed:
        expected = _EXPECTED.get(group, "a number or a boolean")
        return f"column {name!r} is of type {kind.simpleString()}; expected {expected}: CAST it in the SQL, or move it to another group"
    return None


def _hours_of_dates(df: DataFrame, group: Datetime) -> list[Fault]:
    """Return a fault for each DATE of which only parts of a day are wanted: there are none."""
    if set(group.parts) - OF_THE_DAY:
        return []
    dates = [name for name in group.columns if isinstance(df.schema[name].dataType, T.DateType)]
    wanted = " or ".join(group.parts)
    return [_fault("datetime.parts", f"column {name!r} is a DATE and has no {wanted}; add weekday or month") for name in dates]


def _unfit_encoding(df: DataFrame, block: Array) -> list[Fault]:
    """Return a fault for each list whose values cannot be encoded as is asked."""
    wanted = {"slots": "numbers", "summary": "numbers", "multihot": "words", "hashing": "words"}.get(block.encode)
    wrong = [name for name in block.columns if wanted and group_of(df.schema[name].dataType) != wanted]
    expected = "numbers" if wanted == "numbers" else "text"
    return [_fault("array.encode", f"{block.encode} is for lists of {expected}; column {name!r} is none; write `auto`") for name in wrong]


def _profiled(features: Features, df: DataFrame) -> tuple[list[str], dict[str, int]]:
    """Return notes on columns without a number, and the lengths of those lists of numbers that get a slot for each place."""
    impute = {name: block.impute for block in features.blocks("numeric") for name in block.columns}
    lists = {
        name: block.encode
        for block in features.blocks("array")
        for name in block.columns
        if block.encode != "summary" and group_of(df.schema[name].dataType) == "numbers"
    }
    if not impute and not lists:
        return [], {}
    counts = [F.count(F.expr(number_sql(name))) for name in impute]
    lengths = [figure(F.size(column(name))) for name in lists for figure in (F.min, F.max)]
    _, found = one_row(df, [*counts, *lengths])
    empty = [name for name, count in zip(impute, found, strict=False) if not count and impute[name] != "none"]
    notes = [f"{name} holds no number; {0 if isinstance(impute[name], str) else impute[name]} stands in for it" for name in empty]
    sizes = {}
    for place, (name, encode) in enumerate(lists.items()):
        low, high = found[len(counts) + 2 * place : len(counts) + 2 * place + 2]
        if low == high and low and int(str(low)) <= (MOST_PLACES if encode == "auto" else MOST_PRODUCTS):
            sizes[name] = int(str(low))
        elif encode == "slots":
            message = f"lists of column {name!r} have {low} to {high} numbers, expected one length of at most {MOST_PRODUCTS:,}"
            raise SpecError([_fault("array.encode", f"{message}; write `summary`")])
    return notes, sizes


def _once(block: Any) -> Any:
    if not isinstance(getattr(type(block), "columns", None), property):
        return block.model_copy(update={"columns": list(dict.fromkeys(block.columns))})
    return block


def _fault(key: str, message: str) -> Fault:
    return Fault("pipeline.yml", None, f"features.{key}" if key else "features", message)
