"""The fitted features: one pipeline for rows to be scored, and its other side for the rows that it was fitted on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

from pyspark.ml import PipelineModel, Transformer
from pyspark.sql import DataFrame

from tidemill.features.names import PART


class FeatureModel(PipelineModel):
    """A PipelineModel of MLlib that does not show the rows it was fitted on what their own labels say.

    Rows that come with the column ``_part`` are those of the training: where a feature is learnt from the label, a row sees what the
    other parts say, and a row whose part is null what all of them say. ``stages`` alone are saved, and serve all rows.
    """

    def __init__(self, stages: Sequence[Transformer], in_training: Sequence[Transformer] | None = None) -> None:
        """Take the stages, and those for rows of the training where they differ."""
        super().__init__(list(stages))
        self.in_training = list(stages if in_training is None else in_training)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return _transform_by(self.in_training if PART in dataset.columns else self.stages, dataset)


@dataclass
class Draft:
    """The stages so far, and the columns that the last of them will drop."""

    stages: list[Transformer] = field(default_factory=list)
    in_training: list[Transformer] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    def add(self, stage: Transformer, added: Iterable[str] = (), in_training: Transformer | None = None) -> None:
        """Add a stage, the columns that it adds, and what stands in for it in training."""
        self.stages.append(stage)
        self.in_training.append(in_training or stage)
        self.added += added

    def extend(self, stages: Iterable[Transformer], added: Iterable[str]) -> None:
        """Add stages that are the same for all rows."""
        for stage in stages:
            self.add(stage)
        self.added += added

    def over(self, dataset: DataFrame) -> DataFrame:
        """Return the rows of the training with what the stages so far make of them."""
        return _transform_by(self.in_training, dataset)

    def model(self) -> FeatureModel:
        """Return the fitted features."""
        return FeatureModel(self.stages, self.in_training)


def _transform_by(stages: Sequence[Transformer], dataset: DataFrame) -> DataFrame:
    return reduce(lambda frame, stage: stage.transform(frame), stages, dataset)
