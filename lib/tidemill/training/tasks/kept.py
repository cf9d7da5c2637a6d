"""What a Python worker keeps from one task to the next: a few things that took long to make."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made")

_MOST = 4
_KEPT: OrderedDict[str, Any] = OrderedDict()


def kept(key: str, make: Callable[[], Made]) -> Made:
    """Return what ``make`` gave for ``key``, making it where it is not among the last few; an empty key keeps nothing."""
    if not key:
        return make()
    if key not in _KEPT:
        while len(_KEPT) >= _MOST:
            _KEPT.popitem(last=False)
        _KEPT[key] = make()
    _KEPT.move_to_end(key)
    made: Made = _KEPT[key]
    return made
