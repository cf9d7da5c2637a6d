"""Quoted fields over line ends: whether a line that starts outside, or inside, a quoted field ends inside one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

_END = r"(?![\s\S])"


@dataclass(frozen=True)
class Quoting:
    """Regular expressions over a line, in the dialect that Python and Java share.

    Every repetition is possessive, so that long fields and wide lines take linear time and no stack. As in Spark's parser a quote opens
    a field only at its start, and what follows a closing quote up to the separator is text. ``field`` captures a field as it is written
    in a line that has a separator added to its end.
    """

    quote: str
    opens: str
    stays_open: str
    field: str

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Quoting:
        """Return the quoting that the options describe."""
        quote, escape, separator = options["quote"], options["escape"], options["sep"]
        if not quote:
            return cls("", "", "", "")
        q, e, s = re.escape(quote), re.escape(escape), re.escape(separator)
        rest = f"[^{s}]*+" if len(separator) == 1 else rf"(?:(?!{s})[\s\S])*+"
        if escape == quote:
            inside = f"[^{q}]*+(?:{q}{q}[^{q}]*+)*+"
        else:
            inside = rf"[^{q}{e}]*+(?:{e}[\s\S]?+[^{q}{e}]*+)*+" if escape else f"[^{q}]*+"
        blank = r"[ \t]*+" if options.get("ignoreLeadingWhiteSpace") == "true" else ""
        fields = f"(?:(?:{blank}{q}{inside}{q}{rest}|(?!{blank}{q}){rest}){s})*+"
        last = f"{blank}{q}{inside}{_END}"
        unclosed = rf"{blank}{q}[\s\S]*(?={s}{_END})"
        field = f"({blank}{q}{inside}{q}{rest}|(?!{blank}{q}){rest}|{unclosed}){s}"
        return cls(quote, f"^{fields}{last}", f"^{inside}(?:{_END}|{q}{rest}{s}{fields}{last})", field)

    def is_open(self, line: str) -> bool:
        """Return True where the line ends inside a quoted field."""
        return bool(self.quote) and self.quote in line and re.search(self.opens, line) is not None

    def is_unclosed(self, line: Column) -> Column:
        """Return true where a field opens a quote that the line does not close: half of a record that goes on in the next line."""
        return F.contains(line, F.lit(self.quote)) & line.rlike(self.opens) if self.quote else F.lit(False)

    def is_still_open(self, line: Column) -> Column:
        """Return true where a line that starts inside a quoted field ends inside one, that or another."""
        if not self.quote:
            return F.lit(False)
        return ~F.contains(line, F.lit(self.quote)) | line.rlike(self.stays_open)
