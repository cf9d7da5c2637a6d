"""Records told apart by one condition: those that it finds plain take no closer look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

IS_PLAIN = " is_plain"
_PLACE = " place"


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


def parsed_once(frame: DataFrame) -> DataFrame:
    """Return the frame so that no condition on its columns is asked before they are there.

    Spark would ask it as early as it can, and parse the record once more for each column that the condition names. It does not move
    anything to before a column that depends on a row's place; ``is_placed`` has to be part of the condition.
    """
    return frame.select("*", F.monotonically_increasing_id().alias(_PLACE))


def is_placed() -> Column:
    """Return true for every row of a frame that is ``parsed_once``."""
    return F.col(_PLACE) >= 0
