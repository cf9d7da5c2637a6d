"""How far a source without files has been read: the greatest value of its watermark, and how far behind it late rows are looked for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pyspark.sql import types as T

from tidemill.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.DecimalType, T.FloatType, T.DoubleType)
_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)


@dataclass(frozen=True)
class Position:
    """The greatest watermark that was seen: the column, its type as SQL writes it, and the value as text, exact.

    A timestamp is in UTC and says so (``2026-01-02 03:04:05.123456+00``); one without a zone has none.
    """

    watermark: str
    type: str
    value: str

    def to_json(self) -> str:
        """Return the position as it is kept with the commit."""
        return json.dumps(asdict(self))

    @classmethod
    def behind(cls, text: str | None, watermark: str, kind: T.DataType) -> Position | None:
        """Return the kept position; None where there is none, or where it tells of another column or type: all is read again then."""
        if text is None:
            return None
        try:
            found = cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise UsageError(f"the position {text!r} is not one of a watermark; load it once with `load: full`") from error
        return found if (found.watermark, found.type) == (watermark, kind.simpleString()) else None


@dataclass(frozen=True)
class Overlap:
    """How far behind the watermark late rows are looked for: seconds for a time, a plain number for numbers."""

    amount: float = 0

    @property
    def text(self) -> str:
        """The amount as SQL writes it."""
        return str(int(self.amount)) if self.amount == int(self.amount) else repr(self.amount)


def overlap_of(duration: str | None, number: str | None, kind: T.DataType, watermark: str) -> Overlap:
    """Return the overlap of ``overlap:`` (such as ``10m``) or ``options.overlap`` (a number), whichever fits the watermark's type.

    Raises:
        UsageError: the one that is given does not fit.
    """
    if number is not None:
        if not isinstance(kind, _NUMBERS):
            raise UsageError(f"options.overlap: the watermark {watermark!r} is {kind.simpleString().upper()}; write `overlap: 10m`")
        try:
            return Overlap(float(number))
        except ValueError as error:
            raise UsageError(f"options.overlap: expected a number, found {number!r}") from error
    if duration is None:
        return Overlap()
    if not isinstance(kind, _TIMES):
        instead = "write `options: {overlap: 1000}`" if isinstance(kind, _NUMBERS) else "leave it out"
        raise UsageError(f"overlap: the watermark {watermark!r} is {kind.simpleString().upper()}, which has no {duration}; {instead}")
    return Overlap(float(int(duration[:-1]) * _SECONDS[duration[-1]]))
