"""The label as MLlib reads it: the index of its class, or its value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyspark.ml.feature import SQLTransformer
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.learners.class_labels import class_metadata
from tidemill.quoting import quote_name
from tidemill.tasks import METRICS, TaskKind

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from tidemill.spec.models import Dataset


def check_not_negative(rows: DataFrame, label: str) -> None:
    """Refuse labels below 0, which `target: log` does not support.

    Raises:
        StepError: there are labels below 0.
    """
    number = F.col(quote_name(label)).cast("double")
    row = rows.agg(F.count_if(number < 0).alias("below"), F.count("*").alias("rows"), F.min(number).alias("least")).first()
    if row is not None and row["below"]:
        raise StepError(
            f"train: {label} is below 0 in {row['below']:,} of {row['rows']:,} labelled training rows (the least is {row['least']:g}), "
            "expected 0 or more for `training.target: log`; write `identity`, or drop or shift those rows in the dataset's SQL"
        )


def inverse_log_stage() -> SQLTransformer:
    """Return the stage that inverts the logarithm of predictions: one of MLlib's own, so that it loads anywhere.

    With a squared loss, predictions are then near the median of skewed labels and below their mean; this is not corrected.
    """
    return SQLTransformer(statement="SELECT * EXCEPT (prediction), expm1(prediction) AS prediction FROM __THIS__")


MAX_LABEL_CLASSES = 1000


@dataclass(frozen=True)
class LabelEncoding:
    """The label column, its Spark type, and its classes in the order of their indices; None for a regression.

    Without a ``column`` no label is read: ``type`` and ``classes`` are then those of a prediction. ``is_learned``: models are fitted on
    labelled rows only; otherwise the label may be null, and only metrics use it. ``target``: ``log`` where models learn log(1 + label).
    """

    column: str | None
    type: str
    classes: tuple[object, ...] | None
    is_learned: bool = True
    target: str = "identity"

    @property
    def n_classes(self) -> int:
        """The number of classes, 0 for a regression."""
        return len(self.classes or ())

    @property
    def positive(self) -> object:
        """The class of index 1 of two; None otherwise."""
        return self.classes[1] if self.classes is not None and len(self.classes) == 2 else None

    def encode(self) -> Column:
        """Return ``label`` DOUBLE: the index of the class, with the number of classes in its metadata, or the value."""
        if self.column is None:
            return F.lit(None).cast("double").alias("label")
        value = F.col(quote_name(self.column))
        if self.classes is None:
            number = value.cast("double")
            return (F.log1p(number) if self.target == "log" else number).alias("label")
        classes = F.array(*[F.lit(label).cast(self.type) for label in self.classes])
        return (F.array_position(classes, value) - 1).cast("double").alias("label", metadata=class_metadata(self.n_classes))


def filter_labelled(rows: DataFrame, declared: Dataset, task: str) -> DataFrame:
    """Return the rows whose label is neither null nor NaN; all rows where the task learns no label."""
    kind = TaskKind(task)
    if not kind.learns_label:
        return rows
    value = F.col(quote_name(str(declared.label)))
    return rows.where(value.isNotNull() & ~F.isnan(value.cast("double")) if kind.has_numeric_label else value.isNotNull())


def read_labels(rows: DataFrame, declared: Dataset, task: str, target: str = "identity") -> LabelEncoding:
    """Read the classes of the labelled training rows: sorted, of two the positive one last.

    Raises:
        StepError: the number of classes does not suit the task, ``positive`` is none of them, or `target: log` has a label below 0.
    """
    label = str(declared.label)
    kind, label_type = TaskKind(task), rows.schema[label].dataType.simpleString()
    if kind.has_numeric_label:
        if target == "log":
            check_not_negative(rows, label)
        return LabelEncoding(label, label_type, None, target=target)
    class_rows = rows.select(F.col(quote_name(label)).alias("label")).distinct().limit(MAX_LABEL_CLASSES + 1).collect()
    classes = sorted(row["label"] for row in class_rows)
    most = 2 if kind.has_two_classes else MAX_LABEL_CLASSES
    if not 2 <= len(classes) <= most:
        expected = "exactly 2" if kind.has_two_classes else f"2 to {most}"
        shown = ", ".join(map(repr, classes[:5])) or "none"
        raise StepError(
            f"train: the labelled training rows hold {len(classes)} different values of {label} ({shown}), expected {expected} "
            f"for `task: {task}`; choose another split or task, or fix the label in the dataset's SQL"
        )
    return LabelEncoding(label, label_type, order_classes(classes, declared) if kind.has_two_classes else tuple(classes))


def order_classes(classes: list[object], declared: Dataset) -> tuple[object, ...]:
    """Return two classes, given in ascending order, with the positive one last: the greater one, unless the spec declares it."""
    if declared.positive is not None:
        negative = [label for label in classes if not _same(label, declared.positive)]
        if len(negative) != 1:
            raise StepError(f"train: dataset.positive is {declared.positive!r}, expected one of {classes[0]!r} and {classes[1]!r}")
        return tuple(sorted(classes, key=lambda label: label not in negative))
    return tuple(classes)


def read_unsupervised_labels(dataset: DataFrame, declared: Dataset, task: str, metric: str) -> LabelEncoding:
    """Return the labels of a task that learns none: cluster numbers; for anomalies the classes of their label, or a boolean without one.

    The label of anomalies is read where ``metric`` needs it; its classes are those of the whole dataset, since no model learns them.

    Raises:
        StepError: the label of anomalies does not have two values, or ``positive`` is none of them.
    """
    if TaskKind(task).finds_clusters:
        return LabelEncoding(None, "int", None, is_learned=False)
    if declared.label is None:
        return LabelEncoding(None, "boolean", (False, True), is_learned=False)
    encoding = read_labels(dataset.where(F.col(quote_name(declared.label)).isNotNull()), declared, "binary")
    return replace(encoding, column=None if not METRICS.get(metric).needs_label else encoding.column, is_learned=False)


def _same(label: object, declared: object) -> bool:
    """Compare a value of the data with one of a spec, where `true`, `1` and `yes` may be written in another type."""
    return label == declared or str(label).lower() == str(declared).lower()
