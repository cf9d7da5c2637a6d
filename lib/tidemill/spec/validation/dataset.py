"""Rules between the keys of the dataset's block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from tidemill.spec.loading.document import Key, Node
from tidemill.spec.models import column_name, parse_measure
from tidemill.spec.validation.task import declared_task

Problems = Iterator[tuple[tuple[Key, ...], str]]


def dataset_problems(root: Node) -> Problems:
    """Yield the faults of the dataset's block."""
    yield from _check_columns(root)
    yield from _check_split(root)
    yield from _check_point_in_time(root)


def aggregate_nodes(root: Node) -> list[tuple[tuple[Key, ...], Node]]:
    """Return the blocks of ``dataset.aggregates`` with their paths: the one that it is, or those it names."""
    node = root.at("dataset", "aggregates")
    if node is None or not node.mapping:
        return []
    path: tuple[Key, ...] = ("dataset", "aggregates")
    if any(not isinstance(child.value, dict) for child in node.mapping.values()):
        return [(path, node)]
    return [((*path, name), child) for name, child in node.mapping.items()]


def _strings_at(root: Node, *path: Key) -> list[str]:
    node = root.at(*path)
    return node.strings if node else []


def _is_given(root: Node, *path: Key) -> bool:
    node = root.at(*path)
    return node is not None and node.value is not None


def _check_columns(root: Node) -> Problems:
    label = root.string_at("dataset", "label")
    keys, exclude = _strings_at(root, "dataset", "key"), _strings_at(root, "dataset", "exclude")
    if label in keys:
        yield ("dataset", "label"), f"{label!r} is also in `key`; a key identifies rows, and a label is predicted"
    if label in exclude:
        yield ("dataset", "exclude"), f"holds the label {label!r}; the label is never a feature, so leave it out here"
    if label is not None and label == root.string_at("dataset", "event_time"):
        yield ("dataset", "label"), f"{label!r} is also the `event_time`"
    for path in (("dataset", "key"), ("dataset", "exclude"), ("scoring", "keep")):
        names = _strings_at(root, *path)
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield path, f"{name!r} is listed twice"


def _check_split(root: Node) -> Problems:
    path: tuple[Key, ...] = ("dataset", "split")
    test = root.at(*path, "test")
    if test is not None and isinstance(test.value, int | float) and test.value in (0, 1):
        yield (*path, "test"), f"expected a share between 0 and 1, found {test.value}; 0.2 keeps a fifth of the rows for the test"
    if test is not None and test.string is not None and root.string_at(*path, "by") == "time":
        try:
            datetime.fromisoformat(test.string)
        except ValueError:
            if not re.fullmatch(r"[-+]?\d+(\.\d+)?", test.string):
                yield (*path, "test"), f'expected a share such as 0.2 or an instant such as "2013-11-01", found {test.string!r}'
    folds_by = root.string_at(*path, "folds_by")
    if folds_by in ("time", "expanding") and not _is_given(root, "dataset", "event_time"):
        yield (*path, "folds_by"), f"`{folds_by}` needs `event_time: <column>` in the dataset"
    if folds_by == "group" and not _is_given(root, *path, "group"):
        yield (*path, "folds_by"), "`group` needs `group: <column>` in the split"
    yield from _check_gap_and_stratified(root, path)


def _check_gap_and_stratified(root: Node, path: tuple[Key, ...]) -> Problems:
    """Yield the faults of `gap` and `stratified`."""
    default = "time" if _is_given(root, "dataset", "event_time") else "hash"
    by = root.string_at(*path, "by") or "hash"
    by = default if root.at("dataset", "split") is None else by
    folds = root.string_at(*path, "folds_by") or {"time": "time", "group": "group"}.get(by, "hash")
    if _is_given(root, *path, "gap"):
        gap = root.at(*path, "gap")
        if by != "time" and folds not in ("time", "expanding"):
            yield (*path, "gap"), f"is a distance in time, and this split is `by: {by}`; leave it out, or split `by: time`"
        elif gap is not None and gap.string is not None and re.fullmatch(r"0+\s*[smhd]", gap.string):
            yield (*path, "gap"), "expected more than 0; leave it out for no gap"
    stratified = root.at(*path, "stratified")
    if stratified is None or stratified.value is not True:
        return
    if "group" in (by, folds):
        yield (*path, "stratified"), "a group stays together, so its classes cannot be stratified; leave out `stratified`, or split by hash"
    elif "hash" not in (by, folds):
        yield (*path, "stratified"), "a split by time cannot be stratified; leave it out, or give `folds_by: hash`"
    elif (task := declared_task(root)) is not None and task.kind.has_numeric_label:
        yield (*path, "stratified"), f"a {task.name} has no classes; leave it out"


def _check_point_in_time(root: Node) -> Problems:
    lookups = root.at("dataset", "lookups")
    for key, is_used in (("lookups", lookups is not None and bool(lookups.mapping)), ("aggregates", bool(aggregate_nodes(root)))):
        if is_used and not _is_given(root, "dataset", "event_time"):
            yield ("dataset", key), "needs `event_time: <column>` in the dataset: what was known is asked as of then"
    for path, block in aggregate_nodes(root):
        features = block.at("features")
        for name, node in (features.mapping if features else {}).items():
            if node.string is not None:
                try:
                    parse_measure(node.string)
                except ValueError as error:
                    yield (*path, "features", name), str(error)
        yield from _check_windows(path, block)


def _check_windows(path: tuple[Key, ...], block: Node) -> Problems:
    node, names = block.at("windows"), set[str]()
    for index, window in enumerate(node.items if node else []):
        if window.is_open or not isinstance(window.value, str | int | float):
            continue
        if isinstance(window.value, str) and re.fullmatch(r"0+\s*[smhd]", window.value):
            yield (*path, "windows", index), "a window of no length holds nothing; write 1d, say"
        name = column_name("", window.value)
        if name in names:
            yield (*path, "windows", index), f"{window.value} is listed twice"
        names.add(name)
