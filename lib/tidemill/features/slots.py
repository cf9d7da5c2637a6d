"""Which raw column and value stands behind each slot of a feature vector, read from the stages of a fitted model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyspark.ml import PipelineModel
from pyspark.ml.feature import OneHotEncoderModel, StringIndexerModel, VectorAssembler, VectorSizeHint

from tidemill.features.names import OTHER, original
from tidemill.features.text import text_slots


def slot_names(model: PipelineModel, encoding: str) -> list[str]:
    """Return the slots of ``features_<encoding>`` in order.

    A slot is ``column``, ``column=value``, ``column=word`` for a text, or ``column.part`` for parts of an instant.

    The slot of null, rare and unseen values is ``column=(other)``; those of a custom stage's vector are ``column[0]`` and so on.
    """
    labels, hot, sizes, texts = _labels(model), _one_hot(model), _sizes(model), text_slots(_stages(model))
    names: list[str] = []
    for column in _assembled(model, encoding):
        if column in sizes:
            names += [f"{original(column)}[{place}]" for place in range(sizes[column])]
        elif column in hot:
            names += [f"{original(column)}={value}" for value in (*labels[hot[column]], OTHER)]
        elif column in texts:
            names += texts[column]
        else:
            names.append(original(column))
    return names


def max_categories(model: PipelineModel) -> int:
    """Return how many values the widest nominal slot of ``features_tree`` has, at least 2: what a tree's ``maxBins`` must reach."""
    labels = _labels(model)
    return max((len(labels[column]) + 1 for column in _assembled(model, "tree") if column in labels), default=2)


def nominal_slots(model: PipelineModel) -> dict[int, int]:
    """Return the slots of ``features_tree`` that are category indices: place → how many, null, rare and unseen ones being one."""
    labels, hot, sizes, texts = _labels(model), _one_hot(model), _sizes(model), text_slots(_stages(model))
    found: dict[int, int] = {}
    place = 0
    for column in _assembled(model, "tree"):
        if column in labels:
            found[place] = len(labels[column]) + 1
        if column in sizes:
            place += sizes[column]
        elif column in hot:
            place += len(labels[hot[column]]) + 1
        else:
            place += len(texts[column]) if column in texts else 1
    return found


def _stages(model: PipelineModel) -> Iterator[Any]:
    for stage in model.stages:
        if isinstance(stage, PipelineModel):
            yield from _stages(stage)
        else:
            yield stage


def _assembled(model: PipelineModel, encoding: str) -> list[str]:
    output = f"features_{encoding}"
    for stage in _stages(model):
        if isinstance(stage, VectorAssembler) and stage.getOutputCol() == output:
            return list(stage.getInputCols())
    return []


def _labels(model: PipelineModel) -> dict[str, list[str]]:
    """Return the labels by the name of the indexed column."""
    return {
        column: list(labels)
        for stage in _stages(model)
        if isinstance(stage, StringIndexerModel)
        for column, labels in zip(stage.getOutputCols(), stage.labelsArray, strict=True)
    }


def _sizes(model: PipelineModel) -> dict[str, int]:
    """Return the number of places of each vector column whose size is declared."""
    return {stage.getInputCol(): stage.getSize() for stage in _stages(model) if isinstance(stage, VectorSizeHint)}


def _one_hot(model: PipelineModel) -> dict[str, str]:
    """Return the indexed column by the name of its one-hot column."""
    return {
        after: before
        for stage in _stages(model)
        if isinstance(stage, OneHotEncoderModel)
        for before, after in zip(stage.getInputCols(), stage.getOutputCols(), strict=True)
    }
