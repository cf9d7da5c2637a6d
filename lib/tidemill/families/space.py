"""Search spaces: for each parameter a fixed value, a list of choices, or a range."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from tidemill.options import Block, Scalar

__all__ = ["FloatRange", "IntRange", "LogRange", "Range", "Scalar", "Space", "are_counts", "extreme_values"]

Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]


class LogRange(Block):
    """Real numbers between two bounds, evenly spread over their logarithms."""

    log: Bounds


class IntRange(Block):
    """Whole numbers between two bounds, both included."""

    int: Annotated[list[int], Field(min_length=2, max_length=2)]


class FloatRange(Block):
    """Real numbers between two bounds."""

    float: Bounds


def _range_kind(value: object) -> str:
    if isinstance(value, dict):
        return next((kind for kind in ("int", "float") if kind in value), "log")
    if isinstance(value, Block):
        return {LogRange: "log", IntRange: "int", FloatRange: "float"}[type(value)]
    return "choices" if isinstance(value, list) else "fixed"


Range = Annotated[
    Annotated[LogRange, Tag("log")]
    | Annotated[IntRange, Tag("int")]
    | Annotated[FloatRange, Tag("float")]
    | Annotated[list[Scalar], Field(min_length=1), Tag("choices")]
    | Annotated[Scalar, Tag("fixed")],
    Discriminator(_range_kind),
]
Space = dict[str, Range]


def extreme_values(values: Range) -> list[Scalar]:
    """Return values that must have the parameter's type: the bounds of a range and a number between real bounds, or every choice."""
    if isinstance(values, IntRange):
        return list(values.int)
    if isinstance(values, FloatRange | LogRange):
        bounds = values.float if isinstance(values, FloatRange) else values.log
        return [bounds[0] + 0.5 * (bounds[1] - bounds[0]) + 1e-9, *bounds]
    return list(values) if isinstance(values, list) else [values]


def are_counts(values: Range) -> bool:
    """Return True where all values are whole numbers from 1."""
    if isinstance(values, IntRange):
        return values.int[0] >= 1
    each = values if isinstance(values, list) else [values]
    return all(isinstance(value, int) and not isinstance(value, bool) and value >= 1 for value in each)
