"""Booleans as 0 and 1; the more frequent value stands in for a missing one."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tidemill.features.choices import Choice, ColumnProfile
from tidemill.features.contributions import ColumnFacts, Contribution, Scalar
from tidemill.features.groups.feature_group import NUMBERS, ColumnBlock, FeatureGroup
from tidemill.features.groups.numeric import INDICATORS, add_indicators
from tidemill.features.names import boolean_sql


class Boolean(ColumnBlock):
    """Columns used as 0 and 1; the more frequent value stands in for a missing one."""

    indicators: bool = Field(default=False, description=INDICATORS)


class BooleanGroup(FeatureGroup):
    """One slot per column."""

    options = Boolean
    accepts, expected = NUMBERS, "BOOLEAN, a number or text"
    read_as = ("BOOLEAN", "a truth value")
    owns_slot_name = True

    def contribute(self, blocks: Sequence[Boolean], columns: ColumnFacts) -> Contribution:
        """Return a scalar per column."""
        del columns
        return Contribution(
            [Scalar(name, boolean_sql(name), "mode", "none", indicator=block.indicators) for block in blocks for name in block.columns]
        )

    def choose(self, profile: ColumnProfile, n_classes: int | None) -> Choice | None:
        """Take booleans."""
        del n_classes
        if profile.kind != "boolean":
            return None
        return Choice(profile.name, "boolean", "truths, 0 and 1", "their type is boolean", {"indicators": False}, profile.figures)

    def complete_choices(self, choices: Sequence[Choice]) -> list[Choice]:
        """Ask for indicators where some column has nulls."""
        return add_indicators(choices)
