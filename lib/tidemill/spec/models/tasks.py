"""What a task is, as far as the steps have to know: what the label is to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tidemill.spec.models.base import METRICS, RECOMMENDATION


@dataclass(frozen=True)
class TaskKind:
    """What the label is to a task.

    ``learned``: it is what is predicted, so it is required, and only rows that have one are examples. ``judges``: all rows are examples;
    where a label is declared, it is never learned from and measures what was found. ``unused``: all rows are examples, and the
    label, where there is one, is no more than a column that is no feature.
    """

    label: Literal["learned", "judges", "unused"]
    reads_features: bool = True  # else two ids alone

    @property
    def learns_label(self) -> bool:
        """True where the label is what is predicted."""
        return self.label == "learned"


TASK_KINDS: dict[str, TaskKind] = {
    "binary": TaskKind("learned"),
    "multiclass": TaskKind("learned"),
    "regression": TaskKind("learned"),
    "clustering": TaskKind("unused"),
    "anomaly": TaskKind("judges"),
    RECOMMENDATION: TaskKind("learned", reads_features=False),
}
LABELLED = tuple(task for task, kind in TASK_KINDS.items() if kind.learns_label and kind.reads_features)
"""The tasks that learn a label from features."""

WITHOUT_LABEL = frozenset({"silhouette", "massVolume"})
"""The metrics that no label is needed for."""


def default_metric(task: str, *, has_label: bool) -> str:
    """Return the metric of a spec that names none: the task's first one that can be measured."""
    return next(metric for metric in METRICS[task] if has_label or TASK_KINDS[task].learns_label or metric in WITHOUT_LABEL)
