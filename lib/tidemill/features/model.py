"""The fitted features: a pipeline for rows to be scored, with cross-fitted stages for its training rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

from pyspark.ml import PipelineModel, Transformer
from pyspark.sql import DataFrame

from tidemill.features.names import PART


class FeatureModel(PipelineModel):
    """A PipelineModel that does not leak a training row's own label into its features.

    Rows with the column ``_part`` are training rows: a feature that is learnt from the label uses the other parts for them, or all parts if
    the row's part is null. Only ``stages`` are saved; they serve all rows.
    """

    def __init__(self, stages: Sequence[Transformer], in_training: Sequence[Transformer] | None = None) -> None:
        """Take the stages, and those for training rows if they differ."""
        super().__init__(list(stages))
        self.in_training = list(stages if in_training is None else in_training)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return _transform_by(self.in_training if PART in dataset.columns else self.stages, dataset)


@dataclass
class Draft:
    """The stages so far, and the columns that the last stage will drop."""

    stages: list[Transformer] = field(default_factory=list)
    in_training: list[Transformer] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    def add(self, stage: Transformer, added: Iterable[str] = (), in_training: Transformer | None = None) -> None:
        """Add a stage, the columns that it adds, and its replacement for training rows."""
        self.stages.append(stage)
        self.in_training.append(in_training or stage)
        self.added += added

    def extend(self, stages: Iterable[Transformer], added: Iterable[str]) -> None:
        """Add stages that are the same for all rows."""
        for stage in stages:
            self.add(stage)
        self.added += added

    def transform(self, dataset: DataFrame) -> DataFrame:
        """Transform training rows by the stages so far."""
        return _transform_by(self.in_training, dataset)

    def model(self) -> FeatureModel:
        """Return the fitted features."""
        return FeatureModel(self.stages, self.in_training)


def _transform_by(stages: Sequence[Transformer], dataset: DataFrame) -> DataFrame:
    return reduce(lambda frame, stage: stage.transform(frame), stages, dataset)
