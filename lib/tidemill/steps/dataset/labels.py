"""Checks of the labels and weights of a dataset, by task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import ExpectationRefused, Fault, SpecError, did_you_mean
from tidemill.quoting import quote_name
from tidemill.tasks import Task
from tidemill.training.labels import MAX_LABEL_CLASSES, order_classes

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, Row

    from tidemill.spec.models import Dataset


def find_weight_faults(frame: DataFrame, declared: Dataset) -> list[Fault]:
    """Return a fault where the weight column is not numeric."""
    if declared.weight is None or declared.weight not in frame.columns:
        return []
    kind = frame.schema[declared.weight].dataType
    if isinstance(kind, T.NumericType):
        return []
    message = f"{declared.weight} is of type {kind.simpleString()}, expected a number: CAST it in the SQL, or name another column"
    return [Fault("pipeline.yml", None, "dataset.weight", message)]


def check_weights(marked: DataFrame, declared: Dataset) -> None:
    """Refuse invalid weights of labelled rows; 0 is valid, and excludes a row.

    Raises:
        ExpectationRefused: weights are null, NaN, infinite or below 0, or all are 0 in train or test.
    """
    if declared.weight is None:
        return
    weight = F.col(quote_name(declared.weight)).cast("double")
    labelled = marked.where(F.col(quote_name(str(declared.label))).isNotNull() & F.col("split").isin("train", "test"))
    figures = {
        "null": F.count_if(weight.isNull()),
        "NaN or infinite": F.count_if(F.isnan(weight) | (F.abs(weight) == float("inf"))),
        "below 0": F.count_if(weight < 0),
    }
    label_counts = (
        labelled.groupBy("split").agg(F.sum(weight).alias("total"), *[figure.alias(name) for name, figure in figures.items()]).collect()
    )
    invalid = {name: count for name in figures if (count := sum(row[name] for row in label_counts))}
    if invalid:
        counts_by_fault = ", ".join(f"{name} in {count:,}" for name, count in invalid.items())
        raise ExpectationRefused(
            f"dataset: the weight {declared.weight} is {counts_by_fault} labelled rows, expected a number from 0 on in each; "
            "give those rows a weight in the SQL (0: they do not count), or filter them out"
        )
    for row in label_counts:
        if not row["total"]:
            raise ExpectationRefused(
                f"dataset: the weight {declared.weight} is 0 in every labelled {row['split']} row, so that none counts; choose another "
                "`split`, or fix the weights in the SQL"
            )


_MAX_SHOWN = 5


def check_labels(marked: DataFrame, declared: Dataset, task: Task) -> tuple[str, ...]:
    """Refuse labels that do not suit the task, and return notes. Reads ``marked`` once and collects at most two counts per class.

    Raises:
        ExpectationRefused: too few or too many classes, a side without labels, a label that is not finite.
        SpecError: ``positive`` is none of the labels.
    """
    if not task.kind.learns_label:
        return _check_anomaly_label(marked, declared, task) if task.kind.label_judges and declared.label else ()
    label = F.col(quote_name(str(declared.label)))
    if task.kind.has_numeric_label:
        not_finite_rows = _count_not_finite(marked, declared)
        label_counts = (
            marked.groupBy("split")
            .agg(F.count("*").alias("n"), F.count(label).alias("labelled"), not_finite_rows.alias("not_finite"))
            .collect()
        )
        not_finite = sum(row["not_finite"] for row in label_counts)
        if not_finite:
            raise ExpectationRefused(
                f"dataset: the label {declared.label} is NaN or infinite in {not_finite:,} rows; make it NULL in the SQL"
            )
        _refuse_unlabelled(str(declared.label), {row["split"]: row["labelled"] for row in label_counts if row["split"] != "gap"})
        return _notes(str(declared.label), sum(row["n"] - row["labelled"] for row in label_counts))
    label_counts = marked.groupBy("split", label.alias("label")).agg(F.count("*").alias("n")).limit(2 * MAX_LABEL_CLASSES + 3).collect()
    totals = _refuse_classes(declared, task, [row for row in label_counts if row["label"] is not None])
    positive = describe_positive_class(declared, totals) if task.kind.has_two_classes else ()
    return (*positive, *_notes(str(declared.label), sum(row["n"] for row in label_counts if row["label"] is None)))


def _check_anomaly_label(marked: DataFrame, declared: Dataset, task: Task) -> tuple[str, ...]:
    """Refuse a label of anomalies that has not two values; rows may lack it, and training rows may have one value."""
    label = F.col(quote_name(str(declared.label)))
    label_counts = marked.groupBy(label.alias("label")).agg(F.count("*").alias("n")).limit(MAX_LABEL_CLASSES + 2).collect()
    totals = {row["label"]: row["n"] for row in label_counts if row["label"] is not None}
    _refuse_number(declared, task, totals)
    notes = describe_positive_class(declared, totals)
    unlabelled = sum(row["n"] for row in label_counts if row["label"] is None)
    if unlabelled:
        notes += (f"{unlabelled:,} rows have no {declared.label}: they are used in training, but not in metrics",)
    return notes


def describe_positive_class(declared: Dataset, totals: Mapping[Any, int]) -> tuple[str, ...]:
    """Return a note on the positive class, and a warning where it is the more frequent one by default."""
    negative, positive = order_classes(sorted(totals), declared)
    share = totals[positive] / (totals[positive] + totals[negative])
    notes = (f"{declared.positive_rule()}: {positive!r}, the label of {totals[positive]:,} rows ({share:.1%}); the other is {negative!r}",)
    if declared.positive is not None or totals[positive] <= totals[negative]:
        return notes
    warning = (
        f"warning: {negative!r}, the rarer class of {declared.label} ({totals[negative]:,} rows), is not the positive one: probability, "
        f"f1, areaUnderPR and `threshold` are those of {positive!r}; to predict {negative!r}, write `dataset: {{positive: "
        f"{_format_as_yaml(negative)}}}`"
    )
    return (*notes, warning)


def _format_as_yaml(label: object) -> str:
    """Format a label as in a spec."""
    return json.dumps(label if isinstance(label, bool | int | float | str) else str(label), ensure_ascii=False)


def _count_not_finite(marked: DataFrame, declared: Dataset) -> Column:
    if not isinstance(marked.schema[str(declared.label)].dataType, T.FractionalType):
        return F.lit(0)
    value = F.col(quote_name(str(declared.label))).cast("double")
    return F.count_if(F.isnan(value) | (F.abs(value) == float("inf")))


def _refuse_classes(declared: Dataset, task: Task, label_counts: list[Row]) -> Mapping[Any, int]:
    """Refuse unusable classes; return the rows by class."""
    totals: dict[Any, int] = {}
    for row in label_counts:
        totals[row["label"]] = totals.get(row["label"], 0) + row["n"]
    _refuse_number(declared, task, totals)
    _refuse_unlabelled(
        str(declared.label), {split: sum(row["n"] for row in label_counts if row["split"] == split) for split in ("train", "test")}
    )
    training_classes = {row["label"] for row in label_counts if row["split"] == "train"}
    if len(training_classes) < 2:
        raise ExpectationRefused(
            f"dataset: every labelled train row has the label {next(iter(training_classes))!r}; "
            "choose a `split` that leaves two classes in train"
        )
    return totals


def _refuse_number(declared: Dataset, task: Task, totals: Mapping[object, int]) -> None:
    """Refuse too few or too many classes, and a ``positive`` that is none of them."""
    classes = sorted(totals, key=lambda value: (-totals[value], str(value)))
    fewest, most = task.classes or (2, MAX_LABEL_CLASSES)
    if not fewest <= len(classes) <= most:
        shown = ", ".join(f"{value!r} ({totals[value]:,} rows)" for value in classes[:_MAX_SHOWN]) + (
            ", …" if len(classes) > _MAX_SHOWN else ""
        )
        expected = "exactly two different values" if fewest == most == 2 else f"{fewest:,} to {most:,} different values"
        many = f"more than {MAX_LABEL_CLASSES:,}" if len(classes) > MAX_LABEL_CLASSES else str(len(classes))
        raise ExpectationRefused(
            f"dataset: the label {declared.label} has {many}: {shown or 'it is null in every row'};"
            f" `task: {task.name}` expects {expected}: map them in the SQL, or choose another `training.task`"
        )
    words = [str(value) for value in classes]
    if declared.positive is not None and declared.positive not in classes and str(declared.positive).lower() not in map(str.lower, words):
        message = f"{declared.positive!r} is none of the labels {' and '.join(words)}{did_you_mean(str(declared.positive), words)}"
        raise SpecError([Fault("pipeline.yml", None, "dataset.positive", message)])


def _refuse_unlabelled(label: str, labelled: dict[str, int]) -> None:
    for split, count in labelled.items():
        if not count:
            raise ExpectationRefused(
                f"dataset: no {split} row has a label ({label} is null in all of them); choose another `split` or fix the label"
            )


def _notes(label: str, unlabelled: int) -> tuple[str, ...]:
    return (f"{unlabelled:,} rows have no {label}: they are scored, but not used in training and evaluation",) if unlabelled else ()
