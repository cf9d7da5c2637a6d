"""NumberSlots that hold one number: scalars, buckets and products, for each encoding."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.features.contributions import BucketedColumn, Contribution, Scalar
from tidemill.features.fit_cache import Sample
from tidemill.features.names import MISSING, cyclic_sql, format_number, internal_name
from tidemill.features.numbers import FittedNumber, Treatment, fit_numbers
from tidemill.quoting import format_double, quote_name

# The value of a missing calendar part for trees: below all others, so that a split can separate it.
_NO_INSTANT = -1.0


@dataclass
class NumberSlots:
    """SQL by the name of the column, in levels: ``computed`` uses the scalars, ``products`` uses ``computed``.

    ``assembled`` names the columns that are slots of an encoding, in order.
    """

    computed: dict[str, str] = field(default_factory=dict)
    products: dict[str, str] = field(default_factory=dict)
    assembled: dict[str, list[str]] = field(default_factory=dict)


def fit_number_slots(
    parts: Contribution, sample: Sample, encodings: Collection[str], learnt_for: Collection[str], key: object
) -> NumberSlots:
    """Return the slots of each encoding; at most one aggregate over the sample, which has the scalars' columns.

    Statistics are learnt for the encodings ``learnt_for``, which may be more. ``key`` is what the scalars depend on besides their SQL.
    """
    fitted = _fit_scalars(parts.scalars, sample, learnt_for, key)
    by_name = {scalar.name: scalar for scalar in parts.scalars}
    slots = NumberSlots()
    for name in parts.filled:
        column = by_name[name].column
        slots.computed[internal_name("filled", name)] = fitted[column].comparable_sql(column)
    for encoding in encodings:
        scalar_slots = _scalar_slots(parts.scalars, fitted, encoding, slots)
        bucket_slots: dict[str, str] = {}
        for bucketed in parts.buckets:
            column = by_name[bucketed.name].column
            bucket_slots.update(_BUCKETED[encoding](bucketed, column, fitted[column].cuts if bucketed.cuts is None else bucketed.cuts))
        slots.computed.update(bucket_slots)
        products = {internal_name(encoding, product_name(factors)): factors for factors in parts.products}
        for column, factors in products.items():
            slots.products[column] = " * ".join(quote_name(internal_name(encoding, factor)) for factor in factors)
        slots.assembled[encoding] = [*scalar_slots, *bucket_slots, *products]
    return slots


def product_name(factors: Sequence[str]) -> str:
    """Return the name of a product, such as ``x^2*y``."""
    times = {name: factors.count(name) for name in factors}
    return "*".join(name if count == 1 else f"{name}^{count}" for name, count in times.items())


def _scalar_slots(scalars: Sequence[Scalar], fitted: Mapping[str, FittedNumber], encoding: str, slots: NumberSlots) -> list[str]:
    """Add the encoded scalars and their indicators to ``slots.computed``; return the slot columns."""
    names: list[str] = []
    for scalar in scalars:
        encoded = dict(_ENCODED[encoding](scalar, fitted.get(scalar.column)))
        slots.computed.update(encoded)
        names += encoded if scalar.is_slot else ()
    for scalar in scalars:
        if scalar.indicator and fitted[scalar.column].has_missing:
            flag = internal_name("missing", f"{scalar.name}.missing")
            slots.computed[flag] = f"CAST({quote_name(scalar.column)} IS NULL AS DOUBLE)"
            names.append(flag)
    return names


def _fit_scalars(scalars: Sequence[Scalar], sample: Sample, encodings: Collection[str], key: object) -> dict[str, FittedNumber]:
    """Return the fit of each scalar's column; one aggregate for those that are not cached."""
    sql = {scalar.column: f"{scalar.sql} of {key}" for scalar in scalars}
    treatments = {(column, sql[column], treatment): treatment for column, treatment in _treatments(scalars, encodings).items()}

    def learn(unknown: Mapping[tuple[str, str, Treatment], Treatment]) -> dict[tuple[str, str, Treatment], FittedNumber]:
        by_column = {column: treatment for (column, _, treatment) in unknown}
        learnt = sample.learn(frozenset(unknown), lambda rows, within: fit_numbers(rows, by_column, within))
        return {key: learnt[key[0]] for key in unknown}

    return {column: fitted for (column, _, _), fitted in sample.cache.get_all(treatments, learn).items()}


def _treatments(scalars: Sequence[Scalar], encodings: Collection[str]) -> dict[str, Treatment]:
    """Return how to fit each scalar; cyclic calendar parts, and parts for trees alone, are not fitted."""
    is_linear, bounds = "linear" in encodings, "positive" in encodings
    treatments = {}
    for scalar in scalars:
        if scalar.calendar_part is None:
            scale = scalar.scale if is_linear else "none"
            treatments[scalar.column] = Treatment(scalar.impute, scale, bounds, scalar.indicator, scalar.quantiles)
        elif (is_linear or bounds) and not scalar.is_cyclic:
            treatments[scalar.column] = Treatment("median", "standard", bounds)
    return treatments


Columns = Iterator[tuple[str, str]]


def _linear(scalar: Scalar, fitted: FittedNumber | None) -> Columns:
    if fitted:
        yield internal_name("linear", scalar.name), fitted.scaled_sql(scalar.column)
    elif scalar.calendar_part:
        for function in ("sin", "cos"):
            yield internal_name("linear", f"{scalar.name}_{function}"), cyclic_sql(scalar.column, scalar.calendar_part, function)


def _positive(scalar: Scalar, fitted: FittedNumber | None) -> Columns:
    if fitted:
        yield internal_name("positive", scalar.name), fitted.positive_sql(scalar.column)
    elif scalar.calendar_part:
        for function in ("sin", "cos"):
            turn = cyclic_sql(scalar.column, scalar.calendar_part, function)
            yield internal_name("positive", f"{scalar.name}_{function}"), f"(1.0D + {turn}) / 2.0D"


def _tree(scalar: Scalar, fitted: FittedNumber | None) -> Columns:
    missing = f"coalesce({quote_name(scalar.column)}, {format_double(_NO_INSTANT)})"
    yield internal_name("tree", scalar.name), missing if scalar.calendar_part or not fitted else fitted.filled_sql(scalar.column)


_ENCODED = {"linear": _linear, "tree": _tree, "positive": _positive}


def _bucket_order(bucketed: BucketedColumn, column: str, cuts: Sequence[float]) -> Columns:
    """Yield the index of the bucket, from 0; -1 for a missing number."""
    value = quote_name(column)
    below = " ".join(f"WHEN {value} < {format_double(cut)} THEN {place}.0D" for place, cut in enumerate(cuts))
    yield internal_name("tree", f"{bucketed.name}.bucket"), f"CASE WHEN {value} IS NULL THEN -1.0D {below} ELSE {len(cuts)}.0D END"


def _bucket_flags(bucketed: BucketedColumn, column: str, cuts: Sequence[float]) -> Columns:
    """Yield a flag per bucket, and one for a missing number."""
    value = quote_name(column)
    for low, high in zip((None, *cuts), (*cuts, None), strict=True):
        conditions = [f"{value} IS NOT NULL"]
        conditions += [f"{value} >= {format_double(low)}"] if low is not None else []
        conditions += [f"{value} < {format_double(high)}"] if high is not None else []
        flag = internal_name("bucket", f"{bucketed.name}={_bucket_range(low, high)}")
        yield flag, f"CAST(coalesce({' AND '.join(conditions)}, false) AS DOUBLE)"
    yield internal_name("bucket", f"{bucketed.name}={MISSING}"), f"CAST({value} IS NULL AS DOUBLE)"


_BUCKETED = {"linear": _bucket_flags, "tree": _bucket_order, "positive": _bucket_flags}


def _bucket_range(low: float | None, high: float | None) -> str:
    """Return the name of a bucket, such as ``[0, 10)``."""
    if low is None and high is None:
        return "any"
    if low is None:
        return f"<{format_number(high or 0.0)}"
    return f">={format_number(low)}" if high is None else f"[{format_number(low)}, {format_number(high)})"
