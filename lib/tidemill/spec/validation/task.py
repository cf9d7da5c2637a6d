"""Rules of the task: keys of other tasks, a missing label, and recommendations."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.errors import UsageError, did_you_mean
from tidemill.families import ENGINES, ON_CLUSTER
from tidemill.spec.loading.document import Key, Node
from tidemill.spec.validation.features import declared_blocks
from tidemill.tasks import METRICS, RANKING, TASKS, Task

Problems = Iterator[tuple[tuple[Key, ...], str]]


_UNSET: tuple[object, ...] = (None, {}, [], "none", "identity", "squared")


def declared_task(root: Node) -> Task | None:
    """Return the task of a spec, None where it names none that is known; that is a fault of the block `training`."""
    name = root.string_at("training", "task")
    try:
        return None if name is None else TASKS.get(name)
    except UsageError:
        return None


def task_problems(root: Node) -> Problems:
    """Yield keys of other tasks, a missing label, and keys that need one."""
    task = declared_task(root)
    if root.string_at("training", "task") is None:
        yield from _check_missing_label(root, None)
    if task is None:
        return
    yield from _check_task_keys(root, task)
    has_label = _is_given(root, "dataset", "label")
    if task.kind.learns_label:
        yield from _check_missing_label(root, task.name)
    else:
        yield from _check_label_learning(root, task)
    if task.kind.label_judges and not has_label:
        yield from _check_label_metrics(root, task)
    if not has_label and not task.kind.learns_label:
        yield from _check_label_keys(root, task.name)


def _check_task_keys(root: Node, task: Task) -> Problems:
    """Yield the keys that only other tasks may set."""
    owners: dict[str, list[str]] = {}
    for name, other in TASKS.all_built_in().items():
        for key in other.keys:
            owners.setdefault(key, []).append(name)
    for key in sorted(owners.keys() - task.keys):
        path = tuple(key.split("."))
        node = root.at(*path)
        if node is not None and node.value not in _UNSET:
            *others, last = [f"`{name}`" for name in owners[key]]
            names = f"{', '.join(others)} and {last}" if others else last
            yield path, f"is for {names.replace('`', '`task: ', 1)} alone, found `task: {task.name}`; leave it out"


def _is_given(root: Node, *path: Key) -> bool:
    node = root.at(*path)
    return node is not None and node.value is not None


def _check_missing_label(root: Node, task: str | None) -> Problems:
    dataset = root.at("dataset")
    if dataset is None or "label" in dataset.mapping:
        return
    if any(did_you_mean(name, ["label"]) for name in dataset.mapping):
        return  # reported as a misspelled key
    free = " and ".join(f"`{name}`" for name, known in TASKS.all_built_in().items() if not known.kind.learns_label)
    named = f" for `task: {task}`" if task else ""
    yield (
        ("dataset", "label"),
        f"missing; `label:` is required in this block{named}; only {free} do without",
    )


def _check_label_learning(root: Node, task: Task) -> Problems:
    """Yield keys that learn from a label, for tasks that do not."""
    learns_none = f"and `task: {task.name}` learns from none"
    for path, block in declared_blocks(root, "categorical"):
        if block.string_at("encode") == "target":
            yield (*path, "encode"), f"`target` learns from the label, {learns_none}; write `hashing` or `count`"
    method = root.string_at("features", "select", "method")
    if _is_given(root, "features", "select") and method != "variance":
        yield ("features", "select", "method"), f"learns from the label, {learns_none}; write `variance`"
    tuned = root.at("training", "features")
    metric = root.string_at("training", "metric") or task.default_metric(has_label=_is_given(root, "dataset", "label"))
    if tuned is not None and tuned.mapping and metric in METRICS and not METRICS.get(metric).needs_label:
        message = f"cannot be tuned by {metric}, which compares models of the same features alone; set it in `features`"
        yield ("training", "features"), message
    for place, values in (tuned.mapping if tuned else {}).items():
        if "target" in (values.string, *values.strings):
            yield ("training", "features", place), f"`target` learns from the label, {learns_none}; leave it out"
    models = root.at("training", "models")
    for name, family in (models.mapping if models and task.kind.finds_anomalies else {}).items():
        if "python" in family.mapping:
            yield ("training", "models", name), "a custom family is for the other tasks; choose isolation_forest or gaussian_mixture"


def _check_label_metrics(root: Node, declared: Task) -> Problems:
    """Yield the metrics that only a label can give."""
    metric = root.string_at("training", "metric") or declared.default_metric(has_label=False)
    if _needs_label(metric, declared):
        yield ("training", "metric"), f"{metric} needs `dataset.label`, which marks the anomalies; write `massVolume`, or leave it out"


def _needs_label(metric: str, declared: Task) -> bool:
    """Return True for a metric of the task that needs a label; an unknown metric is another fault."""
    try:
        return (metric in declared.metric_names() or "." in metric) and METRICS.get(metric).needs_label
    except UsageError:
        return False


def _check_label_keys(root: Node, task: str) -> Problems:
    stratified = root.at("dataset", "split", "stratified")
    if stratified is not None and stratified.value is True:
        message = "deals out the classes of a label, and the dataset has none; leave it out, or give `dataset.label`"
        yield ("dataset", "split", "stratified"), message
    if _is_given(root, "dataset", "positive"):
        yield ("dataset", "positive"), f"is a value of the label, and the dataset has none, which `task: {task}` does without; leave it out"


_TABLE_COLUMNS = ("rank", "score", "model_version", "run_id", "scored_at")
# Columns that the model's stages and `predict` add; user and item keep their own names.
_MODEL_COLUMNS = ("_user", "_item", "_user_id", "_item_id", "prediction", "probability", "score_error")


def recommendation_problems(root: Node) -> Problems:
    """Yield faults of the task recommendation."""
    task = declared_task(root)
    if task is None or not task.kind.recommends:
        return
    yield from _check_ids(root)
    yield from _check_unused_keys(root)
    yield from _check_feedback(root)


def _check_ids(root: Node) -> Problems:
    label = root.string_at("dataset", "label")
    for key in ("user", "item"):
        path, name = ("training", key), root.string_at("training", key)
        if not _is_given(root, *path):
            yield path, f"missing; `task: recommendation` needs `{key}: <column of the dataset>`"
        elif name is not None and name == label:
            yield path, f"{name!r} is also the label, which is the rating or the count"
        elif name is not None and name.lower() in _TABLE_COLUMNS:
            yield path, f"{name!r} is a column of the recommendations' own; rename it in the dataset's SQL"
        elif name is not None and name.lower() in _MODEL_COLUMNS:
            yield path, f"{name!r} is a name that the model needs for itself; rename the column in the dataset's SQL"
    if root.string_at("training", "user") == root.string_at("training", "item") is not None:
        yield ("training", "item"), f"{root.string_at('training', 'item')!r} is also the `user`"


def _check_unused_keys(root: Node) -> Problems:
    """Yield keys that recommendations do not use."""
    features = root.at("features")
    if features is not None and features.value not in (None, "auto"):
        yield ("features",), "`task: recommendation` reads `training.user` and `training.item` alone; leave `features` out"
    if root.entries_at("training", "features"):
        yield ("training", "features"), "tunes feature groups, and `task: recommendation` has none; leave it out"
    engine = root.string_at("training", "engine")
    if engine is not None and engine in ENGINES and ON_CLUSTER not in ENGINES.get(engine).ways:
        yield ("training", "engine"), "ALS is fitted by the whole cluster; write `engine: spark`, or leave it out"
    for name, family in root.entries_at("training", "models").items():
        if "python" in family.mapping:
            yield ("training", "models", name), "a custom family reads features, and `task: recommendation` has none; write `als`"


def _check_feedback(root: Node) -> Problems:
    """Yield keys for ratings only, or for implicit counts only."""
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
            yield ("training", "models", name, "alpha"), "weights implicit feedback; write `training.implicit: true`, or leave it out"
