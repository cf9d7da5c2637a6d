"""Gates: the conditions that a candidate must meet, parsed from the spec's text; needs no Spark.

``areaUnderPR >= 0.35``, ``areaUnderPR >= champion.areaUnderPR - 0.005``, ``areaUnderPR > baseline.areaUnderPR``,
``min(slices.carrier.areaUnderROC) >= 0.6``: one comparison (``>``, ``>=``, ``<``, ``<=``, ``==``) of two sides made of metrics, numbers,
``+ - * /`` and brackets. A bare metric is the candidate's on the test rows.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidemill.errors import UsageError, did_you_mean
from tidemill.tasks import METRICS, Task, is_minimised

Metrics = Mapping[str, float]

_COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[float, float], bool]]] = {
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Eq: ("==", operator.eq),
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b if b else math.nan,
}
_OVER_SLICES = ("min", "max")
_MODELS = ("champion", "baseline")
_FORM = "write a comparison such as `areaUnderPR >= champion.areaUnderPR - 0.005`"


@dataclass(frozen=True)
class MetricReference:
    """A metric that a gate names: its owner (``candidate``, ``champion``, ``baseline``, ``slices``) and its name."""

    owner: str
    metric: str
    column: str | None = None

    def __str__(self) -> str:
        """Return the reference as it is written in a gate."""
        parts = [None if self.owner == "candidate" else self.owner, self.column, self.metric]
        return ".".join(part for part in parts if part)


@dataclass(frozen=True)
class GateResult:
    """The result of a gate: ``left`` and ``right`` are the compared numbers, None where the gate did not apply."""

    gate: str
    passed: bool
    left: float | None
    right: float | None
    sentence: str


@dataclass(frozen=True)
class Gate:
    """A parsed gate; ``references`` are the metrics it names."""

    text: str
    tree: ast.Compare
    references: tuple[MetricReference, ...]

    @property
    def needs_champion(self) -> bool:
        """True if the gate names the champion."""
        return any(reference.owner == "champion" for reference in self.references)

    @property
    def needs_slices(self) -> bool:
        """True if the gate names metrics of slices."""
        return any(reference.owner == "slices" for reference in self.references)

    def evaluate(self, metrics: Metrics, baseline: Metrics, champion: Metrics | None) -> GateResult:
        """Compare the numbers; a gate that names the champion passes if there is none, and says so.

        A gate fails if a side is NaN (a metric that is undefined on these rows).
        """
        if self.needs_champion and champion is None:
            return GateResult(self.text, True, None, None, f"{self.text}: passed, there is no champion to compare with yet")
        owners = {"candidate": metrics, "baseline": baseline, "champion": champion or {}}
        left = _evaluate_side(self.tree.left, owners)
        right = _evaluate_side(self.tree.comparators[0], owners)
        sign, compare = _COMPARISONS[type(self.tree.ops[0])]
        passed = compare(left, right)
        comparison = f"{_format_number(left)} {sign} {_format_number(right)}"
        verdict = f"passed, {comparison}" if passed else f"refused, {comparison} does not hold"
        return GateResult(self.text, passed, left, right, f"{self.text}: {verdict}")


def default_gate(metric: str) -> str:
    """Return the gate of a spec without gates: better than the constant baseline."""
    return f"{metric} {'<' if is_minimised(metric) else '>'} baseline.{metric}"


def parse_gate(text: str, task: Task | None = None) -> Gate:
    """Parse one gate; with ``task``, its metrics must be metrics of that task.

    Raises:
        UsageError: the text is not a gate, or names something unknown.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"gate {text!r} does not parse; {_FORM}") from error
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in _COMPARISONS:
        raise UsageError(f"gate {text!r} is not one comparison with >, >=, <, <= or ==; {_FORM}")
    references = (*_find_references(tree.left, text, task), *_find_references(tree.comparators[0], text, task))
    if not references:
        raise UsageError(f"gate {text!r} names no metric; {_FORM}")
    return Gate(text.strip(), tree, references)


def _find_references(node: ast.expr, text: str, task: Task | None) -> tuple[MetricReference, ...]:
    """Return the metrics that a side of the comparison names; refuse any other syntax."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return ()
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return _find_references(node.operand, text, task)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return (*_find_references(node.left, text, task), *_find_references(node.right, text, task))
    if isinstance(node, ast.Name | ast.Attribute):
        return (_parse_model_metric(ast.unparse(node), text, task),)
    if isinstance(node, ast.Call):
        return (_parse_slice_metric(node, text, task),)
    raise UsageError(f"gate {text!r}: `{ast.unparse(node)}` is not allowed; expected metrics, numbers, + - * / and brackets")


def _parse_model_metric(name: str, text: str, task: Task | None) -> MetricReference:
    owner, metric = _split_owner(name)
    if owner == "slices":
        raise UsageError(f"gate {text!r}: `{name}` is one number a slice; write min({name}) or max({name})")
    if "." in metric:
        _refuse_unknown_path(metric, text, task)
    return MetricReference(owner or "candidate", _check_metric_name(metric, text, task))


def _split_owner(name: str) -> tuple[str, str]:
    """Return the owner of the metric, empty for the candidate, and the metric, which may be a dotted path."""
    first, _, rest = name.partition(".")
    return (first, rest) if rest and first in (*_MODELS, "slices") else ("", name)


def _refuse_unknown_path(metric: str, text: str, task: Task | None) -> None:
    """Refuse a dotted path that leads to no metric, or to one that does not measure the task."""
    first = metric.partition(".")[0]
    try:
        measured = METRICS.get(metric).tasks
    except UsageError as error:
        hint = did_you_mean(first, (*_MODELS, "slices"))
        reason = f"unknown `{first}`{hint}; expected champion, baseline or slices" if hint else str(error)
        raise UsageError(f"gate {text!r}: {reason}") from error
    if task and task.kind not in measured:
        raise UsageError(f"gate {text!r}: {metric!r} measures {', '.join(sorted(measured))}, found `task: {task.name}`")


def _parse_slice_metric(node: ast.Call, text: str, task: Task | None) -> MetricReference:
    function = ast.unparse(node.func)
    if function not in _OVER_SLICES or len(node.args) != 1 or node.keywords:
        hint = did_you_mean(function, _OVER_SLICES)
        raise UsageError(f"gate {text!r}: unknown function `{function}`{hint}; expected min(slices.<column>.<metric>) or max(…)")
    parts = ast.unparse(node.args[0]).split(".")
    if len(parts) < 3 or parts[0] != "slices":
        raise UsageError(f"gate {text!r}: `{ast.unparse(node)}` is not min(slices.<column>.<metric>)")
    return MetricReference("slices", _check_metric_name(".".join(parts[2:]), text, task), parts[1])


def _check_metric_name(metric: str, text: str, task: Task | None) -> str:
    known = task.metric_names() if task else METRICS.names
    if metric not in known and "." not in metric:
        of = f" of a {task.name} task" if task else ""
        raise UsageError(f"gate {text!r}: unknown metric {metric!r}{of}{did_you_mean(metric, known)}; known: {', '.join(known)}")
    return metric


def _evaluate_side(node: ast.expr, owners: Mapping[str, Metrics]) -> float:
    if isinstance(node, ast.Constant):
        return float(str(node.value))
    if isinstance(node, ast.UnaryOp):
        value = _evaluate_side(node.operand, owners)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](_evaluate_side(node.left, owners), _evaluate_side(node.right, owners))
    owner, metric = _split_owner(ast.unparse(node))
    return owners.get(owner or "candidate", {}).get(metric, math.nan)


def _format_number(value: float) -> str:
    return "nothing" if math.isnan(value) else f"{value:.6g}"
