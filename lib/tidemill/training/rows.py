"""The training rows as the search reads them, and a check that their folds are usable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.dataset.splits import hash_columns
from tidemill.errors import StepError
from tidemill.features.names import PART, PARTS
from tidemill.quoting import quote_name
from tidemill.spec.models import Split
from tidemill.training.folds import ORDER, WEIGHT
from tidemill.training.labels import LabelEncoding

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


# Columns that the stages of a model add; a raw column of such a name would collide with them.
_RESERVED = ("label", "fold", "prediction", "probability", "rawPrediction", "features_linear", "features_tree", "features_positive")
_ORDERED = "order of training rows"
_NEEDS_BOTH = ("areaUnderPR", "areaUnderROC", "averagePrecision", "recall", "specificity")


def select_training_rows(
    rows: DataFrame,
    key: Sequence[str],
    labels: LabelEncoding,
    columns: Sequence[str],
    parted_by: Sequence[str] = (),
    weight: str | None = None,
) -> DataFrame:
    """Return the feature columns, ``label`` DOUBLE, ``fold`` INT and ``_order`` BIGINT of ``rows``, in an order that only the key decides.

    With ``parted_by``, the columns that keep rows together, also ``_part`` INT: target encoding of a training row uses the labels of the
    other parts only. With ``weight``, also that column as ``_weight`` DOUBLE.

    Forests sample their rows by position, so another layout of the same rows would give another forest. Rows are repartitioned by key,
    which spreads them evenly, while each file of a dataset may hold a block of time.

    Raises:
        StepError: a feature column has a name that the model needs for itself.
    """
    reserved = [name for name in columns if name in _RESERVED]
    if reserved:
        raise StepError(f"train: feature column {reserved[0]!r} has a name that the model needs for itself; rename it in the dataset's SQL")
    keys = [F.col(quote_name(name)) for name in key]
    features = [F.col(quote_name(name)) for name in columns]
    ordered = rows.repartition(*keys).sortWithinPartitions(*keys)
    # A hash of the key is spread evenly over all numbers: the first rows by it are a sample.
    order = F.xxhash64(F.lit(_ORDERED), *keys).alias(ORDER)
    parts = [F.pmod(hash_columns(parted_by, 0, stream="part"), F.lit(PARTS)).cast("int").alias(PART)] if parted_by else []
    weights = [F.col(quote_name(weight)).cast("double").alias(WEIGHT)] if weight else []
    return ordered.select(*features, labels.encode(), F.col("fold").cast("int").alias("fold"), order, *parts, *weights)


def check_folds(frame: DataFrame, labels: LabelEncoding, metric: str, rule: Split) -> tuple[dict[int, int], tuple[str, ...]]:
    """Count the rows of each validated fold, and refuse folds that no model can be fitted for; return the counts and notes.

    Where the split's ``rule`` is expanding, the first fold is not validated; where it has a gap, rows may have no fold.

    Raises:
        StepError: there are no rows, fewer than two folds, or a fold lacks a class that its training or its metric needs.
    """
    by_class = labels.classes is not None and labels.column is not None
    groups = frame.groupBy("fold", *(["label"] if by_class else [])).count().collect()
    counts: dict[int, int] = {}
    classes_by_fold: dict[int, set[int]] = {}
    for row in groups:
        if row["fold"] is None and rule.gap is not None:
            continue
        if row["fold"] is None:
            raise StepError(f"train: {row['count']} training rows have no fold; run dataset again")
        counts[row["fold"]] = counts.get(row["fold"], 0) + row["count"]
        classes_by_fold.setdefault(row["fold"], set()).update([int(row["label"])] if by_class and row["label"] is not None else [])
    if len(counts) < 2:
        total, which = sum(counts.values()), "labelled " if labels.is_learned else ""
        raise StepError(
            f"train: found {total} {which}training rows in {len(counts)} fold(s), expected rows in at least 2 folds; "
            f"add rows, {'label more of them, ' if labels.is_learned else ''}or choose another split"
        )
    notes = _check_classes(classes_by_fold, labels, metric, rule) if by_class else ()
    return dict(sorted(counts.items())[1 if rule.is_expanding else 0 :]), notes


def _check_classes(classes_by_fold: dict[int, set[int]], labels: LabelEncoding, metric: str, rule: Split) -> tuple[str, ...]:
    """Refuse a fold without the classes that fits or the metric need; return notes on classes that the training of a fold lacks.

    The classes of a label that is not learned are needed for the metric only.
    """
    is_expanding = rule.is_expanding
    classes, without = labels.classes or (), "before" if is_expanding else "without"
    notes = []
    for fold in sorted(classes_by_fold)[1 if is_expanding else 0 :]:
        training_classes = set().union(
            *(classes_of_fold for other, classes_of_fold in classes_by_fold.items() if (other < fold if is_expanding else other != fold))
        )
        missing = [str(label) for index, label in enumerate(classes) if index not in training_classes]
        if labels.is_learned and missing and len(training_classes) < 2:
            raise StepError(
                f"train: {without} fold {fold}, no training row has {labels.column} = {missing[0]}, expected both classes outside every "
                f"fold; {rule.remedy_for_missing_classes}"
            )
        if labels.is_learned and missing:
            notes.append(f"{without} fold {fold}, no training row has {labels.column} = {', '.join(missing)}; its models cannot predict it")
        if len(classes) == 2 and metric in _NEEDS_BOTH and len(classes_by_fold[fold]) < 2:
            absent = next(str(label) for index, label in enumerate(classes) if index not in classes_by_fold[fold])
            raise StepError(
                f"train: fold {fold} has no row with {labels.column} = {absent}, expected both classes in every fold since {metric} needs "
                f"them; {rule.remedy_for_missing_classes}"
            )
    return tuple(notes)
