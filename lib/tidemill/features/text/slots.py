"""The names of the slots of text vectors, read from the stages of a fitted model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyspark.ml.feature import CountVectorizerModel, HashingTF, VectorSlicer, Word2VecModel

from tidemill.features.names import internal, original
from tidemill.features.text.stages import Embedding


def text_slots(stages: Iterable[Any]) -> dict[str, list[str]]:
    """Return the slots of each text vector: ``remarks=word``, ``remarks=#7`` for a bucket, ``remarks.7`` for a number of an embedding."""
    found: dict[str, list[str]] = {}
    for stage in stages:
        if isinstance(stage, VectorSlicer) and stage.getInputCol() in found:
            names = found[stage.getInputCol()]
            found[stage.getOutputCol()] = [names[index] for index in stage.getIndices()]
        elif isinstance(stage, CountVectorizerModel | HashingTF):
            name = original(stage.getOutputCol())
            words = (
                stage.vocabulary if isinstance(stage, CountVectorizerModel) else [f"#{bucket}" for bucket in range(stage.getNumFeatures())]
            )
            found[internal("text", name)] = [f"{name}={word}" for word in words]
        elif isinstance(stage, Word2VecModel | Embedding):
            size = stage.getVectorSize() if isinstance(stage, Word2VecModel) else stage.getOrDefault(stage.size)
            found[stage.getOutputCol()] = [f"{original(stage.getOutputCol())}.{place}" for place in range(size)]
    return found
