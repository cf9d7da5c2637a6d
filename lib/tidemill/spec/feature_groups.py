"""The block of a spec that says which columns become features, and how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from tidemill.spec.blocks import Block, DottedName, Name, Share
from tidemill.spec.text_stages import Stage, StageName, TextStage, resolved, stage_name


class Numeric(Block):
    """Columns used as numbers."""

    columns: list[Name] = Field(min_length=1)
    impute: Literal["median", "mean", "mode", "none"] | float = "median"
    scale: Literal["standard", "minmax", "robust", "none"] = "standard"


class Categorical(Block):
    """Columns used as categories; values seen fewer than ``min_frequency`` times in training, or never, share one slot."""

    columns: list[Name] = Field(min_length=1)
    encode: Literal["auto", "onehot", "index"] = Field(default="auto", description="auto: one-hot for linear families, else index")
    min_frequency: int = Field(default=1, ge=1)


class Datetime(Block):
    """Instants taken apart into calendar parts (UTC)."""

    columns: list[Name] = Field(min_length=1)
    parts: list[Literal["year", "quarter", "month", "week", "day", "weekday", "yearday", "hour", "minute"]] = Field(
        default=["hour", "weekday", "month"]
    )
    cyclic: bool = True


class Text(Block):
    """Columns of free text."""

    columns: list[Name] = Field(min_length=1)
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
    columns: list[Name] = Field(default=[], description="the raw columns it reads; absent: those that its params name")

    @property
    def named(self) -> list[str]:
        """The columns it may read as far as the spec says: ``columns``, or every text among its parameters."""
        texts = [item for value in self.params.values() for item in (value if isinstance(value, list) else [value])]
        return self.columns or [text for text in texts if isinstance(text, str)]


class Checks(Block):
    """Sanity checks of the feature columns, made in the step dataset before any training."""

    leakage: Literal["block", "warn", "off"] = Field(default="block", description="a column that knows the label, or is known too late")
    constant: Literal["drop", "warn", "off"] = Field(default="drop", description="one value in all training rows; dropped where `auto`")
    correlation: Share | Literal["off"] = Field(default=0.98, description="two columns that correlate this much are named")
    allow: list[Name] = Field(default=[], description="columns that may know the label: they are known in time all the same")


class Select(Block):
    """Feature selection inside the fold."""

    method: Literal["univariate", "variance"] = "univariate"
    top: int = Field(gt=0)


class Features(Block):
    """Which columns become features and how; ``auto`` until a column group is declared."""

    numeric: Numeric | None = None
    categorical: Categorical | None = None
    datetime: Datetime | None = None
    text: Text | None = None
    custom: list[PythonPart] = Field(default=[])
    checks: Checks | None = None
    select: Select | None = None

    @property
    def columns(self) -> list[str]:
        """The raw columns of the declared groups, each once."""
        groups = (self.numeric, self.datetime, self.categorical, self.text)
        named = [column for group in groups if group for column in group.columns]
        return list(dict.fromkeys([*named, *(column for part in self.custom for column in part.named)]))

    @property
    def is_open(self) -> bool:
        """True where the declared groups alone do not say which columns are read."""
        return self.is_auto or any(not part.named for part in self.custom)

    @property
    def is_auto(self) -> bool:
        """True where no column group is declared."""
        return not (self.numeric or self.categorical or self.datetime or self.text or self.custom)
