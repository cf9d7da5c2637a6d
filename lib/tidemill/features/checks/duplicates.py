"""Duplicate columns: equal in every training row, or strongly correlated numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyspark.ml.feature import VectorAssembler
from pyspark.ml.stat import Correlation
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.features.checks.checked_columns import CheckedColumns
from tidemill.features.checks.column_statistics import BINS, CheckStatistics, find_constant_columns, sample_labelled_rows
from tidemill.features.checks.findings import Finding
from tidemill.features.checks.value_statistics import MAX_ROWS

# The correlation matrix grows with the square of this number.
MAX_NUMBERS = 1000


def find_duplicates(codes: DataFrame, checked: CheckedColumns, stats: CheckStatistics, limit: float) -> list[Finding]:
    """Return a finding for each column that is equal to an earlier one, or correlates with it by at least ``limit``.

    Nulls of a number count as its median. If there are many rows, correlations are computed on a sample.
    """
    constant = {name for name, _ in find_constant_columns(stats)}
    equal = list(_find_equal(checked, stats, constant))
    reported = {finding.column for finding in equal}
    places = {name: place for place, name in enumerate(checked.numbers)}
    return equal + list(
        _find_correlated(codes, places, [name for name in checked.numbers if name not in constant | reported], stats, limit)
    )


def _find_equal(checked: CheckedColumns, stats: CheckStatistics, constant: set[str]) -> Iterator[Finding]:
    first: dict[int, str] = {}
    for name in checked.all:
        mark = stats.columns[name].get("hash")
        if mark is None or name in constant:
            continue
        if mark in first:
            message = f"{name} is equal to {first[mark]} in every training row; one of them is enough"
            yield Finding("duplicate", name, "equal rows", 1.0, 1.0, "warn", message, first[mark])
        first.setdefault(mark, name)


def _find_correlated(
    codes: DataFrame, places: Mapping[str, int], numbers: list[str], stats: CheckStatistics, limit: float
) -> Iterator[Finding]:
    numbers = [name for name in numbers if stats.columns[name]["bins"]][:MAX_NUMBERS]
    if len(numbers) < 2:
        return
    medians = [stats.columns[name]["bins"][BINS // 2 - 1] for name in numbers]
    short = [f"c{places[name]}" for name in numbers]
    filled = [F.coalesce(F.col(column), F.lit(median)).alias(column) for median, column in zip(medians, short, strict=True)]
    vectors = (
        VectorAssembler(inputCols=short, outputCol="v")
        .transform(sample_labelled_rows(codes, stats.learned, MAX_ROWS).select(*filled))
        .select("v")
    )
    matrix = Correlation.corr(vectors, "v").collect()[0][0].toArray()
    for place, name in enumerate(numbers):
        earlier = max(range(place), key=lambda other: abs(matrix[place, other]), default=None)
        if earlier is not None and abs(matrix[place, earlier]) >= limit:
            value = float(matrix[place, earlier])
            message = f"{name} and {numbers[earlier]} are near-duplicates (correlation {value:.4f}); one of them is enough"
            yield Finding("duplicate", name, "correlation", value, limit, "warn", message, numbers[earlier])
