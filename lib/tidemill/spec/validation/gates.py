"""Rules of gates: what they name, and what the rest of the spec must give for it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tidemill.errors import UsageError, did_you_mean
from tidemill.lake.aggregate_sql import parse_aggregate
from tidemill.spec.loading.document import Key, Node
from tidemill.spec.models.evaluation import Evaluation
from tidemill.spec.validation.task import declared_task
from tidemill.tasks import METRICS, QUANTILE_LOSS, Task

if TYPE_CHECKING:
    from tidemill.evaluation.gates import Gate

Problems = Iterator[tuple[tuple[Key, ...], str]]


def gate_problems(root: Node) -> Problems:
    """Yield gates that do not parse, and those that the rest of the spec does not support."""
    task, node = declared_task(root), root.at("evaluation", "gates")
    if node is None or node.value is None:
        yield from _check_default_gates(root, task)
        return
    # By name, not by an import: evaluation is a higher layer than spec.
    parse = importlib.import_module("tidemill.evaluation.gates").parse_gate
    declared = root.entries_at("evaluation", "metrics")
    for index, text in enumerate(node.items):
        if text.string is None:
            continue
        try:
            gate = parse(text.string, task, declared)
        except UsageError as error:
            yield ("evaluation", "gates", index), str(error)
            continue
        for message in _list_gate_faults(root, gate, task):
            yield ("evaluation", "gates", index), message


def _list_gate_faults(root: Node, gate: Gate, task: Task | None) -> Iterator[str]:
    if QUANTILE_LOSS in gate.metrics and root.at("training", "loss", "quantile") is None:
        yield f"{QUANTILE_LOSS} is measured at a quantile; declare it: `training.loss: {{quantile: 0.9}}`"
    slicings, label = _list_slicings(root), root.string_at("dataset", "label")
    by_label = [name for name in gate.metrics if METRICS.get(name).needs_label]
    if task and task.kind.label_judges and label is None and by_label:
        yield f"{by_label[0]} needs `dataset.label`, which marks the anomalies; gate massVolume"
    for columns in gate.slicings:
        is_class = columns == (label,) and task is not None and task.classes is not None
        if slicings is not None and not is_class and frozenset(columns) not in map(frozenset, slicings):
            yield _describe_missing_slices(columns, slicings)
    if gate.with_draws:
        yield from _check_draws(root, gate, task)


def _list_slicings(root: Node) -> list[tuple[str, ...]] | None:
    """Return the columns of each kind of slice that is measured; None where a variable hides some."""
    node, by = root.at("evaluation", "slices"), root.at("evaluation", "fairness", "by")
    slicings: list[tuple[str, ...]] = [(name,) for name in (by.strings if by else [])]
    for item in node.items if node else []:
        columns = [item.string] if item.string is not None else item.strings or list(item.mapping)
        if not columns:
            return None
        slicings.append(tuple(columns))
    return None if node is not None and node.is_open else slicings


def _describe_missing_slices(columns: Sequence[str], slicings: Sequence[Sequence[str]]) -> str:
    name, declared = ", ".join(columns), [", ".join(each) for each in slicings]
    missing = f"[{name}]" if len(columns) > 1 else name
    hint = did_you_mean(name, declared)
    known = f"it has {', '.join(f'[{each}]' if ', ' in each else each for each in declared)}" if declared else "it is empty"
    return f"slices of {missing} are not in `evaluation.slices`{hint}; {known}; add `{missing}` there"


def _check_draws(root: Node, gate: Gate, task: Task | None) -> Iterator[str]:
    """Yield why there is no interval for a gate that uses one."""
    bootstrap = root.at("evaluation", "bootstrap")
    if bootstrap is not None and bootstrap.value == 0:
        default = Evaluation.model_fields["bootstrap"].default
        yield f"lower() and upper() need bootstrap draws, and `bootstrap: 0` makes none; write `bootstrap: {default}`, or compare values"
        return
    for name in dict.fromkeys(reference.metric for reference in gate.with_draws):
        reason = _explain_missing_interval(root, name, task)
        if reason is not None:
            yield f"{name} has no interval{reason}; leave lower() and upper() out, and compare the values"


def _explain_missing_interval(root: Node, name: str, task: Task | None) -> str | None:
    """Return why a metric never has an interval, None if it has one; the reason is empty for metrics that are no formula of counts."""
    declared = root.at("evaluation", "metrics", name)
    if declared is None:
        has_no_draws = task is not None and (task.kind.recommends or not task.kind.learns_label)
        return "" if has_no_draws or METRICS.get(name).value is None else None
    if declared.string is None:
        return None
    try:
        return None if parse_aggregate(declared.string).is_additive else ", as it is more than a formula of sum(), avg() and count()"
    except UsageError:
        return None  # a fault of its own


def _check_default_gates(root: Node, task: Task | None) -> Problems:
    """Yield a selection metric whose best value a constant reaches: the default gates would refuse every model."""
    metric = root.string_at("training", "metric")
    if task is None or metric is None or metric not in METRICS or not METRICS.get(metric).is_best_by_constant:
        return
    alternatives = [name for name in task.metrics if not METRICS.get(name).is_best_by_constant]
    yield (
        ("training", "metric"),
        f"a constant prediction reaches the best {metric}, so that the default gate against a constant would refuse every model; declare "
        f"`evaluation.gates`, such as `{alternatives[0]} > baseline.{alternatives[0]}`",
    )
