"""The names of the slots of a feature vector, read from the stages of a fitted model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.ml import PipelineModel
from pyspark.ml.feature import (
    CountVectorizerModel,
    FeatureHasher,
    HashingTF,
    Interaction,
    OneHotEncoderModel,
    PCAModel,
    StringIndexerModel,
    VectorAssembler,
    VectorSizeHint,
    VectorSlicer,
    Word2VecModel,
)

from tidemill.features.names import OTHER, internal_name, raw_name
from tidemill.features.text.stages import Embedding


@dataclass(frozen=True)
class Slot:
    """One slot of a vector: its name, and the number of values if it holds a category index, else 0."""

    name: str
    categories: int = 0


def slot_names(model: PipelineModel, encoding: str) -> list[str]:
    """Return the slots of ``features_<encoding>`` in order.

    A slot is ``column``, ``column=value``, ``column=word`` for a text or a list, ``column=[from, to)`` for a bucket, ``column=#7`` for a
    hash, ``column.part`` for parts of an instant, ``column.target``, ``column.count``, ``column.missing``, ``x*y`` and ``x^2`` for
    products, ``pca.0`` for a component.

    The slot of null, rare and unseen values is ``column=(other)``; those of a custom stage's vector are ``column[0]`` and so on.
    """
    return [slot.name for slot in slots_of(model, f"features_{encoding}")]


def max_categories(model: PipelineModel) -> int:
    """Return the number of values of the widest nominal slot of ``features_tree``, at least 2: the least ``maxBins`` of a tree."""
    return max((slot.categories for slot in slots_of(model, "features_tree")), default=2) or 2


def nominal_slots(model: PipelineModel) -> dict[int, int]:
    """Return the slots of ``features_tree`` that are category indices: place → number of values; null, rare and unseen count as one."""
    return {place: slot.categories for place, slot in enumerate(slots_of(model, "features_tree")) if slot.categories}


def slots_of(model: PipelineModel, vector: str) -> list[Slot]:
    """Return the slots of a vector column that the model adds; empty if it adds no such column."""
    names = _SlotNames(list(_stages(model)), vector)
    return names.slots(vector) if vector in names.vectors else []


class _SlotNames:
    """The slots of the columns that stages add, up to the stage that adds ``vector``; later stages assemble predictions, not features."""

    def __init__(self, stages: list[Any], vector: str) -> None:
        self.vectors: dict[str, list[Slot]] = {
            column: [Slot(name) for name in names] for column, names in _text_slots(stages).items()
        }  # including slices of text vectors
        self._labels: dict[str, list[str]] = {}
        for stage in stages:
            if vector in self.vectors:
                break
            self._add(stage)

    def slots(self, column: str) -> list[Slot]:
        """Return the slots of a vector, or the one of a number."""
        if column in self.vectors:
            return self.vectors[column]
        return [Slot(raw_name(column), len(self._labels[column]) + 1 if column in self._labels else 0)]

    def _add(self, stage: Any) -> None:
        if isinstance(stage, StringIndexerModel):
            self._labels.update(zip(stage.getOutputCols(), map(list, stage.labelsArray), strict=True))
        elif isinstance(stage, OneHotEncoderModel):
            for before, after in zip(stage.getInputCols(), stage.getOutputCols(), strict=True):
                self.vectors[after] = [Slot(f"{raw_name(after)}={value}") for value in (*self._labels[before], OTHER)]
        elif isinstance(stage, VectorSizeHint):
            name = stage.getInputCol()
            self.vectors[name] = [Slot(f"{raw_name(name)}[{place}]") for place in range(stage.getSize())]
        elif isinstance(stage, FeatureHasher):
            output = stage.getOutputCol()
            self.vectors[output] = [Slot(f"{raw_name(output)}=#{place}") for place in range(stage.getNumFeatures())]
        elif isinstance(stage, Interaction):
            number, category = (self.slots(column) for column in stage.getInputCols())
            self.vectors[stage.getOutputCol()] = [Slot(f"{number[0].name}*{value.name}") for value in category]
        elif isinstance(stage, PCAModel):
            output = stage.getOutputCol()
            self.vectors[output] = [Slot(f"{raw_name(output)}.{place}") for place in range(stage.getK())]
        elif isinstance(stage, VectorAssembler):
            self.vectors[stage.getOutputCol()] = [slot for column in stage.getInputCols() for slot in self.slots(column)]
        elif isinstance(stage, VectorSlicer) and stage.getOutputCol() not in self.vectors:
            whole = self.slots(stage.getInputCol())
            self.vectors[stage.getOutputCol()] = [whole[place] for place in stage.getIndices()]


def _stages(model: PipelineModel) -> Iterator[Any]:
    for stage in model.stages:
        if isinstance(stage, PipelineModel):
            yield from _stages(stage)
        else:
            yield stage


def _text_slots(stages: Iterable[Any]) -> dict[str, list[str]]:
    """Return the slots of each text vector: ``remarks=word``, ``remarks=#7`` for a bucket, ``remarks.7`` for a number of an embedding."""
    slots: dict[str, list[str]] = {}
    for stage in stages:
        if isinstance(stage, VectorSlicer) and stage.getInputCol() in slots:
            names = slots[stage.getInputCol()]
            slots[stage.getOutputCol()] = [names[index] for index in stage.getIndices()]
        elif isinstance(stage, CountVectorizerModel | HashingTF):
            name = raw_name(stage.getOutputCol())
            words = (
                stage.vocabulary if isinstance(stage, CountVectorizerModel) else [f"#{bucket}" for bucket in range(stage.getNumFeatures())]
            )
            slots[internal_name("text", name)] = [f"{name}={word}" for word in words]
        elif isinstance(stage, Word2VecModel | Embedding):
            size = stage.getVectorSize() if isinstance(stage, Word2VecModel) else stage.getOrDefault(stage.size)
            slots[stage.getOutputCol()] = [f"{raw_name(stage.getOutputCol())}.{place}" for place in range(size)]
    return slots
