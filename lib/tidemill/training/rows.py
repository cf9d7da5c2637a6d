"""The training rows as the search wants them, and whether their folds can be learned from."""

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
from tidemill.training.labels import Labels

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


# What stages of a model add to the frame; a raw column of such a name would be taken for it.
_TAKEN = ("label", "fold", "prediction", "probability", "rawPrediction", "features_linear", "features_tree", "features_positive")
_ORDERED = "order of training rows"
_NEEDS_BOTH = ("areaUnderPR", "areaUnderROC")


def training_rows(
    rows: DataFrame, key: Sequence[str], labels: Labels, columns: Sequence[str], parted_by: Sequence[str] = (), weight: str | None = None
) -> DataFrame:
    """Return the feature columns, ``label`` DOUBLE, ``fold`` INT and ``_order`` BIGINT of ``rows``, in an order that only the key decides.

    With ``parted_by``, the columns that keep rows together, there is ``_part`` INT too: features made of the label of other rows are, for
    a row of the training, made of those of the other parts.

    With ``weight``, its column as ``_weight`` DOUBLE.

    Forests draw their rows by position, so the same rows in another layout would give another forest; and rows spread by their key are
    spread evenly, while the files of a dataset may hold a block of time each.

    Raises:
        StepError: a feature column has a name that the model needs for itself.
    """
    taken = [name for name in columns if name in _TAKEN]
    if taken:
        raise StepError(f"train: feature column {taken[0]!r} has a name that the model needs for itself; rename it in the dataset's SQL")
    keys = [F.col(quote_name(name)) for name in key]
    kept = [F.col(quote_name(name)) for name in columns]
    ordered = rows.repartition(*keys).sortWithinPartitions(*keys)
    # Spread evenly over all numbers, whatever the keys are like: the first rows by it are a sample.
    order = F.xxhash64(F.lit(_ORDERED), *keys).alias(ORDER)
    parts = [F.pmod(hash_columns(parted_by, 0, stream="part"), F.lit(PARTS)).cast("int").alias(PART)] if parted_by else []
    weights = [F.col(quote_name(weight)).cast("double").alias(WEIGHT)] if weight else []
    return ordered.select(*kept, labels.encoded(), F.col("fold").cast("int").alias("fold"), order, *parts, *weights)


def check_folds(frame: DataFrame, labels: Labels, metric: str, rule: Split) -> tuple[dict[int, int], tuple[str, ...]]:
    """Count the rows of each fold that is validated, refuse folds that cannot be learned from; return the counts and notes.

    Where the split's ``rule`` is expanding, a fold is validated by models of those before it, and the first is not; where it has a gap,
    rows may have no fold.

    Raises:
        StepError: there are no rows, fewer than two folds, or a fold lacks a class that its training or its metric needs.
    """
    by_class = labels.classes is not None and labels.column is not None
    grouped = frame.groupBy("fold", *(["label"] if by_class else [])).count().collect()
    counts: dict[int, int] = {}
    members: dict[int, set[int]] = {}
    for row in grouped:
        if row["fold"] is None and rule.gap is not None:
            continue
        if row["fold"] is None:
            raise StepError(f"train: {row['count']} training rows have no fold; run dataset again")
        counts[row["fold"]] = counts.get(row["fold"], 0) + row["count"]
        members.setdefault(row["fold"], set()).update([int(row["label"])] if by_class and row["label"] is not None else [])
    if len(counts) < 2:
        total, which = sum(counts.values()), "labelled " if labels.is_learned else ""
        raise StepError(
            f"train: found {total} {which}training rows in {len(counts)} fold(s), expected rows in at least 2 folds; "
            f"add rows, {'label more of them, ' if labels.is_learned else ''}or choose another split"
        )
    notes = _check_classes(members, labels, metric, rule) if by_class else ()
    return dict(sorted(counts.items())[1 if rule.is_expanding else 0 :]), notes


def _check_classes(members: dict[int, set[int]], labels: Labels, metric: str, rule: Split) -> tuple[str, ...]:
    """Refuse a fold in which a model cannot be fitted or measured; return notes of classes that a fold does without.

    A label that is not learned may be missing where models are fitted, not where they are measured.
    """
    is_expanding = rule.is_expanding
    classes, without = labels.classes or (), "before" if is_expanding else "without"
    notes = []
    for fold in sorted(members)[1 if is_expanding else 0 :]:
        trained = set().union(*(found for other, found in members.items() if (other < fold if is_expanding else other != fold)))
        missing = [str(label) for index, label in enumerate(classes) if index not in trained]
        if labels.is_learned and missing and len(trained) < 2:
            raise StepError(
                f"train: {without} fold {fold}, no training row has {labels.column} = {missing[0]}, expected both classes outside every "
                f"fold; {rule.remedy_for_missing_classes}"
            )
        if labels.is_learned and missing:
            notes.append(f"{without} fold {fold}, no training row has {labels.column} = {', '.join(missing)}; its models cannot predict it")
        if len(classes) == 2 and metric in _NEEDS_BOTH and len(members[fold]) < 2:
            absent = next(str(label) for index, label in enumerate(classes) if index not in members[fold])
            raise StepError(
                f"train: fold {fold} has no row with {labels.column} = {absent}, expected both classes in every fold since {metric} needs "
                f"them; {rule.remedy_for_missing_classes}"
            )
    return tuple(notes)
