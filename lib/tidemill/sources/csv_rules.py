"""Which rules a parsed CSV line breaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.sources.csv_fields import CORRUPT, FIELDS, TOKENS, Layout, tokens
from tidemill.sources.lines import HAS_INVALID_BYTES, LINE, has_nul
from tidemill.sources.records import RULES, broken, is_not_finite, no_rules, rule

# Java reads 1.5d, 2f and 0x1p3 as numbers; nobody who writes CSV means that.
_JAVA_ONLY = "[0-9.][dDfF]$|0[xX]"
_MAYBE_JAVA_ONLY = "[0-9.][dDfF]|0[xX]"
_IS_ODD = "_is_odd"


def with_rules(parsed: DataFrame, layout: Layout, options: Mapping[str, str]) -> DataFrame:
    """Return the parsed lines with ``_rules``: the rules that a line breaks as ``ARRAY<STRING>``, empty for a good one.

    Whether anything is odd is asked of every line; only the odd ones are parsed once more, into strings, to tell what it is. Each
    answer is a column of its own: one long expression would hold the second parse once for each rule.
    """
    is_corrupt = F.col(FIELDS)[CORRUPT].isNotNull()
    odd = parsed.select("*", F.coalesce(_is_odd(layout, options), F.lit(True)).alias(_IS_ODD))
    worded = odd.select("*", F.when(F.col(_IS_ODD), tokens(layout, options)).alias(TOKENS))
    judged = worded.select("*", F.when(F.col(_IS_ODD), broken(_rules(layout, options))).otherwise(no_rules()).alias("_named"))
    named = F.col("_named")
    # A line that Spark gave up on is never good, even where no rule says why.
    return judged.select("*", F.when((F.size(named) == 0) & is_corrupt, F.array(F.lit("unreadable"))).otherwise(named).alias(RULES))


def is_unclosed(line: Column, options: Mapping[str, str]) -> Column:
    """Return true where a field opens a quote that the line does not close: half of a record that goes on in the next line."""
    quote, escape = options["quote"], options["escape"]
    if not quote:
        return F.lit(False)
    q, s, e = re.escape(quote), re.escape(options["sep"]), re.escape(escape)
    inside = f"(?:[^{q}]|{q}{q})*" if escape == quote else f"(?:[^{q}{e}]|{e}.)*"
    without_closed = F.regexp_replace(line, f"{q}{inside}{q}", "")
    return F.contains(line, F.lit(quote)) & without_closed.rlike(f"(^|{s}){q}")


def _is_odd(layout: Layout, options: Mapping[str, str]) -> Column:
    line, fields = F.col(LINE), F.col(FIELDS)
    signs = [fields[CORRUPT].isNotNull(), F.col(HAS_INVALID_BYTES), has_nul(line), is_unclosed(line, options)]
    signs += [is_not_finite(fields[f"c{place}"]) for place in layout.floating_places]
    if layout.floating_places:
        signs.append(line.rlike(_MAYBE_JAVA_ONLY))
    return reduce(or_, signs)


def _rules(layout: Layout, options: Mapping[str, str]) -> list[Column]:
    line, fields, words = F.col(LINE), F.col(FIELDS), F.col(TOKENS)
    return [
        rule("invalid_bytes", F.col(HAS_INVALID_BYTES)),
        rule("nul", has_nul(line)),
        rule("unclosed_quote", is_unclosed(line, options)),
        rule("field_count", words[CORRUPT].isNotNull()),
        *[_cast_rule(layout, place) for place in layout.typed_places],
        *[rule(f"not_finite:{layout.columns[place]}", is_not_finite(fields[f"c{place}"])) for place in layout.floating_places],
    ]


def _cast_rule(layout: Layout, place: int) -> Column:
    """Return the rule that the text of a field does not fit its column's type."""
    words = F.col(TOKENS)
    word, does_not_fit = words[f"c{place}"], F.col(FIELDS)[f"c{place}"].isNull()
    if place in layout.floating_places:
        does_not_fit = does_not_fit | word.rlike(_JAVA_ONLY)
    return rule(f"cast:{layout.columns[place]}", words[CORRUPT].isNull() & word.isNotNull() & does_not_fit)
