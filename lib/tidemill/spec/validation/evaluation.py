"""Rules of the block `evaluation`, apart from gates: custom metrics, slices, fairness."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.errors import UsageError
from tidemill.lake.aggregate_sql import parse_aggregate
from tidemill.spec.loading.document import Key, Node
from tidemill.spec.validation.task import declared_task
from tidemill.tasks import METRICS, Task

Problems = Iterator[tuple[tuple[Key, ...], str]]

_OF_LABELS = ("slices", "metrics", "fairness")


def evaluation_problems(root: Node) -> Problems:
    """Yield custom metrics that cannot be computed, slices of the label, and keys that the task has no use for."""
    block, task = root.at("evaluation"), declared_task(root)
    if block is None or task is None:
        return
    if not task.kind.learns_label or task.kind.recommends:
        for key in _OF_LABELS:
            node = block.at(key)
            if node is not None and node.value:
                yield ("evaluation", key), f"compares predictions of features with labels, which `task: {task.name}` has not; leave it out"
        return
    yield from _check_metrics(root, task)
    label = root.string_at("dataset", "label")
    slices = block.at("slices")
    for place, node in enumerate(slices.items if slices else ()):
        if label is not None and label in (node.string, *node.strings, *node.mapping):
            message = f"{label} is the label: precision and recall of each class are measured without it; leave it out"
            yield ("evaluation", "slices", place), message
    fairness = block.at("fairness")
    if fairness is not None and fairness.value and not task.kind.has_two_classes:
        yield ("evaluation", "fairness"), f"compares the rates of two classes, found `task: {task.name}`; leave it out"


def _check_metrics(root: Node, task: Task) -> Problems:
    for name, node in root.entries_at("evaluation", "metrics").items():
        path = ("evaluation", "metrics", name)
        if name in METRICS.names:
            yield path, f"{name} is a metric of tidemill; choose another name"
        elif node.string is not None:
            try:
                parse_aggregate(node.string)
            except UsageError as error:
                yield path, str(error)
        elif python := node.string_at("python"):
            try:
                metric = METRICS.get(python)
            except UsageError as error:
                yield (*path, "python"), str(error)
                continue
            if task.kind not in metric.tasks:
                yield (*path, "python"), f"{python} measures {', '.join(sorted(metric.tasks))}, found `task: {task.name}`"
