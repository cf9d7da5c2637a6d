"""Where in its file a refused record begins: found by reading the files that have some once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from tidemill.column_names import ROW_HASH, SOURCE_FILE
from tidemill.sources.records import IS_HEADER, REPEATED_HEADER, SOURCE_LINE

BLOCK = " block"
PLACE = " place"
_BEFORE, _KEY, _NTH = " before", " key", " nth"


def numbered(raw: DataFrame) -> DataFrame:
    """Return raw lines with ``_source_line``, from 1, where they have ``BLOCK`` and ``PLACE`` (rising by one within a block).

    A file is read in blocks, each by one task; a line's number is its place in the block behind the lines of the blocks before.
    """
    blocks = raw.groupBy(SOURCE_FILE, BLOCK).agg(F.min(PLACE).alias("first"), F.count(F.lit(1)).alias("lines"))
    earlier = Window.partitionBy(SOURCE_FILE).orderBy(BLOCK).rowsBetween(Window.unboundedPreceding, -1)
    before = F.coalesce(F.sum("lines").over(earlier), F.lit(0)) - F.col("first") + 1
    starts = blocks.select(SOURCE_FILE, BLOCK, before.alias(_BEFORE))
    placed = raw.join(F.broadcast(starts), on=[SOURCE_FILE, BLOCK], how="inner")
    return placed.withColumn(SOURCE_LINE, F.col(PLACE) + F.col(_BEFORE)).drop(BLOCK, PLACE, _BEFORE)


def locate(refused: DataFrame, records: Callable[[Sequence[str]], DataFrame]) -> DataFrame:
    """Return refused records with ``_source_line``.

    ``records`` gives those of the named files: ``_source_file``, ``_source_row_hash``, ``IS_HEADER``, ``_source_line``. Records that
    are the same to the letter get a line each, in no order, as nothing tells them apart. The first line that is a file's header is
    none of the repeated ones, whose hash is that of the line that is named.
    """
    paths = sorted(row[SOURCE_FILE] for row in refused.select(SOURCE_FILE).distinct().collect())
    is_header = F.col("rules") == F.array(F.lit(REPEATED_HEADER))
    wanted = refused.select("*", _key(is_header)).withColumn(_NTH, _nth(ROW_HASH))
    found = records(paths).select(SOURCE_FILE, ROW_HASH, SOURCE_LINE, IS_HEADER, _key(F.col(IS_HEADER)))
    found = found.join(wanted.select(SOURCE_FILE, _KEY).distinct(), on=[SOURCE_FILE, _KEY], how="left_semi")
    nth = _nth(SOURCE_LINE) - F.col(IS_HEADER).cast("int")
    places = found.select(SOURCE_FILE, _KEY, F.col(ROW_HASH).alias(" hash"), F.col(SOURCE_LINE).cast("bigint"), nth.alias(_NTH))
    located = wanted.join(places, on=[SOURCE_FILE, _KEY, _NTH], how="left")
    columns = [F.coalesce(F.col(" hash"), F.col(name)).alias(name) if name == ROW_HASH else F.col(name) for name in refused.columns]
    return located.select(*columns, SOURCE_LINE)


def _key(is_header: Column) -> Column:
    """Return what tells records of a file apart: the hash; repeated headers may differ in a byte order mark, and are all one."""
    return F.when(is_header, F.lit("header")).otherwise(F.col(ROW_HASH)).alias(_KEY)


def _nth(order: str) -> Column:
    return F.row_number().over(Window.partitionBy(SOURCE_FILE, _KEY).orderBy(order))
