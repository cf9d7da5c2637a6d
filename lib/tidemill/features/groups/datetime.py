"""Instants as calendar parts (UTC), cyclic ones as sine and cosine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from tidemill.features.choices import Choice, ColumnProfile
from tidemill.features.contributions import ColumnFacts, Contribution, Scalar
from tidemill.features.groups.feature_group import ColumnBlock, FeatureGroup
from tidemill.features.names import PERIODS, part_sql

_OF_THE_DAY = frozenset({"hour", "minute"})


class Datetime(ColumnBlock):
    """Instants as calendar parts (UTC)."""

    parts: list[Literal["year", "quarter", "month", "week", "day", "weekday", "yearday", "hour", "minute"]] = Field(
        default=["hour", "weekday", "month"]
    )
    cyclic: bool = True


class DatetimeGroup(FeatureGroup):
    """One slot per part, or two if the part is cyclic and the encoding is not for trees."""

    options = Datetime
    accepts, expected = frozenset({"datetime", "string"}), "TIMESTAMP, DATE, or text that can be cast to one"
    read_as = ("TIMESTAMP", "an instant")

    def contribute(self, blocks: Sequence[Datetime], columns: ColumnFacts) -> Contribution:
        """Return a scalar per part; a DATE has no hour and no minute."""
        return Contribution(
            [
                Scalar(f"{name}.{part}", part_sql(name, part), calendar_part=part, is_cyclic=block.cyclic and part in PERIODS)
                for block in blocks
                for name in block.columns
                for part in dict.fromkeys(block.parts)
                if not (name in columns.dates and part in _OF_THE_DAY)
            ]
        )

    def check(self, block: Datetime, columns: ColumnFacts) -> Iterator[tuple[str, str]]:
        """Yield each DATE for which only parts of a day are declared."""
        if not set(block.parts) - _OF_THE_DAY:
            parts = " or ".join(block.parts)
            for name in block.columns:
                if name in columns.dates:
                    yield "parts", f"column {name!r} is a DATE and has no {parts}; add weekday or month"

    def choose(self, profile: ColumnProfile, n_classes: int | None) -> Choice | None:
        """Take dates and timestamps."""
        del n_classes
        if profile.kind != "datetime":
            return None
        settings = {"parts": ["hour", "weekday", "month"], "cyclic": True}
        return Choice(profile.name, "datetime", "times", "their type is a time", settings, profile.figures)
