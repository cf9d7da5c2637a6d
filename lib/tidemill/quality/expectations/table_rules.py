"""Expectations of a table as a whole: what is measured for each, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.quality.expectations.row_rules import Measure, Tally
from tidemill.spec.models import TABLE_KINDS, Distribution, Expectation, Freshness, RowCount, Sum

Number = int | float | Decimal

_ROUNDING = 1e-9
"""Sums of floating-point numbers depend on the order of the rows; by this share of their size they may differ."""


@dataclass(frozen=True)
class Known:
    """What the rules compare with: the sums of other tables' columns, and the distances from the last version, each by the rule's name.

    A distance is None where there is nothing to compare with. ``version`` is that last version, None where there is none.
    """

    now: datetime
    sums: Mapping[str, Number] = field(default_factory=dict)
    distances: Mapping[str, float | None] = field(default_factory=dict)
    version: int | None = None


@dataclass(frozen=True)
class TableVerdict:
    """Whether one rule holds: ``value`` is what was measured, ``expected`` and ``found`` say it in words."""

    name: str
    kind: str
    action: str
    passed: bool
    value: float | None
    expected: str
    found: str


def table_rules(expectations: Mapping[str, Expectation]) -> dict[str, Expectation]:
    """Return the expectations that judge the table and not its rows."""
    return {name: expectation for name, expectation in expectations.items() if expectation.kind in TABLE_KINDS}


def sum_of(values: Column, kind: T.DataType) -> Measure:
    """Return the sum of numbers of this type; exact for whole numbers and decimals, however many there are."""
    return Measure(values.cast("decimal(38,0)") if isinstance(kind, T.LongType) else values, F.sum)


def newest(name: str) -> Measure:
    """Return the greatest date or instant of a column, in microseconds since 1970."""
    return Measure(F.unix_micros(column(name).cast("timestamp")), F.max)


def table_verdicts(expectations: Mapping[str, Expectation], counts: Tally, known: Known) -> list[TableVerdict]:
    """Return the verdict of each rule that judges the table, in their order."""
    verdicts = []
    for name, rule in table_rules(expectations).items():
        if rule.row_count is not None:
            passed, value, expected, found = _row_count(rule.row_count, counts.kept)
        elif rule.freshness is not None:
            passed, value, expected, found = _freshness(rule.freshness, counts.measured[name], known.now)
        elif rule.sum is not None:
            passed, value, expected, found = _sum(rule.sum, counts.measured[name], known.sums.get(name))
        else:
            assert rule.distribution is not None
            passed, value, expected, found = _distribution(rule.distribution, known.distances[name], known.version)
        verdicts.append(TableVerdict(name, rule.kind, rule.on_violation, passed, value, expected, found))
    return verdicts


_Judged = tuple[bool, float | None, str, str]


def _row_count(rule: int | RowCount, rows: int) -> _Judged:
    if isinstance(rule, int):
        return rows == rule, float(rows), f"{rule} rows", f"it holds {rows}"
    bounds = [f"{words} {bound}" for words, bound in (("at least", rule.at_least), ("at most", rule.at_most)) if bound is not None]
    is_within = (rule.at_least or 0) <= rows <= (rows if rule.at_most is None else rule.at_most)
    return is_within, float(rows), f"{' and '.join(bounds)} rows", f"it holds {rows}"


def _freshness(rule: Freshness, newest_us: object, now: datetime) -> _Judged:
    against = rule.instant(now)
    expected = f"{rule.column} no older than {rule.within} at {against:%Y-%m-%d %H:%M:%S}"
    if not isinstance(newest_us, int):
        return False, None, expected, "no row has a value there"
    age = against.timestamp() - newest_us / 1e6
    return age <= rule.within_s, age, expected, f"the newest is {_instant(newest_us)}, {_span(age)}"


def _instant(us: int) -> str:
    """Return an instant in words; Python has none beyond the year 9999, which a wrong value may well be."""
    try:
        return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{us / 1e6:.0f} s after 1970"


def _span(seconds: float) -> str:
    amount, unit = (abs(seconds) / 86400, "d") if abs(seconds) >= 86400 else (abs(seconds) / 3600, "h")
    return f"{amount:,.1f} {unit} {'old' if seconds >= 0 else 'ahead'}"


def _sum(rule: Sum, found: object, other: Number | None) -> _Judged:
    wanted = other if isinstance(rule.equals, str) else rule.equals
    assert wanted is not None
    total = found if isinstance(found, int | float | Decimal) else 0
    where = f" ({rule.equals})" if isinstance(rule.equals, str) else ""
    give = f" within {rule.tolerance:g}" if rule.tolerance else ""
    return _is_near(total, wanted, rule.tolerance), float(total), f"sum of {rule.column} = {wanted}{where}{give}", f"it is {total}"


def _is_near(found: Number, wanted: Number, tolerance: float) -> bool:
    if isinstance(found, float) or isinstance(wanted, float):
        a, b = float(found), float(wanted)
        return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= tolerance + _ROUNDING * max(abs(a), abs(b))
    return abs(Decimal(found) - Decimal(wanted)) <= Decimal(str(tolerance))


def _distribution(rule: Distribution, distance: float | None, version: int | None) -> _Judged:
    expected = f"{rule.method} of {rule.column} at most {rule.at_most:g}"
    if version is None or distance is None:
        return True, None, f"{expected} against the last version, of which there is none to compare with", "nothing to compare with"
    return distance <= rule.at_most, distance, f"{expected} against version {version}", f"it is {distance:.4f}"
