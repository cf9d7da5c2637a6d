"""Stages of the user's own; `tidemill.features.custom` fits them before everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from tidemill.features.contributions import ColumnFacts, Contribution
from tidemill.features.groups.feature_group import FeatureGroup
from tidemill.options import Block, ColumnName, DottedName


class PythonPart(Block):
    """A class or function of the user's own, by dotted name, with its parameters."""

    python: DottedName
    params: dict[str, Any] = Field(default={})
    columns: list[ColumnName] = Field(default=[], description="the raw columns it reads; absent: those that its params name")

    @property
    def named_columns(self) -> list[str]:
        """The columns it may read as far as the spec says: ``columns``, or every text among its parameters."""
        texts = [item for value in self.params.values() for item in (value if isinstance(value, list) else [value])]
        return self.columns or [text for text in texts if isinstance(text, str)]


class CustomGroup(FeatureGroup):
    """The stages are resolved by the plan, since their columns may follow from their code."""

    options = PythonPart
    allows_repeats = True
    is_list = True

    def contribute(self, blocks: Sequence[PythonPart], columns: ColumnFacts) -> Contribution:
        """Return nothing: what the stages add is known when they are fitted."""
        del blocks, columns
        return Contribution()

    def columns(self, block: PythonPart) -> list[str]:
        """Return the columns that the block names."""
        return block.named_columns
