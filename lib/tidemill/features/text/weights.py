"""TF-IDF: the vocabulary and the weight of each term."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark.ml import Transformer
from pyspark.ml.feature import IDF, CountVectorizerModel, ElementwiseProduct, HashingTF, Normalizer
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.features.names import internal_name
from tidemill.features.text.stages import LogCounts
from tidemill.quoting import quote_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.spec.models import Tfidf


_NORMS = {"l1": 1.0, "l2": 2.0}
WeightStages = tuple[list[Transformer], list[str], list[int]]


def fit_weights(df: DataFrame, name: str, terms: str, output: str, stage: Tfidf) -> WeightStages:
    """Return the stages from ``terms`` (ARRAY<STRING>) to ``output``, the columns between, and the slots by falling document frequency.

    Terms are counted in one aggregate over ``df``; if a bound is a share, the documents are counted first.

    Raises:
        StepError: no term is within the bounds of document frequency.
    """
    counts = internal_name("counts", name)
    if stage.by == "hashing":
        return _fit_hashing(df, name, terms, counts, output, stage)
    frequencies, documents = _document_frequencies(df, terms, stage)
    if not frequencies:
        raise StepError(f"features.text: {_no_terms_message(name, stage)}")
    vectorizer = CountVectorizerModel.from_vocabulary([term for term, _ in frequencies], inputCol=terms, outputCol=counts)
    weights = [_idf(documents, n) for _, n in frequencies]
    stages, columns = _weight_stages(counts, output, len(frequencies), weights, name, stage)
    return [vectorizer, *stages], [counts, *columns], list(range(len(frequencies)))


def _no_terms_message(name: str, stage: Tfidf) -> str:
    bounds = f"at least {_format_bound(stage.min_df)} and at most {_format_bound(stage.max_df)}"
    return f"column {name!r} has no term that is in {bounds} of the training rows; lower `min_df`, raise `max_df`, or leave the column out"


def _format_bound(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:.4g} (a share)"


def _document_frequencies(df: DataFrame, terms: str, stage: Tfidf) -> tuple[list[tuple[str, int]], int]:
    """Return the terms with their document frequencies, most frequent first, ties by text; and the number of documents."""
    rows = df.count() if isinstance(stage.min_df, float) or isinstance(stage.max_df, float) else 0
    least, most = _bounds(stage, rows)
    # A null is added to each document once: its count is the number of documents.
    each = F.array_append(F.array_distinct(F.col(quote_name(terms))), F.lit(None))
    counted = df.select(F.explode(each).alias("term")).groupBy("term").agg(F.count("*").alias("n"))
    bounded_terms = counted.where(F.col("term").isNull() | F.col("n").between(least, most))
    frequencies = bounded_terms.orderBy(F.col("term").isNotNull(), F.desc("n"), "term")
    table = frequencies.limit(stage.size + 1).toArrow()
    pairs = list(zip(table["term"].to_pylist(), table["n"].to_pylist(), strict=True))
    return [(term, n) for term, n in pairs if term is not None], next((n for term, n in pairs if term is None), 0)


def _bounds(stage: Tfidf, rows: int) -> tuple[int, int]:
    """Return the least and the greatest document frequency; shares are rounded as in scikit-learn, in favour of terms."""
    least = stage.min_df if isinstance(stage.min_df, int) else math.ceil(stage.min_df * rows)
    most = stage.max_df if isinstance(stage.max_df, int) else math.floor(stage.max_df * rows)
    return max(1, least), most


def _idf(documents: int, n: int) -> float:
    """Return the smoothed IDF of a term: as if one more document had every term; never 0.

    Source: scikit-learn, TfidfTransformer with ``smooth_idf``.
    """
    return math.log((1 + documents) / (1 + n)) + 1


def _fit_hashing(df: DataFrame, name: str, terms: str, counts: str, output: str, stage: Tfidf) -> WeightStages:
    """Return the stages by hashing; MLlib's IDF counts the documents of each bucket, to which the bounds apply."""
    hashing = HashingTF(inputCol=terms, outputCol=counts, numFeatures=stage.size)
    fitted = IDF(inputCol=counts, outputCol=output).fit(hashing.transform(df))
    documents, frequencies = int(fitted.numDocs), [int(n) for n in fitted.docFreq]
    least, most = _bounds(stage, documents)
    if not any(least <= n <= most for n in frequencies):
        raise StepError(f"features.text: {_no_terms_message(name, stage)}")
    worth = [(_idf(documents, n) if stage.idf else 1.0) if least <= n <= most else 0.0 for n in frequencies]
    stages, columns = _weight_stages(counts, output, stage.size, worth, name, stage, bounded=True)
    by_documents = sorted((bucket for bucket, weight in enumerate(worth) if weight), key=lambda bucket: (-frequencies[bucket], bucket))
    return [hashing, *stages], [counts, *columns], by_documents


def _weight_stages(
    counts: str, output: str, size: int, weights: Sequence[float], name: str, stage: Tfidf, *, bounded: bool = False
) -> tuple[list[Transformer], list[str]]:
    """Return the stages from counts to weights, and the columns between; vectors stay sparse."""
    steps: list[tuple[str, Transformer]] = []
    if stage.sublinear:
        steps.append(("logs", LogCounts(size=size)))
    if stage.idf or bounded:
        steps.append(("weighed", ElementwiseProduct(scalingVec=Vectors.dense(weights))))
    if stage.norm != "none":
        steps.append(("normed", Normalizer(p=_NORMS[stage.norm])))
    columns = [internal_name(role, name) for role, _ in steps[:-1]]
    places = [counts, *columns, output]
    for (_, step), before, after in zip(steps, places, places[1:], strict=False):
        step.set(step.getParam("inputCol"), before)
        step.set(step.getParam("outputCol"), after)
    if not steps:  # counts alone: the stage only renames the column
        steps = [("counts", ElementwiseProduct(scalingVec=Vectors.dense([1.0] * size), inputCol=counts, outputCol=output))]
    return [step for _, step in steps], columns
