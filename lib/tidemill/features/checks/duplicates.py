"""Columns that say the same twice: equal in every training row, or numbers that go along with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyspark.ml.feature import VectorAssembler
from pyspark.ml.stat import Correlation
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.features.checks.findings import Finding
from tidemill.features.checks.groups import MOST_ROWS
from tidemill.features.checks.profile import BINS, Profile, constant_columns, sampled
from tidemill.features.checks.subjects import Subjects

# The matrix of all pairs has the square of their number.
MOST_NUMBERS = 1000


def duplicates(codes: DataFrame, judged: Subjects, found: Profile, limit: float) -> list[Finding]:
    """Return a finding for each column that is equal to an earlier one, or correlates with it by at least ``limit``.

    A number's nulls count as its median. Where rows are many, correlations are those of a share of them.
    """
    constant = {name for name, _ in constant_columns(found)}
    equal = list(_equal(judged, found, constant))
    said = {finding.column for finding in equal}
    places = {name: place for place, name in enumerate(judged.numbers)}
    return equal + list(_correlated(codes, places, [name for name in judged.numbers if name not in constant | said], found, limit))


def _equal(judged: Subjects, found: Profile, constant: set[str]) -> Iterator[Finding]:
    first: dict[int, str] = {}
    for name in judged.all:
        mark = found.columns[name].get("hash")
        if mark is None or name in constant:
            continue
        if mark in first:
            message = f"{name} is equal to {first[mark]} in every training row; one of them is enough"
            yield Finding("duplicate", name, "equal rows", 1.0, 1.0, "warn", message, first[mark])
        first.setdefault(mark, name)


def _correlated(codes: DataFrame, places: Mapping[str, int], numbers: list[str], found: Profile, limit: float) -> Iterator[Finding]:
    numbers = [name for name in numbers if found.columns[name]["bins"]][:MOST_NUMBERS]
    if len(numbers) < 2:
        return
    medians = [found.columns[name]["bins"][BINS // 2 - 1] for name in numbers]
    short = [f"c{places[name]}" for name in numbers]
    filled = [F.coalesce(F.col(column), F.lit(median)).alias(column) for median, column in zip(medians, short, strict=True)]
    vectors = (
        VectorAssembler(inputCols=short, outputCol="v").transform(sampled(codes, found.learned, MOST_ROWS).select(*filled)).select("v")
    )
    matrix = Correlation.corr(vectors, "v").collect()[0][0].toArray()
    for place, name in enumerate(numbers):
        earlier = max(range(place), key=lambda other: abs(matrix[place, other]), default=None)
        if earlier is not None and abs(matrix[place, earlier]) >= limit:
            value = float(matrix[place, earlier])
            message = f"{name} and {numbers[earlier]} are near-duplicates (correlation {value:.4f}); one of them is enough"
            yield Finding("duplicate", name, "correlation", value, limit, "warn", message, numbers[earlier])
