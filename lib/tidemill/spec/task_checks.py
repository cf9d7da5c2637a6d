"""Rules between the task and the rest of a spec: what needs a label, and what is for one task alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidemill.errors import did_you_mean
from tidemill.spec.feature_checks import declared_blocks
from tidemill.spec.node import Key, Node
from tidemill.spec.tasks import TASK_KINDS, WITHOUT_LABEL, default_metric

Found = Iterator[tuple[tuple[Key, ...], str]]


def task_problems(root: Node) -> Found:
    """Yield what does not go with the task: a label that is missing, and what needs one."""
    task = root.string_at("training", "task")
    if task is None:
        yield from _label(root, task)
    if task not in TASK_KINDS:
        return
    has_label = _is_given(root, "dataset", "label")
    if TASK_KINDS[task].learns_label:
        yield from _label(root, task)
    else:
        yield from _learned(root, task)
    if task == "anomaly" and not has_label:
        yield from _judged(root)
    if not has_label and not TASK_KINDS[task].learns_label:
        yield from _without_label(root, task)
    if task != "anomaly" and _is_given(root, "training", "contamination"):
        yield ("training", "contamination"), f"is for `task: anomaly` alone, found `task: {task}`; leave it out"


def _is_given(root: Node, *path: Key) -> bool:
    node = root.at(*path)
    return node is not None and node.value is not None


def _label(root: Node, task: str | None) -> Found:
    dataset = root.at("dataset")
    if dataset is None or "label" in dataset.mapping:
        return
    if any(did_you_mean(name, ["label"]) for name in dataset.mapping):
        return  # a fault of its own says what was meant
    free = " and ".join(f"`{name}`" for name, kind in TASK_KINDS.items() if not kind.learns_label)
    named = f" for `task: {task}`" if task else ""
    yield (
        ("dataset", "label"),
        f"missing; `label:` is required in this block{named}; only {free} do without",
    )


def _learned(root: Node, task: str) -> Found:
    """Yield what would learn from a label where the task does not."""
    for path, block in declared_blocks(root, "categorical"):
        if block.string_at("encode") == "target":
            yield (*path, "encode"), f"`target` learns from the label, and `task: {task}` learns from none; write `hashing` or `count`"
    method = root.string_at("features", "select", "method")
    if _is_given(root, "features", "select") and method != "variance":
        yield ("features", "select", "method"), f"learns from the label, and `task: {task}` learns from none; write `variance`"
    if root.string_at("training", "balance") not in (None, "none"):
        yield ("training", "balance"), f"balances the classes of a label, and `task: {task}` learns from none; leave it out"
    tuned = root.at("training", "features")
    if tuned is not None and tuned.mapping and _metric(root, task) in WITHOUT_LABEL:
        message = f"cannot be tuned by {_metric(root, task)}, which compares models of the same features alone; set it in `features`"
        yield ("training", "features"), message
    for place, values in (tuned.mapping if tuned else {}).items():
        if "target" in (values.string, *values.strings):
            yield ("training", "features", place), f"`target` learns from the label, and `task: {task}` learns from none; leave it out"
    models = root.at("training", "models")
    for name, family in (models.mapping if models and task == "anomaly" else {}).items():
        if "python" in family.mapping:
            yield ("training", "models", name), "a family of your own is for the other tasks; choose isolation_forest or gaussian_mixture"


def _metric(root: Node, task: str) -> str:
    return root.string_at("training", "metric") or default_metric(task, has_label=_is_given(root, "dataset", "label"))


def _judged(root: Node) -> Found:
    """Yield the metrics that only a label can give."""
    metric = root.string_at("training", "metric")
    if metric in ("areaUnderPR", "areaUnderROC"):
        yield ("training", "metric"), f"{metric} needs `dataset.label`, which says what is an anomaly; write `massVolume`, or leave it out"
    gates = root.at("evaluation", "gates")
    for index, gate in enumerate(gates.items if gates else []):
        named = re.search(r"\b(areaUnderPR|areaUnderROC)\b", gate.string or "")
        if named:
            yield ("evaluation", "gates", index), f"{named[1]} needs `dataset.label`, which says what is an anomaly; gate massVolume"


def _without_label(root: Node, task: str) -> Found:
    stratified = root.at("dataset", "split", "stratified")
    if stratified is not None and stratified.value is True:
        message = "deals out the classes of a label, and the dataset has none; leave it out, or give `dataset.label`"
        yield ("dataset", "split", "stratified"), message
    if _is_given(root, "dataset", "positive"):
        yield ("dataset", "positive"), f"is a value of the label, and the dataset has none, which `task: {task}` does without; leave it out"
