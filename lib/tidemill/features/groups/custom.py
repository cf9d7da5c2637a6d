"""Custom stages; `tidemill.features.custom` fits them before all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from tidemill.features.contributions import ColumnFacts, Contribution
from tidemill.features.groups.feature_group import FeatureGroup
from tidemill.options import Block, ColumnName, DottedName


class PythonPart(Block):
    """A user class or function, by dotted name, with its parameters."""

    python: DottedName
    params: dict[str, Any] = Field(default={})
    columns: list[ColumnName] = Field(default=[], description="the raw columns it reads; absent: those that its params name")

    @property
    def named_columns(self) -> list[str]:
        """The columns that the spec names: ``columns``, or every text among its parameters."""
        texts = [item for value in self.params.values() for item in (value if isinstance(value, list) else [value])]
        return self.columns or [text for text in texts if isinstance(text, str)]


class CustomGroup(FeatureGroup):
    """The plan resolves the stages, since their columns may depend on their code."""

    options = PythonPart
    allows_repeats = True
    is_list = True

    def contribute(self, blocks: Sequence[PythonPart], columns: ColumnFacts) -> Contribution:
        """Return nothing: the columns of the stages are known after fitting."""
        del blocks, columns
        return Contribution()

    def columns(self, block: PythonPart) -> list[str]:
        """Return the columns that the block names."""
        return block.named_columns
