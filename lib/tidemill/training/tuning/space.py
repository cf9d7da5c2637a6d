"""Search spaces: the points of a declared space, drawn at random or laid out as a grid."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable

from tidemill.spec.models import FloatRange, IntRange, LogRange, Range, Scalar, Space

Params = dict[str, Scalar]

GRID_POINTS = 3


def uniform(*key: object) -> float:
    """Return a number in [0, 1) that depends on nothing but ``key``: the same in every process and version of Python."""
    text = "\x1f".join(map(str, key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2.0**56


def draw(space: Space, *key: object) -> Params:
    """Return one point of the space.

    Each parameter is drawn by itself from ``key`` and its own name, so that adding one does not move the others.
    """
    return {name: _at(values, uniform(*key, name)) for name, values in space.items()}


def grid(space: Space) -> list[Params]:
    """Return every point of the grid, the last parameter moving fastest.

    Choices are taken as they are; a range becomes three points from bound to bound, evenly spread (over the logarithms for ``log``).
    """
    axes = [_axis(values) for values in space.values()]
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*axes)]


def size(space: Space) -> float:
    """Return how many different points the space has, infinity where a range is continuous."""
    return math.prod(_count(values) for values in space.values())


def _at(values: Range, u: float) -> Scalar:
    """Return the value that lies at the share ``u`` of the range."""
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


def _axis(values: Range) -> list[Scalar]:
    if isinstance(values, IntRange):
        low, high = values.int
        return _different(round(low + (high - low) * step / (GRID_POINTS - 1)) for step in range(GRID_POINTS))
    if isinstance(values, FloatRange):
        least, greatest = values.float
        return _different([least, (least + greatest) / 2, greatest])
    if isinstance(values, LogRange):
        least, greatest = values.log
        middle = min(max(math.sqrt(least) * math.sqrt(greatest), least), greatest)  # rounding may carry it past a bound
        return _different([least, middle, greatest])
    return _different(values) if isinstance(values, list) else [values]


def _count(values: Range) -> float:
    if isinstance(values, IntRange):
        return values.int[1] - values.int[0] + 1
    if isinstance(values, FloatRange | LogRange):
        least, greatest = values.float if isinstance(values, FloatRange) else values.log
        return 1 if least == greatest else math.inf
    return len(_different(values)) if isinstance(values, list) else 1


def _different(values: Iterable[Scalar]) -> list[Scalar]:
    """Return each value once; True and 1 are two."""
    return list({(isinstance(value, bool), value): value for value in values}.values())
