"""The one way to persist a frame: for the length of a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@contextmanager
def cached(df: DataFrame) -> Iterator[DataFrame]:
    """Persist ``df`` (memory, then disk) inside the block and free it behind it, also when the block raises."""
    df.persist()
    try:
        yield df
    finally:
        df.unpersist()
