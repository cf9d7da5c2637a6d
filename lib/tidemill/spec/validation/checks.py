"""Rules between keys of a spec, across models; they read nodes, so that an invalid block does not hide faults of others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tidemill.errors import Fault, UsageError, did_you_mean
from tidemill.families import family_fault
from tidemill.quoting import is_local
from tidemill.spec.loading.document import Key, Node, dotted_key
from tidemill.spec.models import SOURCE_KINDS
from tidemill.spec.models.source_kinds import DeclaredSource, Faults
from tidemill.spec.validation.dataset import dataset_problems
from tidemill.spec.validation.evaluation import evaluation_problems
from tidemill.spec.validation.features import feature_problems
from tidemill.spec.validation.gates import gate_problems
from tidemill.spec.validation.task import declared_task, recommendation_problems, task_problems
from tidemill.spec.validation.training import training_problems
from tidemill.tasks import METRICS, Task

_WITH_SECRETS = ("url", "user", "password", "path", "options")
_SECRET_REFERENCE = re.compile(r"\$\{secret:[^}/]+/[^}]+\}")

Problems = Iterator[tuple[tuple[Key, ...], str]]


def check_faults(root: Node, folder: Path) -> list[Fault]:
    """Return the faults of the rules between keys."""
    rules: tuple[Callable[[Node], Problems], ...] = (
        lambda node: _check_sources(node, folder), _check_secrets, _check_whole_numbers, _check_names, dataset_problems, feature_problems,
        task_problems, _check_training, training_problems, _check_spaces, recommendation_problems, gate_problems,
        evaluation_problems,
    )  # fmt: skip
    faults = []
    for rule in rules:
        for path, message in rule(root):
            faults.append(Fault(*root.nearest(dotted_key(path)).fault_place(), dotted_key(path), message))
    return faults


def _suggest(word: str, known: Sequence[str]) -> str:
    return f"{did_you_mean(word, known)}; known: {', '.join(known)}"


def _check_sources(root: Node, folder: Path) -> Problems:
    for name, source in root.entries_at("sources").items():
        for below, message in _declaration_faults(DeclaredSource.of_node(source), folder):
            yield ("sources", name, *below), message
        path = source.at("path")
        if path is not None and path.value is not None and not all(part.strip() for part in path.strings or [path.string or ""]):
            yield ("sources", name, "path"), "empty; give the path of the files"
        schema = source.string_at("schema")
        if schema and schema.endswith((".ddl", ".json")) and not (folder / schema).is_file():
            near = did_you_mean(schema, [file.name for file in folder.iterdir() if file.suffix in (".ddl", ".json")])
            yield ("sources", name, "schema"), f"no file {folder / schema}{near}; schema files are looked up beside the spec"


def _declaration_faults(source: DeclaredSource, folder: Path) -> Faults:
    """Yield the faults that the kind of the source finds in its declaration."""
    if not source.format:
        return
    if source.format not in SOURCE_KINDS and "." not in source.format:
        yield ("format",), f"unknown format {source.format!r}{_suggest(source.format, SOURCE_KINDS.names)}"
        return
    try:
        kind = SOURCE_KINDS.get(source.format, folder)
    except UsageError as error:
        yield ("format",), str(error)
        return
    yield from kind.faults(source)


def _check_secrets(root: Node) -> Problems:
    """Yield malformed references to secrets, and those at keys that are not resolved."""
    for path, node in root.walk():
        if not isinstance(node.value, str) or "${secret:" not in node.value or path[0] in ("vars", "description"):
            continue
        if "${secret:" in _SECRET_REFERENCE.sub("", node.value):
            yield path, "a secret is written ${secret:scope/key}, with the slash and the closing brace"
        elif path[0] != "registry" and not (path[0] == "sources" and len(path) > 2 and path[2] in _WITH_SECRETS):
            keys = ", ".join(f"`{key}`" for key in _WITH_SECRETS)
            yield (
                path,
                f"no secret is looked up here, so that none is written into the lake; only {keys} of a source and `registry` may hold one",
            )


def _check_whole_numbers(root: Node) -> Problems:
    """Yield the whole numbers that do not fit 64 bits."""
    for path, node in root.walk():
        if isinstance(node.value, int) and not -(2**63) <= node.value < 2**63:
            yield path, f"expected a whole number of at most 64 bits, found one of {len(str(abs(node.value)))} digits"


def _check_names(root: Node) -> Problems:
    for block in ("sources", "tables"):
        declared = root.entries_at(block)
        lower: dict[str, str] = {}
        for name in declared:
            base = name.removesuffix("_quarantine")
            if base != name and base in declared:
                yield (block, name), f"this is the name of the quarantine of {base!r}; choose another"
            if lower.setdefault(name.lower(), name) != name:
                yield (block, name), f"differs from {lower[name.lower()]!r} only in upper and lower case, which SQL does not tell apart"


def _check_training(root: Node) -> Problems:
    task = declared_task(root)
    if task is None:
        return
    metric = root.string_at("training", "metric")
    if metric is not None and (message := _metric_fault(metric, task)):
        yield ("training", "metric"), message
    yield from _check_ensemble(root)
    rules = root.entries_at("training", "threshold")
    if root.at("training", "threshold") is not None and len(rules) != 1:
        yield ("training", "threshold"), "takes one of maximise, at_precision, at_recall"
    for name, family in root.entries_at("training", "models").items():
        fault = None if "python" in family.mapping else family_fault(name, task.kind)
        if fault:
            yield ("training", "models", name), fault


def _metric_fault(name: str, task: Task) -> str | None:
    """Return why the metric does not fit the task; None if it does."""
    known = task.metric_names()
    if "." not in name:
        return None if name in known else f"{name!r} does not fit `task: {task.name}`{_suggest(name, known)}"
    try:
        metric = METRICS.get(name)
    except UsageError as error:
        return str(error)
    return None if task.kind in metric.tasks else f"{name!r} measures {', '.join(sorted(metric.tasks))}, found `task: {task.name}`"


def _check_ensemble(root: Node) -> Problems:
    kind = root.string_at("training", "ensemble")
    if kind not in ("blend", "stack"):
        return
    families = list(root.entries_at("training", "models"))
    if root.entries_at("training", "features"):
        yield ("training", "ensemble"), "needs members with the same features, and `training.features` tunes them; leave out one of the two"
    if len(families) == 1:
        yield ("training", "ensemble"), f"a {kind} needs two families, found {families[0]} alone; name another in `models`, or leave it out"
    if root.at("dataset", "weight") is not None:
        yield ("training", "ensemble"), "combines rows that count alike, and `dataset.weight` weighs them; leave out one of the two"
    if root.at("training", "loss") is not None and root.string_at("training", "loss") != "squared":
        yield ("training", "ensemble"), "combines by squared errors, and `training.loss` asks for others; leave out one of the two"
    if kind == "stack" and root.entries_at("training", "monotone"):
        yield ("training", "ensemble"), "a stack may weigh a member below nothing, against `training.monotone`; write `blend`"
    if not is_local(root.string_at("lake") or ""):
        yield ("training", "ensemble"), "needs a lake on a file system that all executors see; leave it out"


def _check_spaces(root: Node) -> Problems:
    for family, block in root.entries_at("training", "models").items():
        is_custom = "python" in block.mapping
        space = block.entries_at("space") if is_custom else block.mapping
        for name, values in space.items():
            path = ("training", "models", family, *(("space",) if is_custom else ()), name)
            for kind in ("log", "int", "float"):
                bounds = values.at(kind)
                if bounds is not None:
                    yield from _check_range((*path, kind), kind, bounds)


def _check_range(path: tuple[Key, ...], kind: str, bounds: Node) -> Problems:
    numbers = [item.value for item in bounds.items if isinstance(item.value, int | float) and not isinstance(item.value, bool)]
    if len(numbers) != 2 or len(bounds.items) != 2:
        return
    low, high = numbers
    if low > high:
        yield path, f"the lower bound {low} is above the upper bound {high}; write [{high}, {low}]"
    elif kind == "log" and low <= 0:
        yield path, f"a logarithmic range starts above 0, found {low}; write 1.0e-5, say, or use `float:`"
