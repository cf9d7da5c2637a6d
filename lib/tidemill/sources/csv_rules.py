"""Which rules a parsed CSV line breaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F

from tidemill.sources.csv_fields import CORRUPT, FIELDS, Layout, tokens
from tidemill.sources.lines import HAS_INVALID_BYTES, LINE, has_nul
from tidemill.sources.records import first_broken, no_rules, rule

# Java reads 1.5d and 2f as numbers; nobody who writes CSV means that.
_JAVA_SUFFIX = "[0-9.][dDfF]$"
_ANY_JAVA_SUFFIX = "[0-9.][dDfF]"


def broken_rules(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return the rules that a line breaks as ``ARRAY<STRING>``, empty for a good one.

    The cheap question, whether anything is odd, is asked of every line; what exactly is asked only of those that are.
    """
    line, fields = F.col(LINE), F.col(FIELDS)
    not_finite = {place: is_not_finite(fields[f"c{place}"]) for place in layout.floating_places}
    is_damaged = fields[CORRUPT].isNotNull() | F.col(HAS_INVALID_BYTES) | has_nul(line)
    signs = [is_damaged, is_unclosed(line, options), *not_finite.values()]
    if layout.floating_places:
        signs.append(line.rlike(_ANY_JAVA_SUFFIX))
    words = tokens(layout, options)
    rules = first_broken(
        [
            rule("invalid_bytes", F.col(HAS_INVALID_BYTES)),
            rule("nul", has_nul(line)),
            rule("unclosed_quote", is_unclosed(line, options)),
            rule("field_count", words[CORRUPT].isNotNull()),
            *[_cast_rule(layout, place, words) for place in layout.typed_places],
            *[rule(f"not_finite:{layout.columns[place]}", broken) for place, broken in not_finite.items()],
        ]
    )
    # A line that Spark gave up on is never good, even where no rule says why.
    rules = F.when((F.size(rules) == 0) & fields[CORRUPT].isNotNull(), F.array(F.lit("unreadable"))).otherwise(rules)
    return F.when(F.coalesce(reduce(or_, signs), F.lit(True)), rules).otherwise(no_rules())


def is_not_finite(number: Column) -> Column:
    """Return true for NaN and the infinities, which no aggregate or model survives; false for null."""
    return F.coalesce(F.isnan(number) | (F.abs(number) == float("inf")), F.lit(False))


def is_unclosed(line: Column, options: Mapping[str, str]) -> Column:
    """Return true where a field opens a quote that the line does not close: half of a record that goes on in the next line."""
    quote, escape = options["quote"], options["escape"]
    if not quote:
        return F.lit(False)
    q, s = re.escape(quote), re.escape(options["sep"])
    inside = f"(?:[^{q}]|{q}{q})*" if escape == quote else f"(?:[^{q}{re.escape(escape)}]|{re.escape(escape)}.)*"
    without_closed = F.regexp_replace(line, f"{q}{inside}{q}", "")
    return F.contains(line, F.lit(quote)) & without_closed.rlike(f"(^|{s}){q}")


def _cast_rule(layout: Layout, place: int, words: Column) -> Column:
    """Return the rule that the text of a field does not fit its column's type."""
    word, value = words[f"c{place}"], F.col(FIELDS)[f"c{place}"]
    does_not_fit = value.isNull()
    if place in layout.floating_places:
        does_not_fit = does_not_fit | word.rlike(_JAVA_SUFFIX)
    return rule(f"cast:{layout.columns[place]}", words[CORRUPT].isNull() & word.isNotNull() & does_not_fit)
