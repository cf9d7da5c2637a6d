"""Fits of text columns: the vocabulary of the training rows with document frequencies, and the resulting stages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import count
from typing import TYPE_CHECKING

from pyspark.ml import Transformer
from pyspark.ml.feature import SQLTransformer, StopWordsRemover, VectorSlicer, Word2Vec

from tidemill.errors import StepError
from tidemill.features.contributions import FittedVectors
from tidemill.features.names import internal_name
from tidemill.features.text import expressions as sql
from tidemill.features.text.stages import Embedding, Stemmer, Unescape, UnicodeForm, embed, stemmer
from tidemill.features.text.weights import fit_weights
from tidemill.quoting import quote_name
from tidemill.spec.models import text_stages as spec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.features.groups.text import Text


# MLlib's trees store a number for every row and slot, so they use only the terms that most documents have.
TREE_TERMS = 512
_APOSTROPHE = re.compile(r"['’]")


def fit_texts(df: DataFrame, block: Text, *, for_trees: bool) -> FittedVectors:
    """Fit the text columns of ``block`` on ``df``: one aggregate per column for TF-IDF, MLlib's own jobs for Word2Vec."""
    fitted = FittedVectors(has_many_slots=True)
    columns, steps = list(block.columns), block.steps
    current = _add_terms(columns, steps, fitted)
    ready = reduce(lambda frame, stage: stage.transform(frame), fitted.stages, df)
    last = steps[-1]
    for name in columns:
        output, common = internal_name("text", name), None
        if isinstance(last, spec.Tfidf):
            stages, columns_between, common = fit_weights(ready.select(quote_name(current[name])), name, current[name], output, last)
            fitted.added += columns_between
        elif isinstance(last, spec.Word2vec):
            stages = [_word2vec(current[name], output, last).fit(ready.select(quote_name(current[name])))]
        else:
            assert isinstance(last, spec.Embedding)
            stages = [_embedding(current[name], output, last)]
        fitted.stages += stages
        fitted.vectors.append(output)
        fitted.added.append(output)
        if for_trees:
            fitted.tree_vectors.append(_common_terms(output, name, common, fitted))
    return fitted


def _add_terms(columns: Sequence[str], steps: Sequence[spec.Stage], fitted: FittedVectors) -> dict[str, str]:
    """Add the stages before the vectors; return, by raw column, the column of terms, or of text for an embedding."""
    terms = {name: sql.text_sql(name) for name in columns}
    places = count()

    def add_columns(role: str) -> dict[str, str]:
        """Add columns of the expressions so far."""
        place = next(places)
        added = {name: internal_name(f"{role}{place}", name) for name in columns}
        listed = "".join(f", {terms[name]} AS {quote_name(added[name])}" for name in columns)
        fitted.stages.append(SQLTransformer(statement=f"SELECT *{listed} FROM __THIS__"))
        fitted.added += added.values()
        return added

    for step in steps[:-1]:
        terms = {name: _expression(step, text) for name, text in terms.items()}
        batch_stage = _batch_stage(step)
        if batch_stage is not None:
            for name, column in add_columns("before").items():
                after = column.replace("before", "after", 1)
                fitted.stages.append(batch_stage(inputCol=column, outputCol=after))
                fitted.added.append(after)
                terms[name] = quote_name(after)
    is_parted = any(isinstance(step, spec.Tokens) for step in steps)
    terms = {name: f"flatten({text})" if is_parted else f"array_join({text}, ' ')" for name, text in terms.items()}
    return add_columns("terms")


def _batch_stage(step: spec.Stage) -> Callable[..., Transformer] | None:
    """Return the Arrow stage of a step; None if SQL expressions suffice."""
    if isinstance(step, spec.Clean):
        return Unescape if step.html else None
    if isinstance(step, spec.Unicode):
        return partial(UnicodeForm, form=step.form, accents=step.accents)
    if isinstance(step, spec.Stem):
        stemmer(step.language)  # fails early if its package is missing
        return partial(Stemmer, language=step.language)
    return None


def _expression(step: spec.Stage, before: str) -> str:
    if isinstance(step, spec.Clean):
        return sql.clean_sql(before, step)
    if isinstance(step, spec.Sentences):
        return sql.sentences_sql(before, step)
    if isinstance(step, spec.Tokens):
        return sql.tokens_sql(before, step)
    if isinstance(step, spec.Stopwords):
        return sql.stopwords_sql(before, stop_words(step))
    return sql.ngrams_sql(before, step) if isinstance(step, spec.Ngrams) else before


def _word2vec(column: str, output: str, stage: spec.Word2vec) -> Word2Vec:
    return Word2Vec(
        inputCol=column,
        outputCol=output,
        vectorSize=stage.size,
        minCount=stage.min_count,
        windowSize=stage.window,
        maxIter=stage.iterations,
        seed=stage.seed,
        numPartitions=1,  # with more, results depend on the order in which partitions are averaged
    )


def _embedding(column: str, output: str, stage: spec.Embedding) -> Embedding:
    """Return the stage; the model is called once with an empty text, to learn the size of its vectors."""
    try:
        params = json.dumps(stage.params, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise StepError(f"features.text: the parameters of {stage.python} cannot be saved with the model: {error}") from error
    width = embed(stage.python, params, [""]).shape[1]
    return Embedding(inputCol=column, outputCol=output, python=stage.python, params_json=params, size=width)


def _common_terms(vector: str, name: str, common: Sequence[int] | None, fitted: FittedVectors) -> str:
    """Return the column of the vector for trees: the most common terms."""
    if common is None:
        return vector
    column = internal_name("common", name)
    fitted.stages.append(VectorSlicer(inputCol=vector, outputCol=column, indices=sorted(common[:TREE_TERMS])))
    fitted.added.append(column)
    return column


def stop_words(stage: spec.Stopwords) -> set[str]:
    """Return the words to leave out, in lower case.

    A contraction such as "don't" is also listed as "don" and "t", since most word patterns split it there.
    """
    listed = {word.lower() for word in StopWordsRemover.loadDefaultStopWords(stage.language)}
    listed |= {word.lower() for word in stage.words}
    parts = {part for word in listed for part in _APOSTROPHE.split(word) if part}
    return (listed | parts) - {word.lower() for word in stage.keep}
