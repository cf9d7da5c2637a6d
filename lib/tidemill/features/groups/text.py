"""Free text: stages from the raw text to a vector of terms or an embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from tidemill.features.choices import Choice, ColumnProfile
from tidemill.features.contributions import ColumnFacts, Contribution, FittedVectors, VectorColumns, VectorFit
from tidemill.features.groups.feature_group import ColumnBlock, FeatureGroup
from tidemill.spec.models.text_stages import Stage, StageName, TextStage, resolve_stages, stage_name

_SIGNED = {"word2vec", "embedding"}


class Text(ColumnBlock):
    """Columns of free text."""

    stages: list[StageName | TextStage] = Field(
        default=["clean", "tokens", "stopwords", "tfidf"], min_length=1, description="names, or blocks of one key with parameters"
    )

    @field_validator("stages")
    @classmethod
    def _check_stages(cls, stages: list[StageName | TextStage]) -> list[StageName | TextStage]:
        resolve_stages(stages)
        return stages

    @property
    def steps(self) -> list[Stage]:
        """The stages in order, each with all of its parameters."""
        return resolve_stages(list(self.stages))

    @property
    def is_signed(self) -> bool:
        """True if the vector may have negative numbers, like an embedding."""
        return stage_name(self.steps[-1]) in _SIGNED


class TextGroup(FeatureGroup):
    """A vector per column."""

    options = Text
    accepts, expected = frozenset({"string"}), "STRING"

    def contribute(self, blocks: Sequence[Text], columns: ColumnFacts) -> Contribution:
        """Return the vectors of each block."""
        del columns
        return Contribution(vectors=[_TextVectors(block) for block in blocks])

    def choose(self, profile: ColumnProfile, n_classes: int | None) -> Choice | None:
        """Take prose."""
        del n_classes
        if profile.kind != "string" or not profile.is_prose:
            return None
        reason = f"about {profile.words:.0f} words each, {profile.distinct:,} different ones in {profile.rows:,} rows"
        settings = {"stages": ["clean", "tokens", "stopwords", "tfidf"]}
        return Choice(profile.name, "text", "prose, a slot a word", reason, settings, profile.figures)

    def signed_slots(self, block: Mapping[str, Any]) -> str:
        """Return that word2vec and embeddings may be negative."""
        stages = block.get("stages")
        last = stages[-1] if isinstance(stages, list) and stages else None
        names = {last} if isinstance(last, str) else set(last) if isinstance(last, dict) else set()
        return "those of word2vec and embeddings are; use logistic_regression, or end in tfidf" if names & _SIGNED else ""


@dataclass(frozen=True)
class _TextVectors(VectorColumns):
    block: Text

    def fit(self, fit: VectorFit) -> FittedVectors:
        """Fit the stages, once for the same rows."""
        from tidemill.features.text import fit_texts

        key = ("texts", repr(self.block), fit.for_trees)
        fitted: FittedVectors = fit.remember(key, lambda: fit_texts(fit.rows, self.block, for_trees=fit.for_trees))
        return fitted
