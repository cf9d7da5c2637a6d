"""Categories: one-hot, as an index, by the label's mean or the count of a value, or hashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tidemill.features.choices import Choice, ColumnProfile, leave_out
from tidemill.features.contributions import Category, ColumnFacts, Contribution
from tidemill.features.groups.feature_group import ColumnBlock, FeatureGroup
from tidemill.features.names import category_sql

AUTO_CATEGORIES = 100
"""The most distinct values for which `auto` uses a slot per value."""
_MAX_MEAN_CLASSES = 20  # label means need a slot per class; with more classes, hashing needs fewer slots
_SMOOTHING = 20.0


class Categorical(ColumnBlock):
    """Columns used as categories; values in fewer than ``min_frequency`` training rows share one slot."""

    encode: Literal["auto", "onehot", "index", "target", "count", "hashing"] = Field(
        default="auto",
        description="auto: one-hot for linear families, else index; target: the mean of the label over the value's rows, for training rows "
        "without those of their own part; count: how many training rows have the value; hashing: one of `size` slots",
    )
    min_frequency: int = Field(default=1, ge=1)
    smoothing: float = Field(default=_SMOOTHING, ge=0, description="target: the weight of the overall mean, in rows")
    size: int = Field(default=256, gt=1, description="hashing: the number of slots")


class CategoricalGroup(FeatureGroup):
    """Accepts columns of any type, as text."""

    options = Categorical

    def contribute(self, blocks: Sequence[Categorical], columns: ColumnFacts) -> Contribution:
        """Return a category per column and block."""
        del columns
        return Contribution(
            categories=[
                Category(name, category_sql(name), block.encode, block.min_frequency, block.smoothing, block.size)
                for block in blocks
                for name in block.columns
            ]
        )

    def choose(self, profile: ColumnProfile, n_classes: int | None) -> Choice | None:
        """Take repeating ids and short texts; leave out columns that identify rows."""
        if profile.kind == "numeric" and profile.is_id:
            if profile.is_unique and profile.distinct > AUTO_CATEGORIES:
                return leave_out(profile, f"it is an id: about {profile.distinct:,} different whole numbers in {profile.rows:,} rows")
            return _choose_encoding(profile, n_classes, "they are ids by their names, whose order says nothing")
        if profile.kind != "string" or profile.is_prose:
            return None
        if profile.distinct > profile.rows / 2:
            count = f"about {profile.distinct:,} different strings in {profile.rows:,} rows"
            return leave_out(profile, f"{count}; declare it under `features.categorical` to use it")
        return _choose_encoding(profile, n_classes, "their type is text and their values are few")

    def needs_label(self, block: Categorical) -> bool:
        """Return True for means of the label."""
        return block.encode == "target"

    def treatment(self, block: Mapping[str, Any]) -> str:
        """Return how the values are encoded; all encodings with a slot per value count as one."""
        encode = block.get("encode")
        return "labels" if encode in (None, "auto", "onehot", "index") else str(encode)


def _choose_encoding(profile: ColumnProfile, n_classes: int | None, why: str) -> Choice:
    """Choose a slot per value if they are few, else label means, or hashes if there are many classes or no label."""
    if profile.distinct <= AUTO_CATEGORIES:
        settings: dict[str, Any] = {"encode": "auto", "min_frequency": 1}
        return Choice(profile.name, "categorical", "categories, a slot a value", why, settings, profile.figures)
    reason = f"about {profile.distinct:,} different values in {profile.rows:,} rows, more than {AUTO_CATEGORIES}"
    if n_classes is None or n_classes > _MAX_MEAN_CLASSES:
        reason += ", and no label is learned from" if n_classes is None else f", and the label has {n_classes} classes"
        return Choice(profile.name, "categorical", "categories, hashed", reason, {"encode": "hashing", "size": 256}, profile.figures)
    settings = {"encode": "target", "smoothing": _SMOOTHING}
    return Choice(profile.name, "categorical", "categories, the label's mean of each value", reason, settings, profile.figures)
