"""Groups of raw columns: what kind of thing they hold, and how it becomes features."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from tidemill.spec.blocks import Block, ColumnName, DottedName
from tidemill.spec.text_stages import Stage, StageName, TextStage, resolved, stage_name

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
