"""The base model of everything a user may write in a spec, and the types of names, durations and shares in it.

Kinds of extensions (expectations, drift methods, …) declare their options with it, and the spec is made of it. Nothing here imports Spark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Key = str | int
Problem = tuple[tuple[Key, ...], str]
"""A fault inside a block: the path of the value below the block, and a sentence."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
ColumnName = Annotated[str, StringConstraints(min_length=1)]
"""A column of the dataset; unlike a name of the spec's own it may hold any character."""
Columns = Annotated[list[ColumnName], Field(min_length=1)]
DottedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
TableName = Annotated[str, StringConstraints(pattern=r"^(bronze|silver|gold)\.[A-Za-z_][A-Za-z0-9_]{0,127}$")]
REFERENCE = r"^(bronze|silver|gold)\.[A-Za-z_][A-Za-z0-9_]{0,127}\..+$"
Reference = Annotated[str, StringConstraints(pattern=REFERENCE)]
"""A column of a table of the lake, such as silver.airports.faa."""
Duration = Annotated[str, StringConstraints(pattern=r"^\d+\s*(s|m|h|d)$")]
Share = Annotated[float, Field(ge=0, le=1)]
Scalar = bool | int | float | str
Span = Duration | Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A stretch of time: a duration, or a number in the unit of a time that is a number."""

_MICROSECONDS = {"s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}


class Block(BaseModel):
    """Base of every block: frozen, no unknown keys, keys as they are written in YAML.

    A block that has rules between its keys overrides ``problems``; each is reported with the file and line of the value that it names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, strict=True, allow_inf_nan=False)

    def problems(self) -> Iterator[Problem]:
        """Yield the path below this block, and a sentence, for each rule between its keys that is broken."""
        return iter(())

    @model_validator(mode="after")
    def _has_no_problems(self) -> Self:
        refuse_problems(type(self).__name__, self.problems())
        return self


def refuse_problems(title: str, problems: Iterable[Problem]) -> None:
    """Raise one ValidationError that holds every problem at its own place; nothing where there is none.

    Raises:
        ValidationError: there is a problem. Inside a validator pydantic adds the place of the block to that of the problem.
    """
    details = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{error}", {"error": message}), loc=path, input=None)
        for path, message in problems
    ]
    if details:
        raise ValidationError.from_exception_data(title, details)


def microseconds(duration: str) -> int:
    """Return the microseconds of ``2h``."""
    return int(duration[:-1]) * _MICROSECONDS[duration[-1]]


def seconds(duration: str | None) -> float | None:
    """Return the seconds of ``2h``; None of None."""
    return None if duration is None else microseconds(duration) / 1e6


def split_reference(value: str) -> tuple[str, str]:
    """Return table and column of ``silver.airports.faa``."""
    layer, name, column = value.split(".", 2)
    return f"{layer}.{name}", column


def as_columns(value: str | list[str] | None) -> tuple[str, ...]:
    """Return one column or several as a tuple."""
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
