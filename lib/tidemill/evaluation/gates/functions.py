"""The functions of gates: ends of intervals, and the least or greatest value of slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tidemill.extensions import Registry, describe

if TYPE_CHECKING:
    from tidemill.evaluation.estimates import Estimate


@dataclass(frozen=True, kw_only=True)
class GateFunction:
    """A function of one argument.

    Args:
        name: the name in a gate: that of the registry, or the dotted path.
        apply: takes an `Estimate` (a value with its bootstrap draws), or with ``over_slices`` those of all gated slices by their names,
            at least one; returns an `Estimate` or a number.
        over_slices: True if it makes one value of those of all slices.
        needs_draws: True if its value is undefined without bootstrap draws.
    """

    name: str
    apply: Callable[[Any], Estimate | float]
    over_slices: bool = False
    needs_draws: bool = False


def _lower_end(estimate: Estimate) -> float:
    return estimate.lower


def _upper_end(estimate: Estimate) -> float:
    return estimate.upper


def _least(slices: Mapping[str, Estimate]) -> Estimate:
    return _reduce(slices, "min")


def _greatest(slices: Mapping[str, Estimate]) -> Estimate:
    return _reduce(slices, "max")


def _reduce(slices: Mapping[str, Estimate], how: str) -> Estimate:
    """Return the least or greatest value; its draws are those of the least or greatest value in each draw."""
    import numpy as np

    from tidemill.evaluation.estimates import Estimate

    reduce = getattr(np, how)
    draws = [estimate.draws for estimate in slices.values() if estimate.draws is not None]
    value = float(reduce([estimate.value for estimate in slices.values()]))
    return Estimate(value, reduce(np.stack(draws), axis=0) if len(draws) == len(slices) else None)


def _accept(name: str, candidate: Any) -> GateFunction:
    """Return a GateFunction; build one from a class or an instance with ``apply``, and perhaps ``over_slices`` and ``needs_draws``."""
    if isinstance(candidate, GateFunction):
        return replace(candidate, name=name)
    declared = candidate() if isinstance(candidate, type) else candidate
    if not callable(getattr(declared, "apply", None)):
        raise TypeError(f"expected a class with a method `apply(estimate)`, found {describe(candidate)}")
    flags = {flag: bool(getattr(declared, flag, False)) for flag in ("over_slices", "needs_draws")}
    return GateFunction(name=name, apply=declared.apply, **flags)


GATE_FUNCTIONS: Registry[GateFunction] = Registry(
    "gate function",
    "tidemill.gate_functions",
    {
        "lower": GateFunction(name="lower", apply=_lower_end, needs_draws=True),
        "upper": GateFunction(name="upper", apply=_upper_end, needs_draws=True),
        "min": GateFunction(name="min", apply=_least, over_slices=True),
        "max": GateFunction(name="max", apply=_greatest, over_slices=True),
    },
    _accept,
)
