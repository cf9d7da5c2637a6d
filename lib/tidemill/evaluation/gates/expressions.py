"""The parsed parts of a gate: numbers, metrics, arithmetic and calls of functions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tidemill.evaluation.gates.functions import GateFunction

Operation: TypeAlias = Callable[[float, float], float]

ARITHMETIC: Mapping[str, Operation] = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class MetricReference:
    """A metric, or a cost, that a gate names.

    ``owner`` is the model: candidate, champion or baseline. ``columns`` are those of the slices, none for the metric of all rows.
    """

    owner: str
    metric: str
    columns: tuple[str, ...] = ()
    is_cost: bool = False
    is_declared: bool = False
    """True for a metric of ``evaluation.metrics``."""

    @property
    def slicing(self) -> frozenset[str]:
        """The columns of the slices; their order does not matter."""
        return frozenset(self.columns)

    def __str__(self) -> str:
        """Return the reference as it is written in a gate."""
        is_plain = len(self.columns) == 1 and self.columns[0].isidentifier()
        columns = ", ".join(name if name.isidentifier() else repr(name) for name in self.columns)
        slices = f"slices.{columns}" if is_plain else f"slices[{columns}]" if columns else None
        parts = [None if self.owner == "candidate" else self.owner, slices, self.metric]
        return ".".join(part for part in parts if part)


@dataclass(frozen=True)
class Negation:
    """The negative of an expression."""

    operand: Expression


@dataclass(frozen=True)
class Arithmetic:
    """One of ``+ - * /`` of two expressions; with slices on both sides, slice by slice."""

    left: Expression
    sign: str
    right: Expression


@dataclass(frozen=True)
class FunctionCall:
    """A function of one expression."""

    function: GateFunction
    argument: Expression


Expression: TypeAlias = Number | MetricReference | Negation | Arithmetic | FunctionCall


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all parts of it, this one first."""
    yield expression
    if isinstance(expression, Negation):
        yield from walk(expression.operand)
    elif isinstance(expression, Arithmetic):
        yield from walk(expression.left)
        yield from walk(expression.right)
    elif isinstance(expression, FunctionCall):
        yield from walk(expression.argument)


def references(expression: Expression) -> list[MetricReference]:
    """Return the metrics and costs that an expression names."""
    return [part for part in walk(expression) if isinstance(part, MetricReference)]


def is_per_slice(expression: Expression) -> bool:
    """Return True for an expression with one value a slice."""
    if isinstance(expression, FunctionCall):
        return not expression.function.over_slices and is_per_slice(expression.argument)
    if isinstance(expression, Arithmetic):
        return is_per_slice(expression.left) or is_per_slice(expression.right)
    return is_per_slice(expression.operand) if isinstance(expression, Negation) else bool(getattr(expression, "columns", ()))


def needs_draws(expression: Expression) -> bool:
    """Return True for an expression that uses an end of an interval."""
    return any(isinstance(part, FunctionCall) and part.function.needs_draws for part in walk(expression))


def format_number(value: float) -> str:
    """Return a number with six digits; an undefined one is called nothing."""
    return "nothing" if math.isnan(value) else f"{value:.6g}"
