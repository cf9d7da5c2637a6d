"""How often each value of each categorical column occurs, and with which label: one aggregate for all columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.errors import StepError
from tidemill.features.fit_cache import SET
from tidemill.features.names import PART, PARTS

LABEL = "label"


@dataclass(frozen=True)
class Label:
    """The column ``label`` DOUBLE: the index of one of ``classes``, or a number if there are no classes."""

    classes: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """True if the label is a number."""
        return not self.classes

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of a column's slots: one slot for a number or two classes, else one per class."""
        return [""] if len(self.classes) <= 2 else [f"={name}" for name in self.classes]

    @property
    def means(self) -> list[Column]:
        """What is averaged for each suffix: the number, or whether the row is of the class (for two classes: the second)."""
        label = F.col(LABEL)
        if self.is_number:
            return [label]
        indices = [1] if len(self.classes) == 2 else range(len(self.classes))
        return [(label == index).cast("double") for index in indices]


def label_of(df: DataFrame, names: Sequence[str]) -> Label:
    """Return the label of ``df``; its metadata give the number of classes, and ``names`` their names.

    Raises:
        StepError: there is no label.
    """
    if LABEL not in df.columns:
        raise StepError("features that are learnt from the label need the column `label`; these rows have none")
    count = int(df.schema[LABEL].metadata.get("ml_attr", {}).get("num_vals", 0))
    return Label(tuple(names) if len(names) == count else tuple(str(index) for index in range(count)))


# The most values per column that are collected on the driver, the most frequent ones first.
MAX_VALUES = 50_000
# The most numbers, over all sets, that are collected on the driver.
_MAX_FIGURES = 25_000_000
# The most classes for label means, of which there is one per class and value.
MAX_MEAN_CLASSES = 50


@dataclass(frozen=True)
class ValueCounts:
    """The values of one column, the most frequent first, ties by text, and the rows of each.

    ``by_part`` has, for each value and part, the rows and then the sums to average; it is empty if no label is used.
    """

    values: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    by_part: np.ndarray = field(default_factory=lambda: np.zeros((0, PARTS, 0)))

    def frequent(self, least: int, most: int) -> list[int]:
        """Return the places of the values that occur in at least ``least`` rows, at most ``most`` of them."""
        return [place for place, rows in enumerate(self.rows[:most]) if rows >= least]


@dataclass(frozen=True)
class CountedColumn:
    """A column to count: of text, or of lists of text (``is_list``); ``by_label`` is True for label means."""

    name: str
    is_list: bool = False
    by_label: bool = False


@dataclass(frozen=True)
class Totals:
    """Totals over all rows: for each part the rows and then the sums to average, and the suffixes of the averages."""

    by_part: np.ndarray
    suffixes: Sequence[str]


def has_few_counts(counted_columns: Sequence[CountedColumn], label: Label | None, sets: int) -> bool:
    """Return True if the driver can hold the counts of ``sets`` sets of rows at once, however many values the columns have."""
    sums = len(label.means) if label is not None and _counts_by_label(counted_columns) else 0
    return sets * len(counted_columns) * (2 + (PARTS * (1 + sums) if sums else 0)) * MAX_VALUES <= _MAX_FIGURES


def count_values(
    df: DataFrame, counted_columns: Sequence[CountedColumn], label: Label | None, within: Column | None = None
) -> dict[int, tuple[list[ValueCounts], Totals]]:
    """Return the counts of each column and of all rows, by set. Null is no value.

    ``within`` gives the sets that a row is in, as an array computed from its ``fold``. Without it, all rows are set 0.

    Raises:
        StepError: label means are needed, and there are too many classes, or the rows have no part.
    """
    if not counted_columns:
        return {0: ([], Totals(np.zeros((PARTS, 1)), ()))}
    has_label = label is not None and _counts_by_label(counted_columns)
    summed = _label_sums(df, label) if has_label and label is not None else []
    # The totals are counted as a value of place -1, in the same aggregate.
    every = [F.struct(F.lit(-1).alias("place"), F.lit("").alias("value"))] if has_label else []
    each = [_values_of_row(place, counted_column) for place, counted_column in enumerate(counted_columns)]
    parts = [F.col(PART).cast("int").alias("part")] if has_label else []
    sums = [value.alias(f"y{place}") for place, value in enumerate(summed)]
    folds = [] if within is None else ["fold"]
    values = df.select(F.explode(F.concat(F.array(*every), *each) if every else F.concat(*each)).alias("each"), *parts, *sums, *folds)
    values = values.select("each.place", "each.value", *[name for name in values.columns if name != "each"]).where("value IS NOT NULL")
    counted = values.groupBy(*folds, "place", "value").agg(F.count("*").alias("n"), *_part_sums(len(summed), has_label))
    if within is None:
        counted = counted.withColumn(SET, F.lit(0))
    else:  # each fold is counted once, and the counts are summed for each set
        added = [F.sum(name).alias(name) for name in counted.columns if name not in ("fold", "place", "value")]
        counted = counted.withColumn(SET, F.explode(within)).groupBy(SET, "place", "value").agg(*added)
    frequent_first = Window.partitionBy(SET, "place").orderBy(F.desc("n"), "value")
    ranked = counted.withColumn("rank", F.row_number().over(frequent_first)).where(F.col("rank") <= MAX_VALUES)
    table = ranked.orderBy(SET, "place", "rank").toArrow()
    suffixes = label.suffixes if has_label and label is not None else ()
    by_set = {}
    for number in [0] if within is None else pc.unique(table.column(SET)).to_pylist():
        of_set = table.filter(pc.equal(table.column(SET), number))
        counts, everything = _split_counts(of_set, len(counted_columns), len(summed), has_label)
        by_set[number] = counts, Totals(everything, suffixes)
    return by_set


def _counts_by_label(counted_columns: Sequence[CountedColumn]) -> bool:
    return any(counted_column.by_label for counted_column in counted_columns)


def _label_sums(df: DataFrame, label: Label) -> list[Column]:
    if len(label.classes) > MAX_MEAN_CLASSES:
        raise StepError(
            f"features.categorical: `encode: target` makes one slot per class, and the label has {len(label.classes)}, expected at most "
            f"{MAX_MEAN_CLASSES}; write `encode: hashing` or `count`"
        )
    if PART not in df.columns:
        raise StepError(f"features.categorical: `encode: target` needs the column {PART} in the rows that it is fitted on; report this")
    return label.means


def _value(place: int, value: Column) -> Column:
    return F.struct(F.lit(place).alias("place"), value.alias("value"))


def _values_of_row(place: int, counted_column: CountedColumn) -> Column:
    """Return the values of a row as an array; of a text, one."""
    value = column(counted_column.name)
    return F.transform(value, partial(_value, place)) if counted_column.is_list else F.array(_value(place, value))


def _part_sums(sums: int, has_label: bool) -> list[Column]:
    if not has_label:
        return []
    figures = []
    for part in range(PARTS):
        is_part = F.col("part") == part
        figures.append(F.count_if(is_part).cast("double").alias(f"p{part}"))
        figures += [F.coalesce(F.sum(F.when(is_part, F.col(f"y{place}"))), F.lit(0.0)).alias(f"p{part}_{place}") for place in range(sums)]
    return figures


def _split_counts(table: pa.Table, counted_columns: int, sums: int, has_label: bool) -> tuple[list[ValueCounts], np.ndarray]:
    width = sums + 1
    names = [f"p{part}{suffix}" for part in range(PARTS) for suffix in ("", *(f"_{place}" for place in range(sums)))]
    by_part = np.zeros((0, PARTS, 1))
    if has_label:
        by_part = np.stack([table.column(name).to_numpy() for name in names], axis=1).reshape(-1, PARTS, width)
    places, values, rows = table.column("place").to_numpy(), table.column("value").to_pylist(), table.column("n").to_pylist()
    counts = []
    for counted_column in range(counted_columns):
        at = np.flatnonzero(places == counted_column)
        counts.append(ValueCounts([values[place] for place in at], [rows[place] for place in at], by_part[at] if has_label else by_part))
    everything = by_part[places == -1] if has_label else by_part
    return counts, everything[0] if len(everything) else np.zeros((PARTS, width))
