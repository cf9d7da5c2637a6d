"""Word lists: a slot per word, or a fixed number of slots by the words' hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.ml.feature import CountVectorizerModel, HashingTF, VectorSlicer

from tidemill.features.contributions import FittedVectors, WordList
from tidemill.features.counts import ValueCounts
from tidemill.features.names import internal_name
from tidemill.features.text.fit import TREE_TERMS

_MAX_WORDS = 10_000


def fit_word_lists(lists: Sequence[WordList], counts: Mapping[str, ValueCounts], *, for_trees: bool) -> FittedVectors:
    """Return the stages of ``lists``; ``counts`` are the counts of their words by column. A word outside the vocabulary has no slot."""
    fitted = FittedVectors(has_many_slots=True)
    for each in lists:
        output = internal_name("text", each.name)
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
            common = internal_name("common", each.name)
            # The vocabulary is sorted by frequency.
            fitted.stages.append(VectorSlicer(inputCol=output, outputCol=common, indices=list(range(TREE_TERMS))))
            fitted.added.append(common)
            fitted.tree_vectors[-1] = common
    return fitted
