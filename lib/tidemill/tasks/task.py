"""Tasks: the kind of prediction, the metrics, the default families, and the code that trains and evaluates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Literal

from tidemill.errors import did_you_mean
from tidemill.extensions import Registry, describe, load_beside
from tidemill.tasks.metrics import METRICS, metrics_of


class TaskKind(StrEnum):
    """What a model predicts. Families, learners and metrics are declared for a kind; all tasks of a kind share them."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    CLUSTERING = "clustering"
    ANOMALY = "anomaly"
    RECOMMENDATION = "recommendation"

    @property
    def has_two_classes(self) -> bool:
        """True where one of two classes is predicted."""
        return self is TaskKind.BINARY

    @property
    def has_many_classes(self) -> bool:
        """True where one of two or more classes is predicted, none of which is the positive class."""
        return self is TaskKind.MULTICLASS

    @property
    def has_positive_class(self) -> bool:
        """True where the probability of one class, or of being an anomaly, is predicted."""
        return self.has_two_classes or self.finds_anomalies

    @property
    def predicts_number(self) -> bool:
        """True where a number is predicted from features, and no probability."""
        return self is TaskKind.REGRESSION

    @property
    def has_numeric_label(self) -> bool:
        """True where the label is a number, not a class."""
        return self.predicts_number or self.recommends

    @property
    def finds_clusters(self) -> bool:
        """True where rows are assigned to clusters."""
        return self is TaskKind.CLUSTERING

    @property
    def finds_anomalies(self) -> bool:
        """True where unusual rows are flagged."""
        return self is TaskKind.ANOMALY

    @property
    def recommends(self) -> bool:
        """True where items are recommended to users, from two ids alone."""
        return self is TaskKind.RECOMMENDATION

    @property
    def reads_features(self) -> bool:
        """True where a model reads features, not two ids alone."""
        return not self.recommends

    @property
    def learns_label(self) -> bool:
        """True where the label is predicted: it is required, and only rows with a label are examples."""
        return not (self.finds_clusters or self.finds_anomalies)

    @property
    def label_judges(self) -> bool:
        """True where all rows are examples, and a declared label is used for metrics only, never for training."""
        return self.finds_anomalies


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task, as ``training.task`` names it.

    Args:
        name: the name in a spec.
        kind: what a model of it predicts.
        metrics: names of its metrics, in `METRICS` or by dotted path. The first that can be measured selects the model, unless the
            spec says otherwise.
        families: the families that are tried if a spec names none.
        text_families: the same, if the spec declares text features.
        classes: the least and the greatest number of classes of the label; None if it has no classes.
        keys: keys of a spec that only the tasks that list them may set.
        trainer: ``module:function`` of the step train.
        evaluator: ``module:class`` that measures a model on the test rows.
        query: suggested SQL for a user to run next, with ``{predictions}`` or ``{recommendations}`` in place of the table.
    """

    name: str
    kind: TaskKind
    metrics: tuple[str, ...]
    families: tuple[str, ...]
    text_families: tuple[str, ...]
    classes: tuple[int, int] | None = None
    keys: frozenset[str] = frozenset()
    trainer: str = "tidemill.steps.train.step:train_on_features"
    evaluator: str = "tidemill.steps.evaluate.labels:LabelEvaluator"
    query: str = "SELECT prediction, count(*) FROM {predictions} GROUP BY prediction"

    def derive(self, name: str, **changes: Any) -> Task:
        """Return this task under another name, with some of its fields changed."""
        return replace(self, name=name, **changes)

    def load(self, what: Literal["trainer", "evaluator"]) -> Callable[..., Any]:
        """Import the function or class of a step that is named by ``module:attribute``; a module beside the spec comes first."""
        return load_beside(getattr(self, what).replace(":", "."))

    def custom_paths(self) -> list[str]:
        """Return the dotted paths of the trainer and the evaluator where they are not those of tidemill."""
        paths = [path.replace(":", ".") for path in (self.trainer, self.evaluator)]
        return [path for path in paths if not path.startswith("tidemill.")]

    def describe(self) -> str:
        """Return all fields as text, the same for equal tasks."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return repr({**values, "keys": sorted(self.keys)})

    def metric_names(self) -> tuple[str, ...]:
        """Return the names of all metrics of the task, apart from a custom one that a spec names by its dotted path."""
        return tuple(dict.fromkeys([*self.metrics, *(metric.name for metric in metrics_of(self.kind) if not metric.is_built_in)]))

    def default_metric(self, *, has_label: bool) -> str:
        """Return the metric that a spec without `metric` selects by: the first one that can be measured, else the first one."""
        can_judge = has_label or self.kind.learns_label
        return next((name for name in self.metrics if can_judge or not METRICS.get(name).needs_label), self.metrics[0])


_FIELDS = {field.name for field in fields(Task)} - {"name", "kind"}
_STEPS: tuple[Literal["trainer", "evaluator"], ...] = ("trainer", "evaluator")
_NAMES = ("metrics", "families", "text_families", "keys")


def _accept(name: str, candidate: Any) -> Task:
    """Return a Task as it is; build one from a class, or an instance, with ``base`` and the fields to change."""
    if isinstance(candidate, Task):
        return _check(replace(candidate, name=name))
    base = getattr(candidate, "base", None)
    if not isinstance(base, str):
        raise TypeError(f"expected a Task, or a class with `base`, the name of the task that it changes, found {describe(candidate)}")
    changes = {field: getattr(candidate, field) for field in sorted(_FIELDS) if hasattr(candidate, field)}
    _check_fields(candidate, changes)
    task = TASKS.get(base).derive(name, **changes)
    for what in _STEPS:
        if what in changes and not callable(task.load(what)):
            raise TypeError(f"its `{what}` {changes[what]!r} must be the `module:name` of a function or class")
    return _check(task)


def _check_fields(candidate: Any, changes: Mapping[str, Any]) -> None:
    """Refuse values of another type, and attributes that are called nearly like a field.

    Raises:
        TypeError: there is one.
    """
    for attribute in dir(candidate):
        hint = "" if attribute.startswith("_") or attribute in _FIELDS else did_you_mean(attribute, _FIELDS)
        if hint:
            raise TypeError(f"a task has no field `{attribute}`{hint}")
    for field, value in changes.items():
        if field in _NAMES and (isinstance(value, str) or not all(isinstance(each, str) for each in value)):
            raise TypeError(f"its `{field}` must be a tuple of names, found {value!r}")
    classes = changes.get("classes")
    if classes is not None and not (isinstance(classes, tuple) and [type(each) for each in classes] == [int, int]):
        raise TypeError(f"its `classes` must be the least and the greatest number of classes, found {classes!r}")


def _check(task: Task) -> Task:
    """Return the task.

    Raises:
        TypeError: it has no metric or no family, or a metric does not measure its kind.
        UsageError: a metric is unknown.
    """
    for metric in map(METRICS.get, task.metrics):
        if task.kind not in metric.tasks:
            raise TypeError(f"its metric {metric.name!r} measures {', '.join(sorted(metric.tasks))}, not {task.kind}")
    if not task.metrics or not task.families:
        raise TypeError("expected at least one metric and one family")
    return task


TASKS: Registry[Task] = Registry(
    "task", "tidemill.tasks", {kind.value: f"tidemill.tasks.built_in:{kind.name}" for kind in TaskKind}, _accept
)
