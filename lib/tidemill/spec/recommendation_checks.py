"""Rules of the task recommendation, which reads a user and an item alone."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.spec.blocks import RANKING, RECOMMENDATION, TASKS
from tidemill.spec.node import Key, Node

Found = Iterator[tuple[tuple[Key, ...], str]]

_OWN_KEYS = (("training", "user"), ("training", "item"), ("training", "implicit"), ("training", "at"), ("training", "relevant"),
             ("scoring", "seen"))  # fmt: skip
_OWN_COLUMNS = ("rank", "score", "model_version", "run_id", "scored_at")
# What the stages of the model and `predict` add to the frame, whose two columns keep their names there.
_TAKEN = ("_user", "_item", "_user_id", "_item_id", "prediction", "probability", "score_error")


def recommendation_problems(root: Node) -> Found:
    """Yield what does not go with the task, and with other tasks the keys that are this one's."""
    task = root.string_at("training", "task")
    if task not in TASKS:
        return
    if task != RECOMMENDATION:
        for path in _OWN_KEYS:
            if _is_given(root, *path):
                yield path, f"is for `task: {RECOMMENDATION}` alone, found `task: {task}`; leave it out"
        return
    yield from _ids(root)
    yield from _misplaced(root)
    yield from _feedback(root)


def _ids(root: Node) -> Found:
    label = root.string_at("dataset", "label")
    for key in ("user", "item"):
        path, name = ("training", key), root.string_at("training", key)
        if not _is_given(root, *path):
            yield path, f"missing; `task: {RECOMMENDATION}` needs `{key}: <column of the dataset>`"
        elif name is not None and name == label:
            yield path, f"{name!r} is also the label, which is the rating or the count"
        elif name is not None and name.lower() in _OWN_COLUMNS:
            yield path, f"{name!r} is a column of the recommendations' own; rename it in the dataset's SQL"
        elif name is not None and name.lower() in _TAKEN:
            yield path, f"{name!r} is a name that the model needs for itself; rename the column in the dataset's SQL"
    if root.string_at("training", "user") == root.string_at("training", "item") is not None:
        yield ("training", "item"), f"{root.string_at('training', 'item')!r} is also the `user`"


def _misplaced(root: Node) -> Found:
    """Yield what other tasks have and this one does not."""
    features = root.at("features")
    if features is not None and features.value not in (None, "auto"):
        yield ("features",), f"`task: {RECOMMENDATION}` reads `training.user` and `training.item` alone; leave `features` out"
    if root.entries_at("training", "features"):
        yield ("training", "features"), f"tunes feature groups, and `task: {RECOMMENDATION}` has none; leave it out"
    if root.string_at("training", "balance") not in (None, "none"):
        yield ("training", "balance"), "balances classes, and a recommendation has none; leave it out"
    if root.string_at("training", "engine") == "tasks":
        yield ("training", "engine"), "ALS is fitted by the whole cluster; write `engine: spark`, or leave it out"
    for name, family in root.entries_at("training", "models").items():
        if "python" in family.mapping:
            yield ("training", "models", name), f"a family of one's own reads features, and `task: {RECOMMENDATION}` has none; write `als`"


def _feedback(root: Node) -> Found:
    """Yield what goes with ratings alone, or with counts alone."""
    implicit = root.at("training", "implicit")
    is_implicit = implicit is not None and implicit.value is True
    metric = root.string_at("training", "metric")
    if is_implicit and metric in ("rmse", "mae"):
        yield ("training", "metric"), f"{metric!r} is for ratings, and `implicit: true` says there are none; known: {', '.join(RANKING)}"
    if is_implicit and _is_given(root, "training", "relevant"):
        yield ("training", "relevant"), "is for ratings: with `implicit: true` whatever was done counts; leave it out"
    if metric == "coverage":
        yield ("training", "metric"), "'coverage' is the same for every model of the same rows; choose by another metric"
    for name, family in root.entries_at("training", "models").items():
        if "implicitPrefs" in family.mapping:
            yield ("training", "models", name, "implicitPrefs"), "write `implicit: true` under `training:` instead"
        if "alpha" in family.mapping and not is_implicit:
            yield ("training", "models", name, "alpha"), "weighs what is implicit; write `training.implicit: true`, or leave it out"


def _is_given(root: Node, *path: Key) -> bool:
    node = root.at(*path)
    return node is not None and node.value is not None
