"""Statistics of the label: its classes and their rows, or its mean and variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.spec.models import Dataset
from tidemill.tasks import TaskKind


@dataclass(frozen=True)
class LabelStatistics:
    """The label in the training rows; ``counts`` are rows per class (empty for a regression, and without a label)."""

    name: str
    kind: TaskKind
    rows: int
    counts: Mapping[object, int]
    mean: float
    variance: float

    @property
    def greatest(self) -> object:
        """The class that counts as 1."""
        return max(self.counts)  # type: ignore[type-var]

    @property
    def most(self) -> object:
        """The most frequent class."""
        return max(self.counts, key=lambda value: (self.counts[value], str(value)))

    @property
    def share_of_one(self) -> float:
        """The share of rows of the class that counts as 1."""
        return self.counts[self.greatest] / self.rows

    def number(self) -> Column:
        """Return the label as a DOUBLE: itself, or 1 for the greater of two classes; null where there is none.

        Without a label it is 0 in every row, so that every training row counts as labelled.
        """
        if not self.name:
            return F.lit(0.0)
        label = column(self.name)
        return label.cast("double") if self.kind.predicts_number else (label == F.lit(self.greatest)).cast("double")


def read_label_statistics(marked: DataFrame, dataset: Dataset, kind: TaskKind) -> LabelStatistics:
    """Return the label's statistics over the labelled training rows, in one aggregate of at most a thousand groups.

    A label that the task does not use counts as none, as does an anomaly label with one value in the training rows.
    """
    if dataset.label is None or not (kind.learns_label or kind.label_judges):
        return LabelStatistics("", kind, 0, {}, 0.0, 0.0)
    if kind.label_judges:
        target = read_label_statistics(marked, dataset, TaskKind.BINARY)
        return target if len(target.counts) == 2 else LabelStatistics("", kind, 0, {}, 0.0, 0.0)
    label = column(dataset.label)
    learned = marked.where((F.col("split") == "train") & label.isNotNull())
    if kind.predicts_number:
        number = label.cast("double")
        row = learned.agg(F.count("*").alias("n"), F.avg(number).alias("mean"), F.var_pop(number).alias("variance")).collect()[0]
        return LabelStatistics(dataset.label, kind, row["n"], {}, row["mean"] or 0.0, row["variance"] or 0.0)
    counts = {row["label"]: row["n"] for row in learned.groupBy(label.alias("label")).agg(F.count("*").alias("n")).collect()}
    return LabelStatistics(dataset.label, kind, sum(counts.values()), counts, 0.0, 0.0)
