"""tidemill's own text stages, for what MLlib and SQL lack: each works on Arrow batches and is saved by its parameters."""

from __future__ import annotations

import importlib
import json
from abc import abstractmethod
from functools import cache
from html import unescape
from typing import TYPE_CHECKING, Any
from unicodedata import category, normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.ml import Transformer
from pyspark.ml.linalg import VectorUDT
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

from tidemill.errors import SetupError, StepError, UsageError
from tidemill.features.text.arrow import dense_vectors, map_distinct, map_texts, replace_values
from tidemill.quoting import quote_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import Column, DataFrame


class ArrowStage(Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable):
    """Adds ``outputCol``, computed from ``inputCol`` batch by batch."""

    def __init__(self, **params: Any) -> None:
        """Take the parameters by name."""
        super().__init__()
        self._set(**params)

    @abstractmethod
    def column(self, df: DataFrame) -> Column:
        """Return the column that is added."""

    def _transform(self, dataset: DataFrame) -> DataFrame:
        others = [F.col(quote_name(name)) for name in dataset.columns if name != self.getOutputCol()]
        return dataset.select(*others, self.column(dataset))

    def _apply(self, function: Callable[[pa.Array], pa.Array], kind: Any) -> Column:
        def batch(values: pa.Array) -> pa.Array:
            return function(values)

        make_udf: Any = arrow_udf  # its annotations require a function type that it infers itself
        return make_udf(batch, kind)(F.col(quote_name(self.getInputCol())))


def _word(owner: Any, name: str, doc: str) -> Param:
    return Param(owner, name, doc, typeConverter=TypeConverters.toString)


class UnicodeForm(ArrowStage):
    """Converts texts (ARRAY<STRING>) to a Unicode normalize_texts form; ``accents`` is keep or strip.

    Source: Unicode Standard Annex 15. Accents are the marks (Mn) of the canonical decomposition.
    """

    form = _word(Params._dummy(), "form", "NFC, NFKC, NFD or NFKD")
    accents = _word(Params._dummy(), "accents", "keep or strip")

    def column(self, df: DataFrame) -> Column:
        """Return the normalised texts."""
        form, strips = self.getOrDefault(self.form), self.getOrDefault(self.accents) == "strip"

        def normalize_text(text: str) -> str:
            if strips:
                text = "".join(mark for mark in normalize("NFD", text) if category(mark) != "Mn")
            return normalize(form, text)

        def normalize_texts(texts: pa.Array) -> pa.Array:
            # Arrow's own function is wrong for NFC. ASCII text is the same in all forms.
            if pc.all(pc.string_is_ascii(texts)).as_py():
                return texts
            return pa.array([text if text.isascii() else normalize_text(text) for text in texts.to_pylist()], pa.string())

        kind = df.schema[self.getInputCol()].dataType
        return self._apply(lambda texts: map_texts(texts, normalize_texts), kind).alias(self.getOutputCol())


class Unescape(ArrowStage):
    """Replaces HTML character references (``&amp;``, ``&#233;``) in texts (ARRAY<STRING>).

    Source: the HTML standard's list of named references, as in Python's ``html``.
    """

    def column(self, df: DataFrame) -> Column:
        """Return the texts."""

        def unescape_texts(texts: pa.Array) -> pa.Array:
            return pa.array([unescape(text) if "&" in text else text for text in texts.to_pylist()], pa.string())

        kind = df.schema[self.getInputCol()].dataType
        return self._apply(lambda texts: map_texts(texts, unescape_texts), kind).alias(self.getOutputCol())


class Stemmer(ArrowStage):
    """Replaces words (ARRAY<ARRAY<STRING>>) by their stems, by Snowball's algorithm for ``language``."""

    language = _word(Params._dummy(), "language", "a language of Snowball's")

    def column(self, df: DataFrame) -> Column:
        """Return the stems."""
        language = self.getOrDefault(self.language)
        kind = df.schema[self.getInputCol()].dataType

        def stems(words: pa.Array) -> pa.Array:
            return map_distinct(words, stemmer(language).stemWords)

        return self._apply(lambda words: map_texts(words, stems), kind).alias(self.getOutputCol())


@cache
def stemmer(language: str) -> Any:
    """Return Snowball's stemmer.

    Raises:
        SetupError: the package is not installed.
    """
    try:
        import snowballstemmer
    except ImportError as error:
        raise SetupError("features.text: `stem` needs the package snowballstemmer; run: pip install 'tidemill[text]'") from error
    return snowballstemmer.stemmer(language)


class LogCounts(ArrowStage):
    """Turns each count of a sparse vector into ``1 + ln(count)``; ``size`` is the vector size, for the metadata."""

    size = Param(Params._dummy(), "size", "the size of the vectors", typeConverter=TypeConverters.toInt)

    def column(self, df: DataFrame) -> Column:
        """Return the vectors; they stay sparse."""

        def take_logs(counts: pa.Array) -> pa.Array:
            return replace_values(counts, pc.add(pc.ln(counts.field("values").flatten()), 1.0))

        return self._apply(take_logs, VectorUDT()).alias(self.getOutputCol(), metadata=vector_metadata(self.getOrDefault(self.size)))


class Embedding(ArrowStage):
    """Computes vectors of texts (STRING) with a Python model.

    ``python`` names a function ``f(texts, **params)`` or a class ``C(**params)`` whose instances are called with the texts, normalize_text
    instance per Python worker. ``texts`` is a list; the result is an array of normalize_text row per text, each of ``size`` numbers.
    """

    python = _word(Params._dummy(), "python", "the dotted name of a function or class")
    params_json = _word(Params._dummy(), "params_json", "its parameters, as JSON")
    size = Param(Params._dummy(), "size", "the size of the vectors", typeConverter=TypeConverters.toInt)

    def column(self, df: DataFrame) -> Column:
        """Return the vectors."""
        name, params, width = self.getOrDefault(self.python), self.getOrDefault(self.params_json), self.getOrDefault(self.size)

        def embed_texts(texts: pa.Array) -> pa.Array:
            return dense_vectors(embed(name, params, texts.to_pylist(), width))

        return self._apply(embed_texts, VectorUDT()).alias(self.getOutputCol(), metadata=vector_metadata(width))


def vector_metadata(size: int) -> dict[str, Any]:
    """Return metadata with the size of a vector alone: slot names would be as large as the vocabulary."""
    return {"ml_attr": {"num_attrs": size}}


def embed(name: str, params: str, texts: list[str], width: int | None = None) -> np.ndarray:
    """Return normalize_text row per text; ``width`` is the expected vector size, None if unknown.

    Raises:
        StepError: the result has a wrong shape or values that are not finite.
    """
    rows = np.asarray(_embedder(name, params)(texts), dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(texts) or (width is not None and rows.shape[1] != width):
        shape = f"({len(texts)}, {'n' if width is None else width})"
        raise StepError(f"features.text: {name} gave an array of shape {rows.shape} for {len(texts)} texts, expected {shape}")
    if not np.isfinite(rows).all():
        raise StepError(f"features.text: {name} gave numbers that are not finite; a model can learn nothing from them")
    return rows


@cache
def _embedder(name: str, params: str) -> Callable[[list[str]], Any]:
    module, _, noun = name.rpartition(".")
    try:
        embedder = getattr(importlib.import_module(module), noun)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"features.text: {name} cannot be imported: {error}; give the dotted name of a function or a class") from error
    options = json.loads(params)
    if isinstance(embedder, type):
        return embedder(**options)
    return lambda texts: embedder(texts, **options)
