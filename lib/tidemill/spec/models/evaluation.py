"""The block `evaluation`: metrics, slices, gates, and who approves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from tidemill.options import Block, ColumnName, DottedName, Name, Problem

Pair: TypeAlias = Annotated[list[ColumnName], Field(min_length=2, max_length=2)]
Bins: TypeAlias = Annotated[dict[ColumnName, Annotated[list[float], Field(min_length=1)]], Field(min_length=1, max_length=1)]
Slice: TypeAlias = ColumnName | Pair | Bins


class OwnMetric(Block):
    """A metric by a dotted path."""

    python: DottedName


class Fairness(Block):
    """Groups of people whose rates are compared."""

    by: Annotated[list[ColumnName], Field(min_length=1)]


class Importance(Block):
    """Permutation importance on raw columns, and contributions of columns to single predictions."""

    rows: int = Field(default=1000, ge=0, le=100_000, description="test rows that are permuted, sampled by their key; 0: none")
    repeats: int = Field(default=1, ge=1, le=100, description="permutations of each column")
    contributions: int = Field(default=100, ge=0, le=10_000, description="test rows whose contributions are stored; 0: none")


class Evaluation(Block):
    """Test metrics, slices, gates and approval."""

    slices: list[Slice] = Field(default=[], description="columns, pairs [a, b], and bins of numbers {distance: [0, 500, 1000]}")
    min_slice_rows: int = Field(default=100, ge=1, description="smaller slices are named and not gated")
    bootstrap: int = Field(default=200, ge=0, le=10_000, description="draws for 95 % intervals; 0: none")
    metrics: dict[Name, str | OwnMetric] = Field(default={}, description="SQL over label, prediction, probability, weight and columns")
    gates: list[str] | None = Field(default=None, description="absent: better than the baseline, not worse than the champion")
    approval: Literal["auto", "manual"] = "auto"
    approvers: list[str] = Field(default=[], description="users, or groups of the system as `group:NAME`; empty: everyone")
    author_may_approve: bool = Field(default=True, description="false: whoever ran the training may not approve its model")
    fairness: Fairness | None = None
    importance: Importance = Importance()
    learning_curve: bool = Field(default=False, description="train the chosen trial on 1/8, 1/4, 1/2 and all of the training rows")

    @property
    def slice_columns(self) -> list[str]:
        """The columns of the slices and of the fairness groups."""
        sliced = [name for declared in self.slices for name in ([declared] if isinstance(declared, str) else declared)]
        return list(dict.fromkeys([*sliced, *(self.fairness.by if self.fairness else ())]))

    def problems(self) -> Iterator[Problem]:
        """Yield edges of bins that do not increase, and approvers without a name."""
        for place, approver in enumerate(self.approvers):
            if not approver.removeprefix("group:").strip():
                yield ("approvers", place), f"expected the name of a user, or group:NAME, found {approver!r}"
        for place, declared in enumerate(self.slices):
            edges = next(iter(declared.values())) if isinstance(declared, dict) else []
            if any(high <= low for low, high in pairwise(edges)):
                yield ("slices", place), f"edges of bins must increase, found {edges}"
