"""What is learnt about text columns: the words of the training rows, how many documents have each, and the stages that follow from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import count
from typing import TYPE_CHECKING

from pyspark.ml import Transformer
from pyspark.ml.feature import SQLTransformer, VectorSlicer, Word2Vec

from tidemill.errors import StepError
from tidemill.features.names import internal
from tidemill.features.text import expressions as sql
from tidemill.features.text.stages import Embedding, Stemmer, Unescape, UnicodeForm, embed, stemmer
from tidemill.features.text.stopwords import stop_words
from tidemill.features.text.weights import fit_weights
from tidemill.quoting import quoted
from tidemill.spec.models import Text
from tidemill.spec.models import text_stages as spec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


# MLlib's trees keep a number for every row and slot, whether it is there or not; they see the terms that most documents have.
TREE_TERMS = 512


@dataclass
class FittedTexts:
    """The stages of the text columns, the vectors they end in, and the columns they make on the way.

    ``slices`` are what trees see of the vectors, one each.
    """

    stages: list[Transformer] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)


def fit_texts(df: DataFrame, group: Text, *, for_trees: bool) -> FittedTexts:
    """Learn the text columns of ``group`` from ``df``: one aggregate a column for TF-IDF, MLlib's own jobs for Word2Vec."""
    fitted = FittedTexts()
    columns, steps = list(group.columns), group.steps
    current = _prepared(columns, steps, fitted)
    ready = reduce(lambda frame, stage: stage.transform(frame), fitted.stages, df)
    last = steps[-1]
    for name in columns:
        output, common = internal("text", name), None
        if isinstance(last, spec.Tfidf):
            stages, made, common = fit_weights(ready.select(quoted(current[name])), name, current[name], output, last)
            fitted.made += made
        elif isinstance(last, spec.Word2vec):
            stages = [_word2vec(current[name], output, last).fit(ready.select(quoted(current[name])))]
        else:
            assert isinstance(last, spec.Embedding)
            stages = [_embedding(current[name], output, last)]
        fitted.stages += stages
        fitted.vectors.append(output)
        fitted.made.append(output)
        if for_trees:
            fitted.slices.append(_sliced(output, name, common, fitted))
    return fitted


def _prepared(columns: Sequence[str], steps: Sequence[spec.Stage], fitted: FittedTexts) -> dict[str, str]:
    """Add the stages that are the same for all rows; return the column of terms, or of text for an embedding, by the raw column."""
    found = {name: sql.text_sql(name) for name in columns}
    places = count()

    def put_down(role: str) -> dict[str, str]:
        """Make columns of the expressions so far."""
        place = next(places)
        made = {name: internal(f"{role}{place}", name) for name in columns}
        listed = "".join(f", {found[name]} AS {quoted(made[name])}" for name in columns)
        fitted.stages.append(SQLTransformer(statement=f"SELECT *{listed} FROM __THIS__"))
        fitted.made += made.values()
        return made

    for step in steps[:-1]:
        found = {name: _expression(step, text) for name, text in found.items()}
        batched = _batched(step)
        if batched is not None:
            for name, column in put_down("before").items():
                after = column.replace("before", "after", 1)
                fitted.stages.append(batched(inputCol=column, outputCol=after))
                fitted.made.append(after)
                found[name] = quoted(after)
    is_parted = any(isinstance(step, spec.Tokens) for step in steps)
    found = {name: f"flatten({text})" if is_parted else f"array_join({text}, ' ')" for name, text in found.items()}
    return put_down("terms")


def _batched(step: spec.Stage) -> Callable[..., Transformer] | None:
    """Return the stage on Arrow batches that a step ends in; None where SQL does all of it."""
    if isinstance(step, spec.Clean):
        return Unescape if step.html else None
    if isinstance(step, spec.Unicode):
        return partial(UnicodeForm, form=step.form, accents=step.accents)
    if isinstance(step, spec.Stem):
        stemmer(step.language)  # says now that its package is missing
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
        numPartitions=1,  # more of them are averaged, by an order that nothing holds fast
    )


def _embedding(column: str, output: str, stage: spec.Embedding) -> Embedding:
    """Ask the model for one empty text, to know how many numbers it gives."""
    try:
        params = json.dumps(stage.params, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise StepError(f"features.text: the parameters of {stage.python} cannot be saved with the model: {error}") from error
    width = embed(stage.python, params, [""]).shape[1]
    return Embedding(inputCol=column, outputCol=output, python=stage.python, params_json=params, size=width)


def _sliced(vector: str, name: str, common: Sequence[int] | None, fitted: FittedTexts) -> str:
    """Return the column of what trees see of the vector."""
    if common is None:
        return vector
    column = internal("common", name)
    fitted.stages.append(VectorSlicer(inputCol=vector, outputCol=column, indices=sorted(common[:TREE_TERMS])))
    fitted.made.append(column)
    return column
