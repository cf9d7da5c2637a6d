"""The block of a spec that says which columns become features, and how."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tidemill.spec.models.base import Block, ColumnName, DottedName, Share
from tidemill.spec.models.text_stages import Stage, StageName, TextStage, resolved, stage_name

_MISSING = "a slot `x.missing` for each column that is null in some training row"


class Numeric(Block):
    """Columns used as numbers."""

    columns: list[ColumnName] = Field(min_length=1)
    impute: Literal["median", "mean", "mode", "none"] | float = "median"
    scale: Literal["standard", "minmax", "robust", "none"] = "standard"
    indicators: bool = Field(default=False, description=_MISSING)


class Boolean(Block):
    """Columns used as 0 and 1; where there is neither, the more frequent one stands in."""

    columns: list[ColumnName] = Field(min_length=1)
    indicators: bool = Field(default=False, description=_MISSING)


class Categorical(Block):
    """Columns used as categories; values seen fewer than ``min_frequency`` times in training, or never, share one slot."""

    columns: list[ColumnName] = Field(min_length=1)
    encode: Literal["auto", "onehot", "index", "target", "count", "hashing"] = Field(
        default="auto",
        description="auto: one-hot for linear families, else index; target: the mean of the label among rows of the value, each training "
        "row without those of its own part; count: how many training rows have the value; hashing: one of `size` slots",
    )
    min_frequency: int = Field(default=1, ge=1)
    smoothing: float = Field(default=20.0, ge=0, description="target: how many rows of the average each value begins with")
    size: int = Field(default=256, gt=1, description="hashing: the number of slots")


class Datetime(Block):
    """Instants taken apart into calendar parts (UTC)."""

    columns: list[ColumnName] = Field(min_length=1)
    parts: list[Literal["year", "quarter", "month", "week", "day", "weekday", "yearday", "hour", "minute"]] = Field(
        default=["hour", "weekday", "month"]
    )
    cyclic: bool = True


class Array(Block):
    """Columns of lists. Of numbers: a slot for each place where all have the same length, else length, mean, least and greatest."""

    columns: list[ColumnName] = Field(min_length=1)
    encode: Literal["auto", "multihot", "hashing", "slots", "summary"] = Field(
        default="auto", description="auto: multihot (a slot a word) for lists of text; slots, or summary, for lists of numbers"
    )
    min_frequency: int = Field(default=1, ge=1, description="multihot: in how many training rows a word has to be")
    size: int = Field(default=256, gt=1, description="hashing: the number of slots")


class Text(Block):
    """Columns of free text."""

    columns: list[ColumnName] = Field(min_length=1)
    stages: list[StageName | TextStage] = Field(
        default=["clean", "tokens", "stopwords", "tfidf"], min_length=1, description="names, or blocks of one key with parameters"
    )

    @field_validator("stages")
    @classmethod
    def _fit_together(cls, stages: list[StageName | TextStage]) -> list[StageName | TextStage]:
        resolved(stages)
        return stages

    @property
    def steps(self) -> list[Stage]:
        """The stages in order, each with all of its parameters."""
        return resolved(list(self.stages))

    @property
    def is_signed(self) -> bool:
        """True where the texts become numbers that may be below 0, as those of an embedding."""
        return stage_name(self.steps[-1]) != "tfidf"


class PythonPart(Block):
    """A class or function of the user's own, by dotted name, with its parameters."""

    python: DottedName
    params: dict[str, Any] = Field(default={})
    columns: list[ColumnName] = Field(default=[], description="the raw columns it reads; absent: those that its params name")

    @property
    def named(self) -> list[str]:
        """The columns it may read as far as the spec says: ``columns``, or every text among its parameters."""
        texts = [item for value in self.params.values() for item in (value if isinstance(value, list) else [value])]
        return self.columns or [text for text in texts if isinstance(text, str)]


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
