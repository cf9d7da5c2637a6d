"""The grammar of gates: a text becomes a `Gate`. It is read with ``ast`` and never evaluated as Python."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import dataclass

from tidemill.errors import UsageError, did_you_mean
from tidemill.evaluation.gates.expressions import (
    Arithmetic,
    Expression,
    FunctionCall,
    MetricReference,
    Negation,
    Number,
    is_per_slice,
    needs_draws,
    references,
)
from tidemill.evaluation.gates.functions import GATE_FUNCTIONS, GateFunction
from tidemill.evaluation.gates.gate import Gate
from tidemill.tasks import METRICS, Task

COSTS = ("score_ms_per_1k_rows", "model_mb")
"""What a model costs: milliseconds to score 1,000 rows, and the size of its files in MB (10^6 bytes)."""

_SIGNS: dict[type[ast.cmpop] | type[ast.operator], str] = {
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Eq: "==",
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_MODELS = ("champion", "baseline")
_OF_CLASSES = ("precision", "recall", "f1")
"""Metrics of the slices of the label, which are its classes, in any task with classes."""
_FORM = "write a comparison such as `areaUnderPR >= champion.areaUnderPR - 0.005`"
_SLICE_FORM = "slices.<column>.<metric>"


def parse_gate(text: str, task: Task | None = None, declared: Collection[str] = ()) -> Gate:
    """Parse one gate; with ``task``, its metrics must be metrics of that task, or ``declared`` ones: those of ``evaluation.metrics``.

    Raises:
        UsageError: the text is not a gate, or names something unknown.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"gate {text!r} does not parse; {_FORM}") from error
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in _SIGNS:
        raise UsageError(f"gate {text!r} is not one comparison with >, >=, <, <= or ==; {_FORM}")
    parser = _Parser(text, task, tuple(declared))
    left, right = parser.parse_side(tree.left), parser.parse_side(tree.comparators[0])
    gate = Gate(text.strip(), left, _SIGNS[type(tree.ops[0])], right)
    if not gate.references:
        raise UsageError(f"gate {text!r} names no metric; {_FORM}")
    return gate


@dataclass(frozen=True)
class _Parser:
    """Parses the sides of one gate."""

    text: str
    task: Task | None
    declared: tuple[str, ...]

    def parse_side(self, node: ast.expr) -> Expression:
        """Return a side of the comparison, which must be one number."""
        try:
            side = self._parse(node)
        except RecursionError as error:
            raise self._fault("has too many brackets or signs") from error
        if is_per_slice(side):
            name = ast.unparse(node)
            raise self._fault(f"`{name}` is one number a slice; write min({name}) or max({name})")
        return side

    def _fault(self, message: str) -> UsageError:
        return UsageError(f"gate {self.text!r}: {message}")

    def _parse(self, node: ast.expr) -> Expression:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return Number(float(str(node.value)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            operand = self._parse(node.operand)
            return Negation(operand) if isinstance(node.op, ast.USub) else operand
        if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
            return self._combine(Arithmetic(self._parse(node.left), _SIGNS[type(node.op)], self._parse(node.right)))
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            return self._parse_reference(node)
        if isinstance(node, ast.Call):
            return self._parse_call(node)
        raise self._fault(f"`{ast.unparse(node)}` is not allowed; expected metrics, numbers, + - * / and brackets")

    def _combine(self, arithmetic: Arithmetic) -> Arithmetic:
        """Return the arithmetic; slices on both sides must be slices of the same columns."""
        slicings = [
            next(reference for reference in references(side) if reference.columns)
            for side in (arithmetic.left, arithmetic.right)
            if is_per_slice(side)
        ]
        if len({reference.slicing for reference in slicings}) > 1:
            raise self._fault(f"{slicings[0]} and {slicings[1]} are of different slices; take min() or max() of each")
        return arithmetic

    def _parse_call(self, node: ast.Call) -> FunctionCall:
        name = ast.unparse(node.func)
        function = self._find_function(name, node.func)
        if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
            raise self._fault(f"{name}() takes one argument, found `{ast.unparse(node)}`")
        argument = self._parse(node.args[0])
        if function.over_slices and not is_per_slice(argument):
            raise self._fault(f"`{ast.unparse(node)}` is not {name}({_SLICE_FORM})")
        if function.needs_draws:
            self._check_interval(name, argument)
        return FunctionCall(function, argument)

    def _find_function(self, name: str, node: ast.expr) -> GateFunction:
        is_name = all(isinstance(part, ast.Name | ast.Attribute | ast.expr_context) for part in ast.walk(node))
        if is_name and (name in GATE_FUNCTIONS or "." in name):
            try:
                return GATE_FUNCTIONS.get(name)
            except UsageError as error:
                raise self._fault(str(error)) from error
        known = GATE_FUNCTIONS.names
        raise self._fault(f"unknown function `{name}`{did_you_mean(name, known)}; known: {', '.join(known)}")

    def _check_interval(self, name: str, argument: Expression) -> None:
        """Refuse an interval of what has none."""
        named = references(argument)
        costs = [reference.metric for reference in named if reference.is_cost]
        if costs:
            raise self._fault(f"{costs[0]} is measured once and has no interval; leave {name}() out")
        if not named:
            raise self._fault(f"{name}() of a number is that number; name a metric in it")
        if needs_draws(argument):
            raise self._fault(f"{name}() of an end of an interval has no interval; write one of the two")

    def _parse_reference(self, node: ast.expr) -> MetricReference:
        """Parse ``m``, ``champion.m``, ``slices.column.m``, ``slices[a, b].m`` or ``champion.slices.column.m``."""
        parts = self._split(node)
        owner = str(parts.pop(0)) if len(parts) > 1 and parts[0] in _MODELS else "candidate"
        columns: tuple[str, ...] = ()
        if parts[0] == "slices":
            if len(parts) < 3:
                raise self._fault(f"`{ast.unparse(node)}` is not {_SLICE_FORM}")
            columns = parts[1] if isinstance(parts[1], tuple) else (parts[1],)
            parts = parts[2:]
        if not all(isinstance(part, str) for part in parts):
            raise self._fault(f"`{ast.unparse(node)}` is not allowed; brackets belong to `slices`, as in slices[carrier, origin].<metric>")
        return self._find_metric(owner, ".".join(map(str, parts)), columns)

    def _split(self, node: ast.expr) -> list[str | tuple[str, ...]]:
        """Return the parts between the dots; the columns in ``[…]`` are a tuple."""
        if isinstance(node, ast.Name):
            return [node.id]
        if isinstance(node, ast.Attribute):
            return [*self._split(node.value), node.attr]
        if isinstance(node, ast.Subscript):
            columns = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return [*self._split(node.value), tuple(self._column(column) for column in columns)]
        raise self._fault(f"`{ast.unparse(node)}` is not allowed; expected metrics, numbers, + - * / and brackets")

    def _column(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        raise self._fault(f"`{ast.unparse(node)}` is not a column; write its name, in quotes if it holds other characters than letters")

    def _find_metric(self, owner: str, name: str, columns: tuple[str, ...]) -> MetricReference:
        if name in self.declared:
            return MetricReference(owner, name, columns, is_declared=True)
        if name in COSTS:
            if owner == "baseline" or columns:
                raise self._fault(f"{name} is of the candidate or the champion, over all rows; write {name} or champion.{name}")
            return MetricReference(owner, name, is_cost=True)
        if "." in name:
            self._refuse_unknown_path(name)
            return MetricReference(owner, name, columns)
        known = (*(self.task.metric_names() if self.task else METRICS.names), *(_OF_CLASSES if columns else ()))
        if name not in known:
            of = f" of a {self.task.name} task" if self.task else ""
            names = [*known, *self.declared]
            hint = did_you_mean(name, [*names, *COSTS])
            raise self._fault(f"unknown metric {name!r}{of}{hint}; known: {', '.join(names)}, and the costs {', '.join(COSTS)}")
        return MetricReference(owner, name, columns)

    def _refuse_unknown_path(self, metric: str) -> None:
        """Refuse a dotted path that leads to no metric, or to one that does not measure the task."""
        first = metric.partition(".")[0]
        try:
            measured = METRICS.get(metric).tasks
        except UsageError as error:
            hint = did_you_mean(first, (*_MODELS, "slices"))
            reason = f"unknown `{first}`{hint}; expected champion, baseline or slices" if hint else str(error)
            raise self._fault(reason) from error
        if self.task and self.task.kind not in measured:
            raise self._fault(f"{metric!r} measures {', '.join(sorted(measured))}, found `task: {self.task.name}`")
