"""Which rules a parsed CSV line breaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.sources.csv_fields import CORRUPT, Layout, tokens, word
from tidemill.sources.csv_quotes import Quoting
from tidemill.sources.lines import HAS_INVALID_BYTES, LINE, has_nul
from tidemill.sources.records import RULES, no_rules

# Java reads 1.5d, 2f and 0x1p3 as numbers; nobody who writes CSV means that.
JAVA_ONLY = "[dDfFxX]"
_IS_ODD, _TOKENS, _NAMED = " is_odd", " tokens", " named"
# A name in a JSON object. Possessive, and only behind what comes before one: megabytes of text take linear time and no stack.
NAME = r'(?<=[{,])"([^"\\]*+(?:\\.[^"\\]*+)*+)":'
NOT_FINITE = NAME + '"(?:NaN|-?Infinity)"'
LEADING_ZERO = NAME + '" *[+-]?0[0-9][^"]*"'
# So many digits and a point may be more than a double holds.
_LONG = "[0-9.]{17}"
NUMBER_OF_JAVA = NAME + r'"[^"]*(?:[0-9.][dDfF]|0[xX][^"]*) *"'


def with_rules(parsed: DataFrame, layout: Layout, options: Mapping[str, str]) -> DataFrame:
    """Return the parsed lines with ``RULES``: the rules that a line breaks as ``ARRAY<STRING>``, empty for a good one.

    Whether anything is odd is asked of every line; only the odd ones are parsed once more, into strings, to tell what it is. The
    rules of columns are told by the names in a JSON of the fields, so that thirty thousand columns need no more expressions than
    three; and no expression here keeps Spark from compiling the whole path of a good line into one loop.
    """
    odd = parsed.select("*", is_odd(layout, options).alias(_IS_ODD))
    worded = odd.select("*", F.when(F.col(_IS_ODD), tokens(layout, options)).alias(_TOKENS))
    judged = worded.select("*", F.when(F.col(_IS_ODD), _rules(layout, options)).otherwise(no_rules()).alias(_NAMED))
    named, is_corrupt = F.col(_NAMED), F.col(CORRUPT).isNotNull()
    # A line that Spark gave up on is never good, even where no rule says why.
    return judged.select("*", F.when(is_corrupt & (F.size(named) == 0), F.array(F.lit("unreadable"))).otherwise(named).alias(RULES))


def is_odd(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return true for a parsed line that may break a rule, false for one that breaks none."""
    line = F.col(LINE)
    signs = [F.col(CORRUPT).isNotNull(), F.col(HAS_INVALID_BYTES), has_nul(line), Quoting.of(options).is_unclosed(line)]
    floating, fractions = layout.floating, [*layout.floating, *layout.cut_by_spark]
    if floating:
        sizes = [F.abs(column(name)).cast("double") for name in floating]
        signs.append(F.coalesce(F.greatest(*sizes, F.lit(0.0)) >= float("inf"), F.lit(False)))
        signs.append(
            F.concat_ws(" ", *[word(name) for name in floating]).rlike(f"{JAVA_ONLY}|{_LONG}" if layout.is_inferred else JAVA_ONLY)
        )
    if fractions:
        words, numbers = [word(name) for name in fractions], [column(name) for name in fractions]
        # A word that is no number or date has left a null beside it.
        signs.append(_number_of_nulls(numbers) > _number_of_nulls(words))
    if layout.is_inferred and layout.numbers:
        signs.append(has_leading_zero(line, options))
    return F.coalesce(reduce(or_, signs), F.lit(True))


def has_leading_zero(line: Column, options: Mapping[str, str]) -> Column:
    """Return true for a line that may have a field such as ``007``, which a number would not give back."""
    return line.rlike(rf"(?:^|[{re.escape(options['sep'] + options['quote'])} ])[+-]?0[0-9]")


def _number_of_nulls(columns: list[Column]) -> Column:
    return F.size(F.array_remove(F.array(*[each.isNull() for each in columns]), False))


def _rules(layout: Layout, options: Mapping[str, str]) -> Column:
    """Return the names of the rules that an odd line breaks."""
    line, words = F.col(LINE), F.col(_TOKENS)
    has_its_fields = words[CORRUPT].isNull()
    none = no_rules()
    fields = F.to_json(F.struct(*[column(name) for name in layout.fields]))
    unfit = F.array_except(F.json_object_keys(F.to_json(words)), F.json_object_keys(fields))
    parts = [
        F.when(F.col(HAS_INVALID_BYTES), F.array(F.lit("invalid_bytes"))).otherwise(none),
        F.when(has_nul(line), F.array(F.lit("nul"))).otherwise(none),
        F.when(Quoting.of(options).is_unclosed(line), F.array(F.lit("unclosed_quote"))).otherwise(none),
        F.when(~has_its_fields, F.array(F.lit("field_count"))).otherwise(none),
    ]
    casts, infinite = unfit, none
    if layout.floating:
        texts = F.to_json(F.struct(*[word(name).alias(name) for name in layout.floating]))
        casts = F.array_distinct(F.concat(unfit, F.regexp_extract_all(texts, F.lit(NUMBER_OF_JAVA), F.lit(1))))
        casts = F.array_union(casts, _shortened(layout)) if layout.is_inferred else casts
        numbers = F.to_json(F.struct(*[column(name) for name in layout.floating]))
        infinite = F.regexp_extract_all(numbers, F.lit(NOT_FINITE), F.lit(1))
    if layout.is_inferred and layout.numbers:
        with_zeros = F.regexp_extract_all(F.to_json(words), F.lit(LEADING_ZERO), F.lit(1))
        casts = F.array_union(casts, F.array_intersect(with_zeros, F.array(*[F.lit(name) for name in layout.numbers])))
    parts.append(F.when(has_its_fields, prefixed("cast:", casts)).otherwise(none))
    parts.append(prefixed("not_finite:", infinite))
    return F.concat(*parts)


def _shortened(layout: Layout) -> Column:
    """Return the names of the DOUBLE columns whose texts have digits that their numbers do not give back."""
    lost = []
    for name in layout.floating:
        written, held = word(name), column(name).cast("string")
        differs = [written.try_cast(kind) != held.try_cast(kind) for kind in ("decimal(38,18)", "decimal(38,0)")]
        is_lost = written.rlike(_LONG) & F.coalesce(differs[0], differs[1], F.lit(False))
        lost.append(F.when(is_lost, F.lit(name)))
    return F.array_compact(F.array(*lost))


def prefixed(prefix: str, names: Column) -> Column:
    """Return the names with the prefix before each."""
    gap = "\x1f"
    joined = F.concat(F.lit(prefix), F.array_join(names, gap + prefix))
    return F.when(F.size(names) > 0, F.split(joined, gap)).otherwise(no_rules())
