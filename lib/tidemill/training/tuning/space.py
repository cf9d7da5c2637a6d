"""Points of a search space: drawn at random, or listed as a grid."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable

from tidemill.spec.models import FloatRange, IntRange, LogRange, Range, Scalar, Space

Params = dict[str, Scalar]

GRID_POINTS = 3


def draw_uniform(*key: object) -> float:
    """Return a number in [0, 1) that depends only on ``key``: the same in every process and version of Python."""
    text = "\x1f".join(map(str, key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2.0**56


def draw_point(space: Space, *key: object) -> Params:
    """Draw one point of the space.

    Each parameter is drawn from ``key`` and its own name only, so that adding one does not change the others.
    """
    return {name: _value_at(values, draw_uniform(*key, name)) for name, values in space.items()}


def list_grid(space: Space) -> list[Params]:
    """Return every point of the grid; the last parameter changes fastest.

    A list gives its values, a range three evenly spaced points from bound to bound (on the log scale for ``log``).
    """
    axes = [_list_values(values) for values in space.values()]
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*axes)]


def count_points(space: Space) -> float:
    """Return the number of distinct points of the space, infinity where a range is continuous."""
    return math.prod(_count_values(values) for values in space.values())


def _value_at(values: Range, u: float) -> Scalar:
    """Return the value at the share ``u`` of the range."""
    if isinstance(values, IntRange):
        low, high = values.int
        return low + math.floor(u * (high - low + 1))
    if isinstance(values, FloatRange):
        least, greatest = values.float
        return least + u * (greatest - least)
    if isinstance(values, LogRange):
        least, greatest = values.log
        return min(max(math.exp(math.log(least) + u * math.log(greatest / least)), least), greatest)
    return values[math.floor(u * len(values))] if isinstance(values, list) else values


def _list_values(values: Range) -> list[Scalar]:
    if isinstance(values, IntRange):
        low, high = values.int
        return _distinct(round(low + (high - low) * step / (GRID_POINTS - 1)) for step in range(GRID_POINTS))
    if isinstance(values, FloatRange):
        least, greatest = values.float
        return _distinct([least, (least + greatest) / 2, greatest])
    if isinstance(values, LogRange):
        least, greatest = values.log
        middle = min(max(math.sqrt(least) * math.sqrt(greatest), least), greatest)  # rounding may exceed a bound
        return _distinct([least, middle, greatest])
    return _distinct(values) if isinstance(values, list) else [values]


def _count_values(values: Range) -> float:
    if isinstance(values, IntRange):
        return values.int[1] - values.int[0] + 1
    if isinstance(values, FloatRange | LogRange):
        least, greatest = values.float if isinstance(values, FloatRange) else values.log
        return 1 if least == greatest else math.inf
    return len(_distinct(values)) if isinstance(values, list) else 1


def _distinct(values: Iterable[Scalar]) -> list[Scalar]:
    """Return each value once; True and 1 are distinct."""
    return list({(isinstance(value, bool), value): value for value in values}.values())
