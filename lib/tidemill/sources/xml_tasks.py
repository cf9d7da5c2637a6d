"""XML files handed to Spark's tasks: several small ones to each, a large one to one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from tidemill.sources.files import SourceFile
from tidemill.sources.xml_batches import Work, XmlForm

_TOGETHER = 4 << 20
_LARGEST_AWAY = (1 << 31) - 1


def within_reach(files: Sequence[SourceFile]) -> tuple[list[SourceFile], dict[str, str]]:
    """Return the files that a task can read, and the reason for each that none can."""
    bad = {
        file.path: f"it has {file.size} bytes, and one that is not on this machine's file system may have 2 GB; split it, or copy it here"
        for file in files
        if not file.is_local and file.size > _LARGEST_AWAY
    }
    return [file for file in files if file.path not in bad], bad


def worked(
    spark: SparkSession, files: Sequence[SourceFile], form: XmlForm, work: Callable[[XmlForm], Work], schema: T.StructType
) -> DataFrame:
    """Return what the tasks make of the files."""
    near, far = [file for file in files if file.is_local], [file for file in files if not file.is_local]
    parts = []
    if near:
        groups = tuple(_grouped(near))
        parts.append(spark.range(0, len(groups), 1, len(groups)).mapInArrow(work(replace(form, groups=groups)), schema))
    if far:
        reader = spark.read.format("binaryFile").options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
        parts.append(reader.load([file.uri for file in far]).select("path", "content").mapInArrow(work(form), schema))
    return reduce(DataFrame.unionByName, parts)


def _grouped(files: Sequence[SourceFile]) -> Iterator[tuple[tuple[str, str], ...]]:
    group: list[tuple[str, str]] = []
    size = 0
    for file in files:
        if group and size + file.size > _TOGETHER:
            yield tuple(group)
            group, size = [], 0
        group.append((file.path, file.readable))
        size += file.size
    yield tuple(group)
