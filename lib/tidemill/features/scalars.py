"""Slots that hold one number: numbers, truths, calendar parts, places of lists, and what is made of them, as each encoding wants it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

from pyspark.sql import types as T

from tidemill.columns import double_literal
from tidemill.features.buckets import Bucketed, bucket_slots
from tidemill.features.fit_cache import Sample
from tidemill.features.kinds import group_of
from tidemill.features.names import OF_THE_DAY, PERIODS, boolean_sql, internal, number_sql, part_sql, turn_sql
from tidemill.features.numbers import Fitted, Treatment, fit_numbers
from tidemill.quoting import quoted

if TYPE_CHECKING:
    from tidemill.features.plan import FeaturePlan
    from tidemill.spec.models import Array, Datetime


# What a tree sees where there is no instant: a value no calendar part has, so that it can be split off.
_NO_INSTANT = -1.0
_PART = 2.0**-60


@dataclass(frozen=True)
class Scalar:
    """A number before anything is learnt about it.

    ``part`` is the calendar part it is, None for other numbers, and ``turns`` says whether it comes round again and shall be seen so.
    ``is_slot`` is False where others are made of it alone; ``cuts`` is the number of quantile buckets wanted of it.
    """

    name: str
    sql: str
    impute: str | float = "median"
    scale: str = "standard"
    part: str | None = None
    turns: bool = False
    indicator: bool = False
    is_slot: bool = True
    cuts: int = 0

    @property
    def column(self) -> str:
        """The column that holds it, null where it is missing."""
        return internal("raw", self.name)


@dataclass
class Slots:
    """SQL by the name of the column, in levels: ``computed`` is made of the scalars, ``products`` of ``computed``.

    ``assembled`` names the columns that are slots of an encoding, in order.
    """

    computed: dict[str, str] = field(default_factory=dict)
    products: dict[str, str] = field(default_factory=dict)
    assembled: dict[str, list[str]] = field(default_factory=dict)


def scalars(plan: FeaturePlan, schema: T.StructType) -> list[Scalar]:
    """Return the plan's numbers, each once; a DATE has no hour and no minute."""
    found: dict[str, Scalar] = {}
    for block in plan.blocks("numeric"):
        for name in block.columns:
            found[name] = Scalar(name, number_sql(name), block.impute, block.scale, indicator=block.indicators)
    for block in plan.blocks("boolean"):
        for name in block.columns:
            found[name] = Scalar(name, boolean_sql(name), "mode", "none", indicator=block.indicators)
    for block in plan.blocks("datetime"):
        found.update((scalar.name, scalar) for scalar in _parts(block, schema))
    for block in plan.blocks("array"):
        found.update((scalar.name, scalar) for scalar in _places(block, schema, plan))
    for name, cuts in _factors(plan, schema):
        known = found.get(name) or Scalar(name, number_sql(name), is_slot=False)
        found[name] = replace(known, cuts=max(known.cuts, cuts))
    return list(found.values())


def _parts(block: Datetime, schema: T.StructType) -> Iterator[Scalar]:
    for name in block.columns:
        absent: Collection[str] = OF_THE_DAY if isinstance(schema[name].dataType, T.DateType) else ()
        for part in dict.fromkeys(block.parts):
            if part not in absent:
                yield Scalar(f"{name}.{part}", part_sql(name, part), part=part, turns=block.cyclic and part in PERIODS)


def _places(block: Array, schema: T.StructType, plan: FeaturePlan) -> Iterator[Scalar]:
    """Yield a number for each place of a list of numbers, or what sums the list up."""
    for name in block.columns:
        if group_of(schema[name].dataType) != "numbers":
            continue
        values = f"filter(transform({quoted(name)}, v -> CAST(v AS DOUBLE)), v -> abs(v) < double('Infinity'))"
        if name in plan.sizes:
            for place in range(plan.sizes[name]):
                value = f"CAST(get({quoted(name)}, {place}) AS DOUBLE)"
                yield Scalar(f"{name}[{place}]", f"CASE WHEN abs({value}) < double('Infinity') THEN {value} END", "mean")
            continue
        # Of parts of the numbers, by a power of two, which changes no digit: a sum may pass the greatest double where the mean does not.
        total = f"aggregate({values}, 0.0D, (sum, v) -> sum + v * {double_literal(_PART)})"
        mean = f"{total} / nullif(CAST(size({values}) AS DOUBLE), 0.0D) / {double_literal(_PART)}"
        yield Scalar(f"{name}.size", f"CAST(size({quoted(name)}) AS DOUBLE)", 0.0)
        yield Scalar(f"{name}.mean", mean)
        yield Scalar(f"{name}.min", f"array_min({values})")
        yield Scalar(f"{name}.max", f"array_max({values})")


def _factors(plan: FeaturePlan, schema: T.StructType) -> Iterator[tuple[str, int]]:
    """Yield the numbers of which others are made, and how many quantile buckets of each are wanted."""
    for block in plan.blocks("buckets"):
        yield from ((name, block.quantiles or 0) for name in block.columns)
    for group in ("polynomial", "pca"):
        yield from ((name, 0) for block in plan.blocks(group) for name in block.columns)
    for pair in pairs(plan):
        yield from ((name, 0) for name in pair if is_number(schema, name))


def pairs(plan: FeaturePlan) -> list[tuple[str, str]]:
    """Return the declared pairs, each once."""
    return list(dict.fromkeys((pair[0], pair[1]) for block in plan.blocks("interactions") for pair in block.pairs))


def is_number(schema: T.StructType, name: str) -> bool:
    """Return True where a column of a pair counts as a number, not as a category."""
    return group_of(schema[name].dataType) == "numeric"


def powers(names: Sequence[str], degree: int) -> list[tuple[str, ...]]:
    """Return the factors of each product of two to ``degree`` numbers, in the order of scikit-learn's PolynomialFeatures."""
    each = list(dict.fromkeys(names))
    return [factors for count in range(2, degree + 1) for factors in combinations_with_replacement(each, count)]


def product_name(factors: Sequence[str]) -> str:
    """Return such as ``x^2*y``."""
    times = {name: factors.count(name) for name in factors}
    return "*".join(name if count == 1 else f"{name}^{count}" for name, count in times.items())


def products(plan: FeaturePlan, schema: T.StructType) -> list[tuple[str, ...]]:
    """Return the factors of each product of numbers, once each."""
    found = [factors for block in plan.blocks("polynomial") for factors in powers(block.columns, block.degree)]
    found += [pair for pair in pairs(plan) if all(is_number(schema, name) for name in pair)]
    return list(dict.fromkeys(found))


def fit_slots(
    plan: FeaturePlan,
    found: Sequence[Scalar],
    sample: Sample,
    encodings: Collection[str],
    learnt_for: Collection[str],
    multiplied: Sequence[tuple[str, ...]],
) -> Slots:
    """Return the slots of each encoding; at most one aggregate over the sample, which has the scalars' columns.

    What is learnt suits the encodings ``learnt_for``, which may be more.
    """
    fitted = _fitted(plan, found, sample, learnt_for)
    by_name = {scalar.name: scalar for scalar in found}
    declared = {name for block in plan.blocks("polynomial") for name in block.columns}
    buckets = list(_bucketed(plan, by_name, fitted))
    slots = Slots()
    for name in dict.fromkeys(name for block in plan.blocks("pca") for name in block.columns):
        column = by_name[name].column
        slots.computed[internal("filled", name)] = fitted[column].comparable_sql(column)
    for encoding in encodings:
        names: list[str] = []
        for scalar in found:
            made = dict(_ENCODED[encoding](scalar, fitted.get(scalar.column)))
            slots.computed.update(made)
            if scalar.is_slot or scalar.name in declared:
                names += made
        for scalar in found:
            if scalar.indicator and fitted[scalar.column].has_missing:
                flag = internal("missing", f"{scalar.name}.missing")
                slots.computed[flag] = f"CAST({quoted(scalar.column)} IS NULL AS DOUBLE)"
                names.append(flag)
        binned = bucket_slots(buckets, encoding)
        slots.computed.update(binned)
        for factors in multiplied:
            product = internal(encoding, product_name(factors))
            slots.products[product] = " * ".join(quoted(internal(encoding, factor)) for factor in factors)
            binned[product] = ""
        slots.assembled[encoding] = [*names, *binned]
    return slots


def _fitted(plan: FeaturePlan, found: Sequence[Scalar], sample: Sample, encodings: Collection[str]) -> dict[str, Fitted]:
    """Return what is learnt of each number, of those that are not known by one aggregate."""
    sql = {scalar.column: f"{scalar.sql} of {plan.custom!r}" for scalar in found}
    treatments = {(column, sql[column], treatment): treatment for column, treatment in _treatments(found, encodings).items()}

    def learn(wanted: Mapping[tuple[str, str, Treatment], Treatment]) -> dict[tuple[str, str, Treatment], Fitted]:
        asked = {column: treatment for (column, _, treatment) in wanted}
        learnt = sample.learnt(frozenset(wanted), lambda rows, within: fit_numbers(rows, asked, within))
        return {key: learnt[key[0]] for key in wanted}

    return {column: fitted for (column, _, _), fitted in sample.memo.each(treatments, learn).items()}


def _bucketed(plan: FeaturePlan, by_name: dict[str, Scalar], fitted: dict[str, Fitted]) -> Iterator[Bucketed]:
    for block in plan.blocks("buckets"):
        for name in block.columns:
            column = by_name[name].column
            yield Bucketed(name, column, block.cuts if block.quantiles is None else fitted[column].cuts)


def _treatments(found: Sequence[Scalar], encodings: Collection[str]) -> dict[str, Treatment]:
    """Return what is to be learnt of each number; of a calendar part that turns, and of any that only trees see, nothing."""
    is_linear, bounds = "linear" in encodings, "positive" in encodings
    treatments = {}
    for scalar in found:
        if scalar.part is None:
            scale = scalar.scale if is_linear else "none"
            treatments[scalar.column] = Treatment(scalar.impute, scale, bounds, scalar.indicator, scalar.cuts)
        elif (is_linear or bounds) and not scalar.turns:
            treatments[scalar.column] = Treatment("median", "standard", bounds)
    return treatments


def _linear(scalar: Scalar, fitted: Fitted | None) -> Iterator[tuple[str, str]]:
    if fitted:
        yield internal("linear", scalar.name), fitted.scaled_sql(scalar.column)
    elif scalar.part:
        for function in ("sin", "cos"):
            yield internal("linear", f"{scalar.name}_{function}"), turn_sql(scalar.column, scalar.part, function)


def _positive(scalar: Scalar, fitted: Fitted | None) -> Iterator[tuple[str, str]]:
    if fitted:
        yield internal("positive", scalar.name), fitted.positive_sql(scalar.column)
    elif scalar.part:
        for function in ("sin", "cos"):
            yield internal("positive", f"{scalar.name}_{function}"), f"(1.0D + {turn_sql(scalar.column, scalar.part, function)}) / 2.0D"


def _tree(scalar: Scalar, fitted: Fitted | None) -> Iterator[tuple[str, str]]:
    missing = f"coalesce({quoted(scalar.column)}, {double_literal(_NO_INSTANT)})"
    yield internal("tree", scalar.name), missing if scalar.part or not fitted else fitted.filled_sql(scalar.column)


_ENCODED = {"linear": _linear, "tree": _tree, "positive": _positive}
