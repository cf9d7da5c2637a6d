"""Records told apart by one condition: those that it finds plain take no closer look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame

IS_PLAIN = " is_plain"


@dataclass(frozen=True)
class Quick:
    """A cheap way to the records of some files, most of which are good.

    ``frame`` has one row per physical record: the columns of the schema, ``_source_file``, ``_source_row_hash``, ``_rescued``,
    ``IS_PLAIN``, and what ``closely`` takes. Where ``IS_PLAIN`` is true a closer look would find the record good, with these very values;
    it may be null. ``closely`` makes of rows of ``frame`` what ``Records.frame`` has for them. ``rows`` tells how many rows ``frame`` had
    when it was first read; so many ``headers`` are among them for sure, which are never plain.
    """

    frame: DataFrame
    closely: Callable[[DataFrame], DataFrame]
    rows: Callable[[], int]
    headers: int = 0
