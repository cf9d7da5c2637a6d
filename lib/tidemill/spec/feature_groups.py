"""The block of a spec that says which columns become features, and how."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tidemill.spec.blocks import Block
from tidemill.spec.column_groups import Array, Boolean, Categorical, Datetime, Numeric, PythonPart, Text
from tidemill.spec.made_features import Buckets, Checks, Hashing, Interactions, Pca, Polynomial, Select

__all__ = [
    "GROUPS",
    "Array",
    "Boolean",
    "Buckets",
    "Categorical",
    "Checks",
    "Datetime",
    "Features",
    "Hashing",
    "Interactions",
    "Numeric",
    "Pca",
    "Polynomial",
    "PythonPart",
    "Select",
    "Text",
    "blocks_of",
]

GROUPS = (
    "numeric", "boolean", "datetime", "categorical", "array", "text", "buckets", "interactions", "polynomial", "pca", "hashing",
)  # fmt: skip


def blocks_of(group: Any) -> tuple[Any, ...]:
    """Return the blocks of a group, of which one may be written without a list around it."""
    return tuple(group) if isinstance(group, list | tuple) else () if group is None else (group,)


class Features(Block):
    """Which columns become features and how; ``auto`` until a column group is declared. A group is one block, or a list of them."""

    numeric: Numeric | list[Numeric] | None = None
    boolean: Boolean | list[Boolean] | None = None
    categorical: Categorical | list[Categorical] | None = None
    datetime: Datetime | list[Datetime] | None = None
    array: Array | list[Array] | None = None
    text: Text | list[Text] | None = None
    buckets: Buckets | list[Buckets] | None = None
    interactions: Interactions | list[Interactions] | None = None
    polynomial: Polynomial | list[Polynomial] | None = None
    pca: Pca | list[Pca] | None = None
    hashing: Hashing | list[Hashing] | None = None
    custom: list[PythonPart] = Field(default=[])
    checks: Checks | None = None
    select: Select | None = None

    def blocks(self, group: str) -> tuple[Any, ...]:
        """Return the blocks of one of the groups."""
        return blocks_of(getattr(self, group))

    @property
    def texts(self) -> tuple[Text, ...]:
        """The blocks of texts."""
        return self.blocks("text")

    @property
    def columns(self) -> list[str]:
        """The raw columns of the declared groups, each once."""
        named = [column for group in GROUPS for block in self.blocks(group) for column in block.columns]
        return list(dict.fromkeys([*named, *(column for part in self.custom for column in part.named)]))

    @property
    def is_open(self) -> bool:
        """True where the declared groups alone do not say which columns are read."""
        return self.is_auto or any(not part.named for part in self.custom)

    @property
    def is_auto(self) -> bool:
        """True where no column group is declared."""
        return not self.custom and not any(self.blocks(group) for group in GROUPS)
