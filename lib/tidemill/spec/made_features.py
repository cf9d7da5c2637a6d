"""Features that are made of others: buckets, pairs, powers, components, hashes; and which of all slots are kept."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tidemill.spec.blocks import Block, ColumnName, Share

Pair = Annotated[list[ColumnName], Field(min_length=2, max_length=2)]


class Buckets(Block):
    """Numbers as buckets [from, to): a slot each for linear families, their order for trees; a missing number has one of its own."""

    columns: list[ColumnName] = Field(min_length=1)
    splits: list[float] | None = Field(default=None, min_length=1, description="where buckets meet; the outer two are open")
    quantiles: int | None = Field(default=None, ge=2, le=100, description="so many buckets of about as many training rows each")

    @model_validator(mode="after")
    def _one_rule(self) -> Buckets:
        if (self.splits is None) == (self.quantiles is None):
            raise ValueError("needs one of `splits` (such as [0, 10, 100]) and `quantiles` (such as 10)")
        if self.splits is not None and (any(math.isnan(each) for each in self.splits) or sorted(set(self.splits)) != self.splits):
            raise ValueError("splits: expected numbers in rising order, each once")
        return self

    @property
    def cuts(self) -> tuple[float, ...]:
        """The declared splits that are finite; what lies outside is open anyway."""
        return tuple(float(each) for each in self.splits or () if math.isfinite(each))


class Interactions(Block):
    """Pairs of columns: the product of two numbers, both values of two categories, a number for each category."""

    pairs: list[Pair] = Field(min_length=1)
    min_frequency: int = Field(default=1, ge=1, description="of two categories: how often a pair of values has to be seen")

    @property
    def columns(self) -> list[str]:
        """The raw columns."""
        return [name for pair in self.pairs for name in pair]


class Polynomial(Block):
    """The products of the numbers, up to ``degree`` factors, beside the numbers themselves."""

    columns: list[ColumnName] = Field(min_length=1)
    degree: int = Field(default=2, ge=2, le=5)


class Pca(Block):
    """The ``k`` principal components of the numbers, imputed and scaled to deviation 1."""

    columns: list[ColumnName] = Field(min_length=2)
    k: int = Field(ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Pca:
        if self.k > len(self.columns):
            raise ValueError(f"k is {self.k}, expected at most the number of columns, {len(self.columns)}")
        return self


class Hashing(Block):
    """The values of all columns, as text, in ``size`` slots that they share."""

    columns: list[ColumnName] = Field(min_length=1)
    size: int = Field(default=1024, gt=1)


class Select(Block):
    """Which slots of the feature vector are kept, learnt inside the fold.

    univariate: those that say most about the label alone (ANOVA's F, or for a number the correlation); variance: those that vary most;
    correlation: as univariate, but none that correlates with a better one at ``threshold`` or more.
    """

    method: Literal["univariate", "variance", "correlation"] = "univariate"
    top: int | None = Field(default=None, gt=0, description="at most so many")
    threshold: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="univariate: the least share of the label that a slot explains; variance: the least variance; correlation: see above",
    )

    @model_validator(mode="after")
    def _one_bound(self) -> Select:
        if self.top is None and self.threshold is None:
            raise ValueError("needs `top` (how many slots stay) or `threshold`")
        if self.method != "variance" and self.threshold is not None and self.threshold > 1:
            raise ValueError(f"threshold of {self.method} is a share, expected at most 1, found {self.threshold:g}")
        return self


class Checks(Block):
    """Sanity checks of the feature columns, made in the step dataset before any training."""

    leakage: Literal["block", "warn", "off"] = Field(default="block", description="a column that knows the label, or is known too late")
    constant: Literal["drop", "warn", "off"] = Field(default="drop", description="one value in all training rows; dropped where `auto`")
    correlation: Share | Literal["off"] = Field(default=0.98, description="two columns that correlate this much are named")
    allow: list[ColumnName] = Field(
        default=[], description="columns that may know the label, as they are known in time, or hold text that cannot be read as declared"
    )
