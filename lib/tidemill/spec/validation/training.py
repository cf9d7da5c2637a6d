"""Rules between weights, monotone columns, target and loss, and the rest of a spec."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.errors import UsageError
from tidemill.families import ENGINES, Requirements, family_fault, find_family, unsupported_reason
from tidemill.spec.loading.document import Key, Node
from tidemill.spec.validation.features import declared_blocks, declared_groups, named_columns
from tidemill.spec.validation.task import declared_task
from tidemill.tasks import QUANTILE_LOSS, Task

Problems = Iterator[tuple[tuple[Key, ...], str]]

_REFIT_LEAVES = (
    "is kept with `loss: squared` alone: for other losses the libraries set the leaves of a tree anew when it has grown, and "
    "predictions may go the other way all the same; leave one of the two out"
)


def training_problems(root: Node) -> Problems:
    """Yield combinations of keys that are not supported."""
    yield from _check_weight(root)
    task = declared_task(root)
    if task is None:
        return
    if (
        root.string_at("training", "metric") == QUANTILE_LOSS
        and task.kind.predicts_number
        and not _is_given(root, "training", "loss", "quantile")
    ):
        yield ("training", "metric"), f"{QUANTILE_LOSS} is measured at a quantile; declare it: `loss: {{quantile: 0.9}}`"
    if "training.monotone" in task.keys:
        yield from _check_monotone(root, task)
        yield from _check_families(root, task)


def _is_given(root: Node, *path: Key) -> bool:
    node = root.at(*path)
    return node is not None and node.value not in (None, {}, [])


def _check_weight(root: Node) -> Problems:
    dataset, weight = root.at("dataset"), root.string_at("dataset", "weight")
    if dataset is None or weight is None:
        return
    path: tuple[Key, ...] = ("dataset", "weight")
    for key in ("key", "exclude"):
        node = dataset.at(key)
        if node is not None and weight in node.strings:
            yield path, f"{weight!r} is also in `{key}`; the weight is never a feature, so leave it out there"
    for key in ("label", "event_time"):
        if weight == root.string_at("dataset", key):
            yield path, f"{weight!r} is also the `{key}`; name a column that says what a row counts for"


def _check_monotone(root: Node, task: Task) -> Problems:
    node = root.at("training", "monotone")
    if node is None or not node.mapping:
        return
    if task.kind.has_many_classes:
        message = f"constrains how one number changes with a column, and `task: {task.name}` predicts several; leave it out"
        yield ("training", "monotone"), message
        return
    if task.kind.predicts_number and (_is_given(root, "training", "loss", "quantile") or root.string_at("training", "loss") == "absolute"):
        yield ("training", "monotone"), _REFIT_LEAVES
    models = root.at("training", "models")
    for name, family in (models.mapping if models else {}).items():
        if "loss" in family.mapping:
            yield ("training", "models", name, "loss"), "is not held to `training.monotone` by the libraries; leave one of the two out"
    is_open = not any(_is_given(root, "features", group) for group, _ in declared_groups(root))
    for column in node.mapping:
        path: tuple[Key, ...] = ("training", "monotone", column)
        for key in ("label", "weight"):
            if column == root.string_at("dataset", key):
                yield path, f"{column!r} is `dataset.{key}`, which is no feature"
        groups = _groups_of_column(root, column)
        if "numeric" not in groups and not is_open:
            where = f"it is in `features.{groups[0]}`" if groups else "no group has it"
            yield path, f"{column!r} must be one number of the features, and {where}; name it in `features.numeric`, or leave it out here"
        elif len(groups) > 1:
            other = next(group for group in groups if group != "numeric")
            yield (
                path,
                f"{column!r} is also in `features.{other}`, which makes other slots of it that are not held; take it out of one of them",
            )


def _groups_of_column(root: Node, column: str) -> list[str]:
    """Return the groups of features that name a column."""
    groups = []
    for name, group in declared_groups(root):
        for path, block in declared_blocks(root, name):
            groups += [name] if any(named == column for _, named in named_columns(path, block, group)) else []
    custom = root.at("features", "custom")
    for part in custom.items if custom else []:
        declared, params = part.at("columns"), part.at("params")
        texts = [text for value in (params.mapping.values() if params else []) for text in (value.strings or [value.string or ""])]
        groups += ["custom"] if column in ((declared.strings if declared else []) or texts) else []
    return list(dict.fromkeys(groups))


def _check_families(root: Node, task: Task) -> Problems:
    """Yield the declared families that lack a requirement; without declared families, a fault if all default ones do."""
    quantile, loss = _is_given(root, "training", "loss", "quantile"), root.string_at("training", "loss")
    try:
        engine = ENGINES.get(root.string_at("training", "engine") or "auto")
    except UsageError:
        return  # a fault of its own
    required = Requirements(
        engine.required_way,
        _is_given(root, "training", "monotone"),
        "squared" if not task.kind.predicts_number else "quantile" if quantile else "absolute" if loss == "absolute" else "squared",
        _is_given(root, "dataset", "weight"),
    )
    models = root.at("training", "models")
    named = models.mapping if models else {}
    for name, family in named.items():
        if "python" in family.mapping:
            reason = _custom_family_reason(name, required)
        else:
            reason = None if family_fault(name, task.kind) else unsupported_reason(name, find_family(name, task.kind), required)
        if reason:
            yield ("training", "models", name), reason
    has_texts = any(True for _ in declared_blocks(root, "text"))
    defaults = task.text_families if has_texts else task.families
    reasons = [unsupported_reason(name, find_family(name, task.kind), required) for name in defaults]
    if not named and all(reasons):
        yield ("training", "models"), f"no default family meets the requirements: {reasons[0]}"


def _custom_family_reason(name: str, required: Requirements) -> str | None:
    """Return the keys that a custom family does not support: it gets only its parameters."""
    keys = {
        "`training.monotone`": required.is_monotone,
        "`training.loss`": required.loss != "squared",
        "`dataset.weight`": required.is_weighted,
    }
    unsupported = [key for key, is_given in keys.items() if is_given]
    return (
        f"{name} is a custom family, which does not support {', '.join(unsupported)}; choose another, or leave that out"
        if unsupported
        else None
    )
