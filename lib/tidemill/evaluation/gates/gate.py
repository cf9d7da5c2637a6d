"""A parsed gate and its evaluation on the measurements of the models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tidemill.evaluation.gates.expressions import (
    ARITHMETIC,
    COMPARISONS,
    Arithmetic,
    Expression,
    FunctionCall,
    MetricReference,
    Negation,
    Number,
    format_number,
    needs_draws,
    references,
    walk,
)
from tidemill.tasks import is_minimised

if TYPE_CHECKING:
    from tidemill.evaluation.estimates import Estimate, Measurement

    Values: TypeAlias = Estimate | dict[str, Estimate]


_FEW = 10


@dataclass(frozen=True)
class Measured:
    """What a gate is evaluated on.

    Args:
        models: the metrics of the models by owner (candidate, baseline, champion), all of the same rows.
        costs: the costs of the models, by owner and name.
        min_slice_rows: smaller slices are not gated.
        rows: the models and rows that were measured, as words for the result; may be empty.
    """

    models: Mapping[str, Measurement]
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    min_slice_rows: int = 1
    rows: str = ""


@dataclass(frozen=True)
class GateResult:
    """The result of a gate.

    ``value`` and ``bound`` are the compared numbers, the left and the right side; None where there was nothing to compare. ``lower`` and
    ``upper`` are the 95 % interval of what the gate is about: the argument of its first ``lower()`` or ``upper()``, else the value; None
    without one. ``left_out`` are the slices that were not gated, with the reason. ``sentence`` says all this.
    """

    gate: str
    passed: bool
    value: float | None
    bound: float | None
    lower: float | None
    upper: float | None
    left_out: tuple[str, ...]
    sentence: str

    @property
    def was_compared(self) -> bool:
        """False where the gate passed for want of a champion."""
        return self.value is not None


@dataclass(frozen=True)
class Gate:
    """A parsed gate: two expressions and the comparison between them."""

    text: str
    left: Expression
    sign: str
    right: Expression

    @property
    def references(self) -> tuple[MetricReference, ...]:
        """The metrics and costs that the gate names."""
        return (*references(self.left), *references(self.right))

    @property
    def needs_champion(self) -> bool:
        """True if the gate names the champion."""
        return any(reference.owner == "champion" for reference in self.references)

    @property
    def needs_baseline(self) -> bool:
        """True if the gate names the baseline."""
        return any(reference.owner == "baseline" for reference in self.references)

    @property
    def with_draws(self) -> tuple[MetricReference, ...]:
        """The metrics of which the gate needs bootstrap draws: those whose interval it names an end of."""
        calls = [part for part in self._parts() if isinstance(part, FunctionCall) and part.function.needs_draws]
        return tuple(dict.fromkeys(reference for call in calls for reference in references(call.argument)))

    @property
    def slicings(self) -> tuple[tuple[str, ...], ...]:
        """The columns of the slices that the gate names."""
        return tuple(dict.fromkeys(reference.columns for reference in self.references if reference.columns))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of metrics that the registry of metrics knows."""
        return tuple(dict.fromkeys(each.metric for each in self.references if not (each.is_cost or each.is_declared)))

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the functions that the gate calls."""
        return tuple(dict.fromkeys(part.function.name for part in self._parts() if isinstance(part, FunctionCall)))

    def _parts(self) -> Iterator[Expression]:
        yield from walk(self.left)
        yield from walk(self.right)

    def evaluate(self, measured: Measured) -> GateResult:
        """Compare the two sides; a gate that names the champion passes if there is none, and says so.

        A gate fails if a side is undefined: a metric that is undefined on these rows, a metric without an interval, no slice left to gate.
        """
        if self.needs_champion and "champion" not in measured.models:
            sentence = f"{self.text}: passed, there is no champion to compare with yet"
            return GateResult(self.text, True, None, None, None, None, (), sentence)
        evaluation = _Evaluation(measured)
        left, right = (evaluation.evaluate_side(side) for side in (self.left, self.right))
        passed = COMPARISONS[self.sign](left.value, right.value)
        comparison = f"{format_number(left.value)} {self.sign} {format_number(right.value)}"
        verdict = f"passed, {comparison}" if passed else f"refused, {comparison} does not hold"
        about = evaluation.about or (right if isinstance(self.left, Number) else left)
        lower, upper = about.ends
        if about.interval:
            evaluation.remarks.append(f"95 % interval {format_number(about.lower)} to {format_number(about.upper)}")
        left_out = tuple(f"{name} ({reason})" for name, reason in evaluation.left_out.items())
        not_gated = [f"not gated: {list_few(left_out)}"] if left_out else []
        remarks = (*dict.fromkeys(evaluation.remarks), *not_gated, *([measured.rows] if measured.rows else []))
        sentence = "; ".join((f"{self.text}: {verdict}", *remarks))
        return GateResult(self.text, passed, _finite(left.value), _finite(right.value), lower, upper, left_out, sentence)


def default_gates(metric: str, *, has_intervals: bool) -> tuple[str, str]:
    """Return the gates of a spec without gates: better than the baseline beyond chance, and not worse than the champion beyond chance.

    Without intervals the values are compared.
    """
    is_less_better = is_minimised(metric)
    if not has_intervals:
        better, not_worse = ("<", "<=") if is_less_better else (">", ">=")
        return f"{metric} {better} baseline.{metric}", f"{metric} {not_worse} champion.{metric}"
    baseline, champion = f"{metric} - baseline.{metric}", f"{metric} - champion.{metric}"
    if is_less_better:
        return f"upper({baseline}) < 0", f"lower({champion}) <= 0"
    return f"lower({baseline}) > 0", f"upper({champion}) >= 0"


class _Evaluation:
    """Evaluates the expressions of one gate, and keeps what there is to say."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured
        self.left_out: dict[str, str] = {}
        self.remarks: list[str] = []
        self.about: Estimate | None = None
        self._about_slices: dict[str, Estimate] = {}

    def evaluate_side(self, expression: Expression) -> Estimate:
        """Return the one estimate of a side; the grammar refuses sides with several."""
        return self._one(self._evaluate(expression))

    def _one(self, values: Values) -> Estimate:
        if isinstance(values, dict):
            raise TypeError(f"expected one estimate, found those of {len(values)} slices")
        return values

    def _evaluate(self, expression: Expression) -> Values:
        from tidemill.evaluation.estimates import Estimate

        if isinstance(expression, Number):
            return Estimate(expression.value)
        if isinstance(expression, MetricReference):
            return self._look_up(expression)
        if isinstance(expression, Negation):
            return _map(self._evaluate(expression.operand), lambda estimate: -estimate)
        if isinstance(expression, Arithmetic):
            return self._combine(expression)
        return self._call(expression)

    def _look_up(self, reference: MetricReference) -> Values:
        from tidemill.evaluation.estimates import Estimate

        undefined = Estimate(math.nan)
        if reference.is_cost:
            return Estimate(self._measured.costs[reference.owner][reference.metric])
        model = self._measured.models[reference.owner]
        if not reference.columns:
            return model.estimates.get(reference.metric, undefined)
        values = {}
        for name, part in model.slices.items():
            if frozenset(part.columns) != reference.slicing:
                continue
            if part.rows < self._measured.min_slice_rows:
                self.left_out[name] = f"{part.rows:,} rows, fewer than {self._measured.min_slice_rows:,}"
            else:
                values[name] = part.estimates.get(reference.metric, undefined)
        return values

    def _combine(self, expression: Arithmetic) -> Values:
        operation = ARITHMETIC[expression.sign]
        left, right = self._evaluate(expression.left), self._evaluate(expression.right)
        if isinstance(left, dict) and isinstance(right, dict):
            return {name: estimate.combine(right[name], operation) for name, estimate in left.items() if name in right}
        if isinstance(left, dict):
            number = self._one(right)
            return {name: estimate.combine(number, operation) for name, estimate in left.items()}
        return _map(right, lambda estimate: left.combine(estimate, operation))

    def _call(self, call: FunctionCall) -> Values:
        argument, function = self._evaluate(call.argument), call.function
        if isinstance(argument, dict) and function.over_slices:
            return self._reduce(call, argument)
        if function.needs_draws:
            self._note_interval(argument)
        return _map(argument, lambda estimate: _to_estimate(function.apply(estimate)))

    def _note_interval(self, estimate: Values) -> None:
        """Keep what the first interval is about, and say why there is none."""
        if isinstance(estimate, dict):
            self._about_slices = self._about_slices or estimate
            return
        self.about = self.about or estimate
        if estimate.interval is None and math.isfinite(estimate.value):
            why = "it has no bootstrap draws" if estimate.draws is None else "it is undefined in more than 5 % of the bootstrap draws"
            self.remarks.append(f"the value {format_number(estimate.value)} has no interval: {why}")

    def _reduce(self, call: FunctionCall, slices: dict[str, Estimate]) -> Estimate:
        """Make one estimate of those of the slices; undefined ones are left out and named."""
        defined = {name: estimate for name, estimate in slices.items() if math.isfinite(estimate.value)}
        names = ", ".join(dict.fromkeys(reference.metric for reference in references(call.argument)))
        what = f"the interval of {names}" if needs_draws(call.argument) else names
        self.left_out |= {name: f"{what} is undefined" for name in slices if name not in defined}
        if not defined:
            self.remarks.append("no slice is left to gate")
            return _to_estimate(math.nan)
        result = _to_estimate(call.function.apply(defined))
        places = [name for name, estimate in defined.items() if estimate.value == result.value]
        self.about = self.about or (self._about_slices.get(places[0]) if places else None)
        self.remarks.append(f"{f'at {places[0]}, ' if places else ''}of {len(defined)} {'slice' if len(defined) == 1 else 'slices'}")
        return result


def list_few(names: Sequence[str]) -> str:
    """Return the first names as words, with the number of the others."""
    others = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + others


def _map(values: Values, function: Callable[[Estimate], Estimate]) -> Values:
    return {name: function(estimate) for name, estimate in values.items()} if isinstance(values, dict) else function(values)


def _to_estimate(value: Estimate | float) -> Estimate:
    from tidemill.evaluation.estimates import Estimate

    return value if isinstance(value, Estimate) else Estimate(float(value))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
