"""Lists of words: a slot per word, or one of so many by the word's hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.ml.feature import CountVectorizerModel, HashingTF, VectorSlicer

from tidemill.features.contributions import FittedVectors, WordList
from tidemill.features.counts import Counts
from tidemill.features.names import internal
from tidemill.features.text.fit import TREE_TERMS

_MAX_WORDS = 10_000


def fit_word_lists(lists: Sequence[WordList], counts: Mapping[str, Counts], *, for_trees: bool) -> FittedVectors:
    """Return the stages of ``lists``, whose words are counted by their column; a word that none of them knows has no slot."""
    fitted = FittedVectors(has_many_slots=True)
    for each in lists:
        output = internal("text", each.name)
        if each.is_hashed:
            fitted.stages.append(HashingTF(inputCol=each.column, outputCol=output, numFeatures=each.size, binary=True))
            size = 0
        else:
            frequent = counts[each.column].frequent(each.min_frequency, _MAX_WORDS)
            vocabulary = [counts[each.column].values[place] for place in frequent]
            if not vocabulary:
                continue
            vectorizer = CountVectorizerModel.from_vocabulary(vocabulary, inputCol=each.column, outputCol=output)
            fitted.stages.append(vectorizer.setBinary(True))
            size = len(vocabulary)
        fitted.vectors.append(output)
        fitted.added.append(output)
        fitted.tree_vectors.append(output)
        if for_trees and size > TREE_TERMS:
            common = internal("common", each.name)
            # The words that most rows have stand first.
            fitted.stages.append(VectorSlicer(inputCol=output, outputCol=common, indices=list(range(TREE_TERMS))))
            fitted.added.append(common)
            fitted.tree_vectors[-1] = common
    return fitted
