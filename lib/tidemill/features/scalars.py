"""Slots that hold one number: numeric columns and calendar parts, in the form each encoding wants."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import types as T

from tidemill.features.names import OF_THE_DAY, PERIODS, internal, number, number_sql, part_sql, turn_sql
from tidemill.features.numbers import Fitted, Treatment, fit_numbers
from tidemill.features.plan import FeaturePlan
from tidemill.lake.names import quoted

# What a tree sees where there is no instant: a value no calendar part has, so that it can be split off.
_NO_INSTANT = -1.0


@dataclass(frozen=True)
class Scalar:
    """A number before anything is learnt about it; ``part`` is the calendar part it is, None for a numeric column."""

    name: str
    sql: str
    part: str | None = None

    @property
    def column(self) -> str:
        """The column that holds it, null where it is missing."""
        return internal("raw", self.name)


def scalars(plan: FeaturePlan, schema: T.StructType) -> list[Scalar]:
    """Return the plan's numbers and calendar parts; a DATE has no hour and no minute."""
    found = [Scalar(name, number_sql(name)) for name in (plan.numeric.columns if plan.numeric else [])]
    if plan.datetime:
        for name in plan.datetime.columns:
            absent: Collection[str] = OF_THE_DAY if isinstance(schema[name].dataType, T.DateType) else ()
            parts = [part for part in dict.fromkeys(plan.datetime.parts) if part not in absent]
            found += [Scalar(f"{name}.{part}", part_sql(name, part), part) for part in parts]
    return found


def fit_slots(plan: FeaturePlan, found: list[Scalar], df: DataFrame, encodings: Collection[str]) -> dict[str, dict[str, str]]:
    """Return for each encoding its slots, name to SQL over the scalars' columns in ``df``; at most one aggregate over ``df``."""
    is_linear, bounds = "linear" in encodings, "positive" in encodings
    treatments = {}
    for scalar in found:
        if scalar.part is None and plan.numeric:
            treatments[scalar.column] = Treatment(plan.numeric.impute, plan.numeric.scale if is_linear else "none", bounds)
        elif (is_linear or bounds) and not _turns(plan, scalar):
            treatments[scalar.column] = Treatment("median", "standard", bounds)
    fitted = fit_numbers(df, treatments)
    slots = {"linear": _linear, "tree": _tree, "positive": _positive}
    return {
        encoding: {column: sql for scalar in found for column, sql in slots[encoding](plan, scalar, fitted.get(scalar.column))}
        for encoding in encodings
    }


def _turns(plan: FeaturePlan, scalar: Scalar) -> bool:
    """Return True where the scalar comes round again, and shall be seen so."""
    return bool(plan.datetime and plan.datetime.cyclic and scalar.part in PERIODS)


def _linear(plan: FeaturePlan, scalar: Scalar, fitted: Fitted | None) -> Iterator[tuple[str, str]]:
    if fitted:
        yield internal("linear", scalar.name), fitted.scaled_sql(scalar.column)
    elif scalar.part:
        for function in ("sin", "cos"):
            yield internal("linear", f"{scalar.name}_{function}"), turn_sql(scalar.column, scalar.part, function)


def _positive(plan: FeaturePlan, scalar: Scalar, fitted: Fitted | None) -> Iterator[tuple[str, str]]:
    if fitted:
        yield internal("positive", scalar.name), fitted.positive_sql(scalar.column)
    elif scalar.part:
        for function in ("sin", "cos"):
            yield internal("positive", f"{scalar.name}_{function}"), f"(1.0D + {turn_sql(scalar.column, scalar.part, function)}) / 2.0D"


def _tree(plan: FeaturePlan, scalar: Scalar, fitted: Fitted | None) -> Iterator[tuple[str, str]]:
    missing = f"coalesce({quoted(scalar.column)}, {number(_NO_INSTANT)})"
    yield internal("tree", scalar.name), missing if scalar.part or not fitted else fitted.filled_sql(scalar.column)
