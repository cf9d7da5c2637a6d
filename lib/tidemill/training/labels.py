"""The label as MLlib wants it: the index of its class, or its value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.lake.names import quoted
from tidemill.training.classes import class_metadata

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from tidemill.spec.models import Dataset

MOST_CLASSES = 1000


@dataclass(frozen=True)
class Labels:
    """The label column, its Spark type, and its classes in the order of their indices; None for a regression."""

    column: str
    type: str
    classes: tuple[object, ...] | None

    @property
    def n_classes(self) -> int:
        """The number of classes, 0 for a regression."""
        return len(self.classes or ())

    @property
    def positive(self) -> object:
        """The class of index 1 of two; None otherwise."""
        return self.classes[1] if self.classes is not None and len(self.classes) == 2 else None

    def encoded(self) -> Column:
        """Return ``label`` DOUBLE: the index of the class, with the number of classes in its metadata, or the value."""
        value = F.col(quoted(self.column))
        if self.classes is None:
            return value.cast("double").alias("label")
        classes = F.array(*[F.lit(label).cast(self.type) for label in self.classes])
        return (F.array_position(classes, value) - 1).cast("double").alias("label", metadata=class_metadata(self.n_classes))


def labelled(rows: DataFrame, declared: Dataset, task: str) -> DataFrame:
    """Return the rows whose label is not null, for a regression also not NaN."""
    value = F.col(quoted(declared.label))
    return rows.where(value.isNotNull() & ~F.isnan(value.cast("double")) if task == "regression" else value.isNotNull())


def read_labels(rows: DataFrame, declared: Dataset, task: str) -> Labels:
    """Read the classes off the labelled training rows: sorted, the positive one of two last.

    Raises:
        StepError: the number of classes does not suit the task, or ``positive`` is none of them.
    """
    kind = rows.schema[declared.label].dataType.simpleString()
    if task == "regression":
        return Labels(declared.label, kind, None)
    found = rows.select(F.col(quoted(declared.label)).alias("label")).distinct().limit(MOST_CLASSES + 1).collect()
    classes = sorted(row["label"] for row in found)
    most = 2 if task == "binary" else MOST_CLASSES
    if not 2 <= len(classes) <= most:
        expected = "exactly 2" if task == "binary" else f"2 to {most}"
        shown = ", ".join(map(repr, classes[:5])) or "none"
        raise StepError(
            f"train: the labelled training rows hold {len(classes)} different values of {declared.label} ({shown}), expected {expected} "
            f"for `task: {task}`; choose another split or task, or mend the label in the dataset's SQL"
        )
    if declared.positive is not None and task == "binary":
        negative = [label for label in classes if not _same(label, declared.positive)]
        if len(negative) != 1:
            raise StepError(f"train: dataset.positive is {declared.positive!r}, expected one of {classes[0]!r} and {classes[1]!r}")
        classes.sort(key=lambda label: label not in negative)
    return Labels(declared.label, kind, tuple(classes))


def _same(label: object, declared: object) -> bool:
    """Compare a value of the data with one of a spec, where `true`, `1` and `yes` may be written in another type."""
    return label == declared or str(label).lower() == str(declared).lower()
