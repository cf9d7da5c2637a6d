"""Lists of words: a slot a word, or one of so many by the word's hash."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyspark.ml import Transformer
from pyspark.ml.feature import CountVectorizerModel, HashingTF, VectorSlicer
from pyspark.sql import types as T

from tidemill.features.counts import Counts, Subject
from tidemill.features.kinds import group_of
from tidemill.features.names import internal
from tidemill.features.text.fit import TREE_TERMS
from tidemill.quoting import quoted

if TYPE_CHECKING:
    from tidemill.features.plan import FeaturePlan


_MOST_WORDS = 10_000


@dataclass(frozen=True)
class Words:
    """A column of lists of text."""

    name: str
    encode: str
    min_frequency: int
    size: int

    @property
    def column(self) -> str:
        """The column of its words, each once, none where there is no list."""
        return internal("words", self.name)

    @property
    def sql(self) -> str:
        """SQL for ``column``."""
        texts = f"transform({quoted(self.name)}, v -> CAST(v AS STRING))"
        return f"array_distinct(coalesce(filter({texts}, v -> v IS NOT NULL), CAST(array() AS ARRAY<STRING>)))"

    @property
    def is_hashed(self) -> bool:
        """True where no word is learnt."""
        return self.encode == "hashing"

    @property
    def subject(self) -> Subject:
        """What of it is counted."""
        return Subject(self.column, is_list=True)


@dataclass
class FittedWords:
    """The stages, the vectors that they end in, what trees see of those, and all columns made on the way."""

    stages: list[Transformer] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)


def words(plan: FeaturePlan, schema: T.StructType) -> list[Words]:
    """Return the plan's lists of text."""
    return [
        Words(name, block.encode, block.min_frequency, block.size)
        for block in plan.blocks("array")
        for name in block.columns
        if group_of(schema[name].dataType) == "words"
    ]


def fit_words(found: list[Words], counted: dict[str, Counts], *, for_trees: bool) -> FittedWords:
    """Return the stages of ``found``, whose words are ``counted`` by their column; a word that none of them knows has no slot."""
    fitted = FittedWords()
    for each in found:
        output = internal("text", each.name)
        if each.is_hashed:
            fitted.stages.append(HashingTF(inputCol=each.column, outputCol=output, numFeatures=each.size, binary=True))
            size = each.size
        else:
            counts = counted[each.column]
            known = [counts.values[place] for place in counts.frequent(each.min_frequency, _MOST_WORDS)]
            if not known:
                continue
            made = CountVectorizerModel.from_vocabulary(known, inputCol=each.column, outputCol=output)
            fitted.stages.append(made.setBinary(True))
            size = len(known)
        fitted.vectors.append(output)
        fitted.made.append(output)
        fitted.slices.append(output)
        if for_trees and size > TREE_TERMS and not each.is_hashed:
            common = internal("common", each.name)
            # The words that most rows have stand first.
            fitted.stages.append(VectorSlicer(inputCol=output, outputCol=common, indices=list(range(TREE_TERMS))))
            fitted.made.append(common)
            fitted.slices[-1] = common
    return fitted
