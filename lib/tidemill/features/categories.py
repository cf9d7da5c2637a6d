"""The stages that encode categorical columns, whose values are counted in one aggregate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from pyspark.ml.feature import (
    FeatureHasher,
    Interaction,
    OneHotEncoder,
    OneHotEncoderModel,
    SQLTransformer,
    StringIndexer,
    StringIndexerModel,
)
from pyspark.sql import DataFrame, SparkSession

from tidemill.features.contributions import Category
from tidemill.features.counts import MAX_VALUES, CountedColumn, Totals, ValueCounts
from tidemill.features.model import Draft
from tidemill.features.names import category_or_missing_sql, internal_name
from tidemill.features.target_encoding import count_slot, target_slots
from tidemill.quoting import quote_name

# The most values that get their own slot, the most frequent ones first. A tree's `maxBins`, and with it the time and memory of each node,
# grows with its widest category; 255 is also the limit of scikit-learn's histogram trees.
MAX_LABELS = {"onehot": 10_000, "index": 255, "target": MAX_VALUES, "count": MAX_VALUES}
_ROLES = {"onehot": "hot", "index": "index", "hashing": "hashed"}


@dataclass(frozen=True)
class StyledCategory:
    """A category in one encoding style; its text is in ``column``."""

    category: Category
    style: str

    @property
    def column(self) -> str:
        """The column that holds the text to be encoded; for ``target`` and ``count`` null is a value."""
        return internal_name(f"{self.style}label", self.category.name)

    @property
    def index(self) -> str:
        """The column that holds the index of the label."""
        return internal_name(self.style, self.category.name)

    @property
    def sql(self) -> str:
        """SQL for ``column``."""
        return category_or_missing_sql(self.category.sql) if self.style in ("target", "count") else self.category.sql


def style_categories(categories: Iterable[Category], encodings: Collection[str]) -> list[StyledCategory]:
    """Return each category in each style that one of the encodings uses."""
    each = [StyledCategory(category, category.style(encoding)) for encoding in encodings for category in categories]
    return list(dict.fromkeys(each))


def list_counted_columns(styled: Iterable[StyledCategory]) -> dict[str, CountedColumn]:
    """Return the columns to count, by the SQL of their text: one if two styles have the same SQL."""
    counted_columns: dict[str, CountedColumn] = {}
    for each in styled:
        if each.style != "hashing":
            known = counted_columns.get(each.sql) or CountedColumn(each.column)
            counted_columns[each.sql] = replace(known, by_label=known.by_label or each.style == "target")
    return counted_columns


@dataclass(frozen=True)
class CategoryFit:
    """The input of `fit_categories`.

    ``counts`` are the counts of values, by the SQL of their text; ``totals`` those of all rows.
    """

    styled: Sequence[StyledCategory]
    counts: Mapping[str, ValueCounts]
    totals: Totals
    encodings: Sequence[str]

    @property
    def counted(self) -> list[StyledCategory]:
        """The categories whose values are counted."""
        return [each for each in self.styled if each.style != "hashing"]


def fit_categories(fit: CategoryFit, cast: DataFrame, draft: Draft) -> dict[str, list[str]]:
    """Add the stages that encode the categories to the draft; return the slot columns of each encoding.

    Only the schema of ``cast`` is used.
    """
    slots: dict[str, list[str]] = {encoding: [] for encoding in fit.encodings}
    labels = {each: _labels(each, fit.counts[each.sql]) for each in fit.counted}
    partial = _find_partly_indexed(fit, labels)
    labels |= {StyledCategory(each.category, "seen"): fit.counts[each.sql].values for each in partial}
    if labels:
        indexer = _fit_index(labels, [each.column for each in (*fit.counted, *partial)], cast.sparkSession)
        draft.add(indexer, [each.index for each in labels])
        # In the indexer's order, that of Java strings.
        labels = dict(zip(labels, indexer.labelsArray, strict=True))
        for encoding, columns in _add_lookups(fit, labels, draft).items():
            slots[encoding] += columns
        hot = [each for each in fit.counted if each.style == "onehot"]
        if hot:
            draft.add(_one_hot(cast, hot, indexer), [internal_name("hot", each.category.name) for each in hot])
    for each in fit.styled:
        if each.style == "hashing":
            output = internal_name("hashed", each.category.name)
            hasher = FeatureHasher(inputCols=[each.column], outputCol=output, numFeatures=each.category.size)
            draft.add(hasher.setCategoricalCols([each.column]), [output])
    for encoding in fit.encodings:
        for each in fit.styled:
            if each.category.is_slot and each.style == each.category.style(encoding) and each.style in _ROLES:
                slots[encoding].append(internal_name(_ROLES[each.style], each.category.name))
    return slots


def _labels(each: StyledCategory, counts: ValueCounts) -> list[str]:
    """Return the values that get their own slot: the frequent ones, up to the limit of the style."""
    return [counts.values[place] for place in counts.frequent(each.category.min_frequency, MAX_LABELS[each.style])]


def _find_partly_indexed(fit: CategoryFit, labels: Mapping[StyledCategory, Sequence[str]]) -> list[StyledCategory]:
    """Return the raw columns for which no index has all training values.

    The model also indexes all values of those, without a slot, to distinguish rare values from unseen ones.
    """
    partial: dict[str, StyledCategory] = {}
    for each in fit.counted:
        known = max(len(labels[other]) for other in fit.counted if other.category.name == each.category.name)
        if each.category.is_raw and known < len(fit.counts[each.sql].values):
            partial.setdefault(each.category.name, each)
    return list(partial.values())


def _fit_index(labels: Mapping[StyledCategory, Sequence[str]], inputs: Sequence[str], spark: SparkSession) -> StringIndexerModel:
    """Return one indexer for all label sets; null, rare and unseen values share the last index."""
    longest = max(len(values) for values in labels.values())
    columns = [pa.array([*values, *[None] * (longest - len(values))], pa.string()) for values in labels.values()]
    names = [f"c{place}" for place in range(len(columns))]
    indexer = StringIndexer(
        inputCols=names,
        outputCols=[each.index for each in labels],
        stringOrderType="alphabetAsc",
        handleInvalid="keep",
    )
    return indexer.fit(spark.createDataFrame(pa.table(columns, names=names))).setInputCols(list(inputs))


def _add_lookups(fit: CategoryFit, labels: Mapping[StyledCategory, Sequence[str]], draft: Draft) -> dict[str, list[str]]:
    """Add the stage that looks up counts and label means by the value's index; return the slots of each encoding."""
    slots: dict[str, list[str]] = {encoding: [] for encoding in fit.encodings}
    raw: dict[str, str] = {}
    cross_fitted: dict[str, str] = {}  # for training rows
    encoded: dict[str, str] = {}
    for each in fit.counted:
        category, counts = each.category, fit.counts[each.sql]
        lookups = []
        if each.style == "count":
            lookups = [count_slot(category.name, each.index, counts, labels[each])]
        elif each.style == "target":
            lookups = target_slots(category.name, each.index, counts, labels[each], fit.totals, category.smoothing)
        for lookup in lookups:
            raw[lookup.column], cross_fitted[lookup.column] = lookup.sql, lookup.training_sql
            for encoding in fit.encodings:
                if category.style(encoding) == each.style:
                    name = internal_name(encoding, lookup.name)
                    encoded[name] = lookup.encode(encoding)
                    slots[encoding].append(name)
    if raw:
        draft.add(_lookup_stage(raw, encoded), [*raw, *encoded], _lookup_stage(cross_fitted, encoded))
    return slots


def _lookup_stage(raw: dict[str, str], encoded: dict[str, str]) -> SQLTransformer:
    first, second = ("".join(f", {sql} AS {quote_name(name)}" for name, sql in each.items()) for each in (raw, encoded))
    return SQLTransformer(statement=f"SELECT *{second} FROM (SELECT *{first} FROM __THIS__)")


def _one_hot(cast: DataFrame, hot: Sequence[StyledCategory], indexer: StringIndexerModel) -> OneHotEncoderModel:
    """Return the one-hot stage: a slot per label and one for all other values; fitted from the indexer's metadata, without a Spark job."""
    inputs, outputs = [each.index for each in hot], [internal_name("hot", each.category.name) for each in hot]
    return OneHotEncoder(inputCols=inputs, outputCols=outputs, dropLast=False).fit(indexer.transform(cast))


def cross_categories(pairs: Iterable[tuple[str, str]], encodings: Iterable[str]) -> list[tuple[str, Interaction]]:
    """Return the stages of a number times each value of a category, with their encoding; trees find such by themselves."""
    return [
        (
            encoding,
            Interaction(
                inputCols=[internal_name(encoding, number), internal_name("hot", category)],
                outputCol=internal_name(f"times{encoding}", f"{number}*{category}"),
            ),
        )
        for number, category in pairs
        for encoding in encodings
        if encoding != "tree"
    ]
