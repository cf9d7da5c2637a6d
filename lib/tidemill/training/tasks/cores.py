"""How many cores a task uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_core() -> Iterator[None]:
    """Keep libraries to the one core that a task has: their own threads would take those of other tasks."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
