"""The values of categorical columns, counted for all of them in one aggregate, and the stages that encode them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
from pyspark.sql import types as T

from tidemill.features.counts import MOST_VALUES, Counts, Subject, Totals
from tidemill.features.model import Draft
from tidemill.features.names import category_sql, internal, known_sql
from tidemill.features.scalars import is_number, pairs
from tidemill.features.target_encoding import count_slot, target_slots
from tidemill.quoting import quoted

if TYPE_CHECKING:
    from tidemill.features.plan import FeaturePlan


# The most frequent labels that get a slot of their own. A tree's `maxBins`, and with it the time and memory of each node, grows with its
# widest category; 255 is also where scikit-learn's histogram trees stop.
MOST_LABELS = {"onehot": 10_000, "index": 255, "target": MOST_VALUES, "count": MOST_VALUES}
_ROLES = {"onehot": "hot", "index": "index", "hashing": "hashed"}
_AUTO = {"linear": "onehot", "tree": "index", "positive": "onehot"}


@dataclass(frozen=True)
class Category:
    """Text before anything is learnt about it; the words are those of ``features.categorical``.

    ``is_slot`` is False where it is one-hot for a product with a number alone; ``is_raw`` is True where the name is that of a column.
    """

    name: str
    sql: str
    encode: str = "auto"
    min_frequency: int = 1
    smoothing: float = 0.0
    size: int = 0
    is_slot: bool = True
    is_raw: bool = True

    def style(self, encoding: str) -> str:
        """Return how the encoding takes it: onehot, index, target, count or hashing."""
        return _AUTO[encoding] if self.encode == "auto" else self.encode


@dataclass(frozen=True)
class Styled:
    """A category in one style; its text is in ``column``."""

    category: Category
    style: str

    @property
    def column(self) -> str:
        """The column that holds the text to be encoded; of ``target`` and ``count`` null is a value like others."""
        return internal(f"{self.style}label", self.category.name)

    @property
    def index(self) -> str:
        """The column that holds the index of the label."""
        return internal(self.style, self.category.name)

    @property
    def sql(self) -> str:
        """SQL for ``column``."""
        return known_sql(self.category.sql) if self.style in ("target", "count") else self.category.sql


def categories(plan: FeaturePlan, schema: T.StructType) -> list[Category]:
    """Return the plan's categories, with pairs of two as one more, and those that numbers are multiplied with."""
    found = [
        Category(name, category_sql(name), block.encode, block.min_frequency, block.smoothing, block.size)
        for block in plan.blocks("categorical")
        for name in block.columns
    ]
    least = min((block.min_frequency for block in plan.blocks("interactions")), default=1)
    for pair in pairs(plan):
        numbers = [name for name in pair if is_number(schema, name)]
        texts = [name for name in pair if name not in numbers]
        if not numbers:
            both = f"concat({category_sql(pair[0])}, '&', {category_sql(pair[1])})"
            found.append(Category("&".join(pair), both, min_frequency=least, is_raw=False))
        elif texts and not any(each.name == texts[0] and each.encode in ("auto", "onehot") for each in found):
            found.append(Category(texts[0], category_sql(texts[0]), "onehot", least, is_slot=False))
    return found


def styled(found: Iterable[Category], encodings: Collection[str]) -> list[Styled]:
    """Return each category in each style that an encoding wants."""
    each = [Styled(category, category.style(encoding)) for encoding in encodings for category in found]
    return list(dict.fromkeys(each))


def subjects(wanted: Iterable[Styled]) -> dict[str, Subject]:
    """Return the columns to be counted by the SQL of their text: once where two styles have the same."""
    found: dict[str, Subject] = {}
    for each in wanted:
        if each.style != "hashing":
            known = found.get(each.sql) or Subject(each.column)
            found[each.sql] = replace(known, by_label=known.by_label or each.style == "target")
    return found


def fit_categories(
    wanted: Sequence[Styled],
    counted: Mapping[str, Counts],
    cast: DataFrame,
    encodings: Sequence[str],
    totals: Totals,
    draft: Draft,
) -> dict[str, list[str]]:
    """Add the stages that encode ``wanted`` to the draft, and return the columns that are slots of each encoding.

    Values are ``counted`` by the SQL of their text; of ``cast`` only the columns are looked at.
    """
    found: dict[str, list[str]] = {encoding: [] for encoding in encodings}
    coded = [each for each in wanted if each.style != "hashing"]
    labels = {each: _labels(each, counted[each.sql]) for each in coded}
    half = _half_known(coded, labels, counted)
    labels |= {Styled(each.category, "seen"): counted[each.sql].values for each in half}
    if labels:
        indexer = _fit_index(labels, [each.column for each in (*coded, *half)], cast.sparkSession)
        draft.add(indexer, [each.index for each in labels])
        # In the indexer's own order, which is that of Java's strings.
        labels = dict(zip(labels, indexer.labelsArray, strict=True))
        for encoding, slots in _add_means(coded, counted, labels, encodings, totals, draft).items():
            found[encoding] += slots
        hot = [each for each in coded if each.style == "onehot"]
        if hot:
            draft.add(_one_hot(cast, hot, indexer), [internal("hot", each.category.name) for each in hot])
    for each in wanted:
        if each.style == "hashing":
            output = internal("hashed", each.category.name)
            hasher = FeatureHasher(inputCols=[each.column], outputCol=output, numFeatures=each.category.size)
            draft.add(hasher.setCategoricalCols([each.column]), [output])
    for encoding in encodings:
        for each in wanted:
            if each.category.is_slot and each.style == each.category.style(encoding) and each.style in _ROLES:
                found[encoding].append(internal(_ROLES[each.style], each.category.name))
    return found


def _labels(each: Styled, counts: Counts) -> list[str]:
    """Return the values that have a slot of their own: those frequent enough, and at most so many."""
    return [counts.values[place] for place in counts.frequent(each.category.min_frequency, MOST_LABELS[each.style])]


def _half_known(coded: Sequence[Styled], labels: Mapping[Styled, Sequence[str]], counted: Mapping[str, Counts]) -> list[Styled]:
    """Return the raw columns of which no set of labels has all values seen.

    An index of those is in the model too. No slot is made of it: it tells a value that is rare from one that was never seen.
    """
    found: dict[str, Styled] = {}
    for each in coded:
        known = max(len(labels[other]) for other in coded if other.category.name == each.category.name)
        if each.category.is_raw and known < len(counted[each.sql].values):
            found.setdefault(each.category.name, each)
    return list(found.values())


def _fit_index(labels: Mapping[Styled, Sequence[str]], inputs: Sequence[str], spark: SparkSession) -> StringIndexerModel:
    """Return the indexer of all label sets, each a column of one small frame; null, rare and unseen values share the last index."""
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


def _add_means(
    coded: Sequence[Styled],
    counted: Mapping[str, Counts],
    labels: Mapping[Styled, Sequence[str]],
    encodings: Sequence[str],
    totals: Totals,
    draft: Draft,
) -> dict[str, list[str]]:
    """Add the stage that looks up counts and means of the label by the index of the value; return the slots of each encoding."""
    found: dict[str, list[str]] = {encoding: [] for encoding in encodings}
    raw: dict[str, str] = {}
    blind: dict[str, str] = {}  # as the rows of the training see it
    encoded: dict[str, str] = {}
    for each in coded:
        category, counts = each.category, counted[each.sql]
        slots = []
        if each.style == "count":
            slots = [count_slot(category.name, each.index, counts, labels[each])]
        elif each.style == "target":
            slots = target_slots(category.name, each.index, counts, labels[each], totals, category.smoothing)
        for slot in slots:
            raw[slot.column], blind[slot.column] = slot.sql, slot.training_sql
            for encoding in encodings:
                if category.style(encoding) == each.style:
                    name = internal(encoding, slot.name)
                    encoded[name] = slot.encoded(encoding)
                    found[encoding].append(name)
    if raw:
        draft.add(_looked_up(raw, encoded), [*raw, *encoded], _looked_up(blind, encoded))
    return found


def _looked_up(raw: dict[str, str], encoded: dict[str, str]) -> SQLTransformer:
    first, second = ("".join(f", {sql} AS {quoted(name)}" for name, sql in each.items()) for each in (raw, encoded))
    return SQLTransformer(statement=f"SELECT *{second} FROM (SELECT *{first} FROM __THIS__)")


def _one_hot(cast: DataFrame, hot: Sequence[Styled], indexer: StringIndexerModel) -> OneHotEncoderModel:
    """Return the one-hot stage, a slot for each label and one for all else; read from the indexer's attributes, without a job."""
    inputs, outputs = [each.index for each in hot], [internal("hot", each.category.name) for each in hot]
    return OneHotEncoder(inputCols=inputs, outputCols=outputs, dropLast=False).fit(indexer.transform(cast))


def multiplied(plan: FeaturePlan, schema: T.StructType, encodings: Iterable[str]) -> list[tuple[str, Interaction]]:
    """Return the stages of a number times each value of a category, with their encoding; trees find such by themselves."""
    found = []
    for pair in pairs(plan):
        numbers = [name for name in pair if is_number(schema, name)]
        if len(numbers) == 1:
            [text] = [name for name in pair if name not in numbers]
            for encoding in encodings:
                if encoding != "tree":
                    inputs = [internal(encoding, numbers[0]), internal("hot", text)]
                    output = internal(f"times{encoding}", f"{numbers[0]}*{text}")
                    found.append((encoding, Interaction(inputCols=inputs, outputCol=output)))
    return found
