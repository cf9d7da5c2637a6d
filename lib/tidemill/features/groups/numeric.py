"""Numbers: imputed and scaled, optionally with a slot for missing values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from tidemill.features.choices import Choice, ColumnProfile
from tidemill.features.contributions import ColumnFacts, Contribution, Scalar
from tidemill.features.groups.feature_group import NUMBERS, ColumnBlock, FeatureGroup, RowFacts
from tidemill.features.names import number_sql

NUMBER = "a number, a boolean, or text that can be cast to a number"
INDICATORS = "a slot `x.missing` for each column that is null in some training row"


class Numeric(ColumnBlock):
    """Columns used as numbers."""

    impute: Literal["median", "mean", "mode", "none"] | float = "median"
    scale: Literal["standard", "minmax", "robust", "none"] = "standard"
    indicators: bool = Field(default=False, description=INDICATORS)


class NumericGroup(FeatureGroup):
    """One slot per column."""

    options = Numeric
    accepts, expected = NUMBERS, NUMBER
    read_as = ("DOUBLE", "a number")
    owns_slot_name = True

    def contribute(self, blocks: Sequence[Numeric], columns: ColumnFacts) -> Contribution:
        """Return a scalar per column."""
        del columns
        return Contribution(
            [
                Scalar(name, number_sql(name), block.impute, block.scale, indicator=block.indicators)
                for block in blocks
                for name in block.columns
            ]
        )

    def aggregates(self, block: Numeric, columns: ColumnFacts) -> Mapping[str, str]:
        """Count the numbers of each column."""
        del columns
        return {name: f"count({number_sql(name)})" for name in block.columns}

    def row_facts(self, block: Numeric, values: Mapping[str, Any]) -> RowFacts:
        """Note the columns without any number, and their fill value."""
        empty = [name for name in block.columns if not values[name] and block.impute != "none"]
        filler = 0 if isinstance(block.impute, str) else block.impute
        return RowFacts([f"{name} has no number; it is filled with {filler}" for name in empty])

    def choose(self, profile: ColumnProfile, n_classes: int | None) -> Choice | None:
        """Take numbers except ids, whose order has no meaning."""
        del n_classes
        if profile.kind != "numeric" or profile.is_id:
            return None
        settings = {"impute": "median", "scale": "standard", "indicators": False}
        return Choice(profile.name, "numeric", "numbers", "their type is a number", settings, profile.figures)

    def complete_choices(self, choices: Sequence[Choice]) -> list[Choice]:
        """Enable indicators if a column has nulls."""
        return add_indicators(choices)


def add_indicators(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices, with a slot for missing values if any column has nulls."""
    if not any(choice.figures["nulls"] for choice in choices):
        return list(choices)
    return [
        replace(choice, chosen=f"{choice.chosen}, and whether they are missing", settings={**choice.settings, "indicators": True})
        for choice in choices
    ]
