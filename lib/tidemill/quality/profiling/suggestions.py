"""Expectations proposed from a profile: each holds for the profiled data and states its evidence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from sqlglot.dialects.databricks import Databricks

from tidemill.quality.profiling.profile import ColumnProfile
from tidemill.quality.profiling.references import Match
from tidemill.spec.loading.document import parse_scalar

FEW = 20
"""Up to so many different texts are listed."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_WHOLE = ("tinyint", "smallint", "int", "bigint")
_DOUBLES = ("float", "double")
_LONGEST_TEXT = 100
_SLACK = Decimal("0.1")
_DIGITS = 38  # of Spark's decimals
_STALE_DAYS = 400
_US_A_DAY = 86_400e6
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Suggestion:
    """One expectation: its name, its keys as in YAML, and the evidence."""

    name: str
    rule: Mapping[str, object]
    seen: str


def suggest_expectations(
    columns: Sequence[ColumnProfile], unique: Sequence[str], now: datetime, references: Mapping[str, Match] | None = None
) -> list[Suggestion]:
    """Return the expectations of a table beyond its key, which is the first of ``unique``.

    Args:
        columns: the profile.
        unique: the columns that hold no value twice.
        now: what freshness is measured against.
        references: the keys of other tables that hold the values of a column, by that column.
    """
    if not columns or not columns[0].rows:
        return []
    rows = columns[0].rows
    key, others = unique[:1], unique[1:]
    proposed = [Suggestion("rows", {"row_count": {"at_least": rows // 2, "at_most": rows * 2}}, f"{rows:,} rows")]
    full = [each.column for each in columns if not each.nulls and each.column not in key]
    if full:
        proposed.append(Suggestion("never_null", {"not_null": full}, f"no null in {rows:,} rows"))
    proposed += [Suggestion(f"{name}_once", {"unique": [name]}, f"{rows:,} different values in {rows:,} rows") for name in others]
    for each in columns:
        if each.column in (references or {}):
            proposed.append(_suggest_reference((references or {})[each.column]))
        elif each.column not in unique:
            proposed += [*_suggest_range(each), *_suggest_values(each)]
        proposed += _suggest_freshness(each, now)
    return proposed


def describe_match(match: Match) -> str:
    """Describe how many values of a column a reference contains."""
    name = match.pair.reference.name
    if not match.missing_values:
        return f"all {match.values:,} values are in {name}"
    share = Decimal(repr(match.share * 100))
    such_as = ", ".join(_quote_value(value) for value in match.missing)
    return (
        f"{match.missing_values:,} of {match.values:,} values, in {match.missing_rows:,} rows ({_round_up(share, 2)} %), "
        f"are not in {name}: {such_as}{', …' if match.missing_values > len(match.missing) else ''}"
    )


def _suggest_reference(match: Match) -> Suggestion:
    """Return the rule that a reference holds the values; where it lacks some, for as large a share of all rows as lack theirs now."""
    name = match.pair.column.column
    rule: dict[str, object] = {"in_reference": match.pair.reference.name, "column": name}
    if match.missing_rows:
        rule["at_most"] = float(_round_up(Decimal(match.missing_rows) / Decimal(match.pair.column.rows), 2))
    return Suggestion(f"{name}_known", rule, describe_match(match))


def _round_up(value: Decimal, digits: int) -> Decimal:
    """Return a positive number rounded up to so many digits that count."""
    step = Decimal(10) ** (value.adjusted() - digits + 1)
    return _round_to_step(value, step, ROUND_CEILING).normalize()


def _suggest_range(each: ColumnProfile) -> Iterator[Suggestion]:
    """Yield a range around the profiled numbers, wider by a tenth on both sides; it does not cross 0 where they do not."""
    summary = each.summary
    is_number = each.type in (*_WHOLE, *_DOUBLES) or each.type.startswith("decimal")
    if not is_number or summary.min is None or summary.max is None or summary.not_finite:
        return
    low, high = Decimal(summary.min), Decimal(summary.max)
    slack = (high - low) * _SLACK or abs(high) * _SLACK or Decimal(1)
    step = Decimal(10) ** (slack.adjusted())
    if each.type in _WHOLE:
        step = max(step, Decimal(1))
    least, most = _round_to_step(low - slack, step, ROUND_FLOOR), _round_to_step(high + slack, step, ROUND_CEILING)
    bounds = [max(least, Decimal(0)) if low >= 0 else least, min(most, Decimal(0)) if high <= 0 else most]
    texts = [_number(bound, each.type) for bound in bounds]
    if None not in texts:
        column = _column(each.column)
        check = f"{column} BETWEEN {texts[0]} AND {texts[1]}"
        yield Suggestion(f"{each.column}_range", {"check": _or_null(check, column, each)}, f"from {summary.min} to {summary.max}")


def _round_to_step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return (value / step).to_integral_value(rounding) * step


def _number(value: Decimal, kind: str) -> str | None:
    """Return a number as SQL reads it, None where it reads none so large."""
    if kind in _DOUBLES:
        number = float(value)
        return repr(number) if math.isfinite(number) else None
    text = f"{value:f}"
    return text if sum(character.isdigit() for character in text) <= _DIGITS else None


def _suggest_values(each: ColumnProfile) -> Iterator[Suggestion]:
    """Yield the list of the profiled texts, where they are few and all known."""
    top = each.top_values or ()
    is_complete = len(top) == each.distinct if each.is_exact else len(top) <= FEW
    if each.type != "string" or not 0 < len(top) <= FEW or not is_complete or each.rows < 10 * len(top):
        return
    if any(len(value) > _LONGEST_TEXT for value, _ in top):
        return
    column = _column(each.column)
    check = f"{column} IN ({', '.join(_text(value) for value in sorted(value for value, _ in top))})"
    most = f"the most frequent is {_quote_value(top[0][0])} with {top[0][1]:,} rows"
    yield Suggestion(f"{each.column}_values", {"check": _or_null(check, column, each)}, f"{len(top)} different values; {most}")


def _suggest_freshness(each: ColumnProfile, now: datetime) -> Iterator[Suggestion]:
    """Yield how old the newest instant may be: twice as old as it is now, a day at least; nothing for data that ended long ago."""
    if each.type not in ("date", "timestamp", "timestamp_ntz") or each.summary.high is None:
        return
    days = (now.timestamp() * 1e6 - each.summary.high) / _US_A_DAY
    if days <= _STALE_DAYS:
        within = max(1, math.ceil(days * 2))
        rule = {"freshness": {"column": each.column, "within": f"{within}d"}}
        yield Suggestion(f"{each.column}_fresh", rule, f"the newest is {each.summary.max}, {max(days, 0):.1f} days old")


def _or_null(check: str, column: str, each: ColumnProfile) -> str:
    return f"{column} IS NULL OR {check}" if each.nulls else check


def _column(name: str) -> str:
    """Return a column as SQL reads it: between backticks where its bare name may mean something else, such as ``null`` or ``on``."""
    is_bare = _NAME.fullmatch(name) and not name.startswith("_") and name.upper() not in Databricks.Tokenizer.KEYWORDS
    return name if is_bare else "`" + name.replace("`", "``") + "`"


def _text(value: str) -> str:
    """Return a text as SQL reads it: quotes and backslashes escaped, invisible characters as code points."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + _HIDDEN.sub(lambda match: f"\\u{ord(match.group()):04x}", escaped) + "'"


def _quote_value(value: str) -> str:
    return repr(value if len(value) <= 40 else f"{value[:40]}…")


_INDENT = "    "
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_DURATION = re.compile(r"[0-9]+[smhd]")
_HIDDEN_TEXT = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NAME_LENGTH = 120


def format_yaml(head: Sequence[str], key: Sequence[str], key_evidence: str, proposed: Sequence[Suggestion]) -> str:
    """Return ``head`` as comments, then the key with its evidence, then the expectations, each below a comment."""
    lines = [f"# {_in_one_line(line)}" for line in head]
    if key:
        lines += [f"# {_in_one_line(key_evidence)}", f"key: {_flow(list(key))}"]
    if proposed:
        lines.append("expectations:")
    taken: set[str] = set()
    for each in proposed:
        name = _name(each.name, taken)
        lines += [f"  # {_in_one_line(each.seen)}", f"  {name}: {_flow(each.rule)}"]
    return "".join(f"{_INDENT}{line}\n" for line in lines)


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(cell)}" for key, cell in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(cell) for cell in value) + "]"
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


def _scalar(text: str) -> str:
    """Return a text plain where nothing in YAML or in a spec reads it otherwise, else between double quotes."""
    is_plain = bool(_PLAIN.fullmatch(text) or _DURATION.fullmatch(text)) and parse_scalar(text) == text
    if is_plain:
        return text
    # A spec puts variables in where it reads `${`.
    quoted = json.dumps(text.replace("${", "$${"), ensure_ascii=False)
    return _HIDDEN_TEXT.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)


def _name(wanted: str, taken: set[str]) -> str:
    """Return a name that a spec allows and that is not taken yet."""
    base = re.sub(r"[^A-Za-z0-9_]", "_", wanted)[:_NAME_LENGTH]
    base = base if re.match(r"[A-Za-z_]", base) else f"c_{base}"
    base = base if parse_scalar(base) == base else f"c_{base}"
    name, number = base, 2
    while name.lower() in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name.lower())
    return name


def _in_one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", " ", text)
