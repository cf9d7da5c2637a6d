"""The type of a column from the texts in it: one that keeps every value, so that each text can be had back, up to its spelling.

``1.50`` may come back as ``1.5`` and ``2024-01-02T03:04Z`` as another writing of the instant; ``02134`` must not come back as ``2134``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any

from pyspark.sql import types as T

TEXT, WHOLE, FRACTION, TRUTH, INSTANT, DAY = "text", "whole", "fraction", "truth", "instant", "day"
_KINDS = re.compile(
    r"(?P<whole>[+-]?(?:0|[1-9]\d*))"
    r"|(?P<fraction>[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?|NaN|[+-]?INF|[+-]?Inf(?:inity)?)"
    r"|(?P<truth>(?i:true|false))"
    r"|(?P<instant>\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?(?:Z|[+-]\d{2}:\d{2})?)?)"
    r"|(?P<day>\d{4}-\d{2}-\d{2})",
    re.ASCII,
)
_PLAIN = {frozenset({TRUTH}): T.BooleanType, frozenset({DAY}): T.DateType}
_INSTANTS = frozenset({INSTANT, DAY})
_DECIMAL_DIGITS = 38
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
# A number with as many significant digits comes out of a double as it went in.
_SAFE_DIGITS = 15


@dataclass
class Evidence:
    """What has been seen of one column: the kinds of its texts, and how many digits its numbers have.

    ``whole_digits`` and ``decimals`` are the most digits before and behind a point, ``lowest`` and ``highest`` the range of whole
    numbers. ``fits_double`` says that a DOUBLE gives every number back; ``is_padded`` that there is white space around one.
    """

    kinds: set[str] = field(default_factory=set)
    whole_digits: int = 0
    decimals: int = 0
    lowest: int = 0
    highest: int = 0
    fits_double: bool = True
    is_padded: bool = False

    def add(self, text: str) -> None:
        """Take in one text; an empty one tells nothing."""
        if TEXT in self.kinds or not text:
            return
        found = _KINDS.fullmatch(text.strip(" "))
        kind = (found.lastgroup if found else None) or TEXT
        is_padded = text[0] == " " or text[-1] == " "
        if (is_padded and kind not in (WHOLE, FRACTION)) or (kind in _INSTANTS and not _is_in_calendar(text, kind)):
            kind = TEXT
        self.kinds.add(kind)
        self.is_padded = self.is_padded or is_padded
        if kind in (WHOLE, FRACTION):
            self._add_number(text.strip(" "), kind)

    def merge(self, other: Evidence) -> None:
        """Take in all that another one has seen."""
        self.kinds |= other.kinds
        self.whole_digits, self.decimals = max(self.whole_digits, other.whole_digits), max(self.decimals, other.decimals)
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self.fits_double = self.fits_double and other.fits_double
        self.is_padded = self.is_padded or other.is_padded

    def type(self, smallest: T.IntegerType | T.LongType) -> T.DataType:
        """Return the narrowest type that keeps every value, of whole numbers ``smallest`` at least; STRING where nothing was seen."""
        if self.kinds and self.kinds <= {WHOLE, FRACTION}:
            return self._number_type(smallest)
        if INSTANT in self.kinds and self.kinds <= _INSTANTS:
            return T.TimestampType()
        return _PLAIN.get(frozenset(self.kinds), T.StringType)()

    def to_list(self) -> list[Any]:
        """Return it as JSON can hold it."""
        return [sorted(self.kinds), self.whole_digits, self.decimals, self.lowest, self.highest, self.fits_double, self.is_padded]

    @classmethod
    def of(cls, found: Iterable[Any]) -> Evidence:
        """Return what ``to_list`` gave."""
        kinds, *others = found
        return cls(set(kinds), *others)

    def _add_number(self, text: str, kind: str) -> None:
        if kind == WHOLE:
            number = int(text) if len(text) <= 2 * _DECIMAL_DIGITS else 10 ** (2 * _DECIMAL_DIGITS)
            self.lowest, self.highest = min(self.lowest, number), max(self.highest, number)
            self.whole_digits = max(self.whole_digits, len(text.lstrip("+-")))
            self.fits_double = self.fits_double and (len(text) <= _SAFE_DIGITS or _fits_double(text))
            return
        if len(text) <= _SAFE_DIGITS and text.replace(".", "", 1).lstrip("+-").isdigit():
            before, _, behind = text.lstrip("+-").partition(".")
            self.whole_digits = max(self.whole_digits, len(before.lstrip("0")))
            self.decimals = max(self.decimals, len(behind.rstrip("0")))
            return
        number = Decimal(text.replace("INF", "Infinity"))
        if number.is_finite():
            _, digits, exponent = number.normalize(_EXACT).as_tuple()
            self.whole_digits = max(self.whole_digits, len(digits) + int(exponent))
            self.decimals = max(self.decimals, -int(exponent))
            self.fits_double = self.fits_double and _fits_double(text)

    def _number_type(self, smallest: T.IntegerType | T.LongType) -> T.DataType:
        if FRACTION not in self.kinds:
            if self.is_padded:
                return T.StringType()  # Spark reads no whole number with spaces around it
            for bits, kind in ((31, T.IntegerType()), (63, T.LongType())):
                if -(1 << bits) <= self.lowest and self.highest < 1 << bits and not (bits == 31 and isinstance(smallest, T.LongType)):
                    return kind
        elif self.fits_double:
            return T.DoubleType()
        digits = self.whole_digits + self.decimals
        return T.DecimalType(digits, self.decimals) if digits <= _DECIMAL_DIGITS else T.StringType()


def _fits_double(text: str) -> bool:
    number = float(text)
    return math.isfinite(number) and Decimal(repr(number)) == Decimal(text)


def _is_in_calendar(text: str, kind: str) -> bool:
    try:
        _ = date.fromisoformat(text) if kind == DAY else datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
