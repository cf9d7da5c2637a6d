"""The fitted features: one pipeline for rows to be scored, and its other side for the rows of a search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

from pyspark.ml import PipelineModel, Transformer
from pyspark.sql import DataFrame

from tidemill.features.names import PART


class FeatureModel(PipelineModel):
    """A PipelineModel of MLlib, and what stands in for some of its stages in a search.

    It does not show the rows it was fitted on what their own labels say: where a feature is learnt from the label, the rows of a search
    have the column ``_part``; a row sees what the other parts say, and one whose part is null what all of them say. And what is learnt is
    kept out of generated code, which is the same for every fold then. ``stages`` alone are saved, and serve all rows.
    """

    def __init__(self, stages: Sequence[Transformer], in_search: Sequence[Transformer] | None = None) -> None:
        """Take the stages, and those for rows of a search where they differ."""
        super().__init__(list(stages))
        self.search_stages = list(stages if in_search is None else in_search)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return _applied(self.search_stages if PART in dataset.columns else self.stages, dataset)

    def in_search(self, rows: DataFrame) -> DataFrame:
        """Transform rows of a search: those that it was fitted on, and those that the fold holds out, which are in no part."""
        return _applied(self.search_stages, rows)


@dataclass
class Draft:
    """The stages so far, and the columns that the last of them will drop."""

    stages: list[Transformer] = field(default_factory=list)
    search_stages: list[Transformer] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def add(self, stage: Transformer, made: Iterable[str] = (), in_search: Transformer | None = None) -> None:
        """Add a stage, the columns that it makes, and what stands in for it in training."""
        self.stages.append(stage)
        self.search_stages.append(in_search or stage)
        self.made += made

    def extend(self, stages: Iterable[Transformer], made: Iterable[str]) -> None:
        """Add stages that are the same for all rows."""
        for stage in stages:
            self.add(stage)
        self.made += made

    def over(self, dataset: DataFrame) -> DataFrame:
        """Return the rows of the training with what the stages so far make of them."""
        return _applied(self.search_stages, dataset)

    def model(self) -> FeatureModel:
        """Return the fitted features."""
        return FeatureModel(self.stages, self.search_stages)


def _applied(stages: Sequence[Transformer], dataset: DataFrame) -> DataFrame:
    return reduce(lambda frame, stage: stage.transform(frame), stages, dataset)
