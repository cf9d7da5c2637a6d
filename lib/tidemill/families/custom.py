"""A family of the user's own: an Estimator of Spark ML, named by its dotted path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pyspark.ml import Estimator

from tidemill.errors import StepError
from tidemill.families.family import AnyTask, Encoding
from tidemill.features.custom import CustomStage
from tidemill.spec.models import LABELLED, Scalar, Space

_ENCODINGS = ("linear", "tree", "positive")


@dataclass(frozen=True)
class OwnFamily(AnyTask):
    """An Estimator that reads ``featuresCol`` and ``labelCol`` and whose model adds ``prediction`` and, for classes, ``probability``.

    One that finds clusters reads no label.

    Its class may say by an attribute ``encoding`` which vectors it wants: ``linear`` (scaled and one-hot; where it says nothing),
    ``tree`` (numbers and indices of categories) or ``positive``.
    """

    name: str
    python: str
    kind: Callable[..., Any]
    declared: Space = field(default_factory=dict)

    tasks: tuple[str, ...] = (*LABELLED, "clustering")

    learner = None
    takes_weights = False

    @property
    def encoding(self) -> Encoding:
        """Which feature vector it reads.

        Raises:
            StepError: the class names one that there is not.
        """
        named = getattr(self.kind, "encoding", "linear")
        if named not in _ENCODINGS:
            raise StepError(f"training.models.{self.name}: {self.python}.encoding is {named!r}, expected one of {', '.join(_ENCODINGS)}")
        return cast("Encoding", named)

    def is_mllib(self, task: str) -> bool:
        """Return True: it is fitted as MLlib's are."""
        return True

    def space(self, task: str, *, texts: bool = False) -> Space:
        """Return the declared space: there is no other."""
        return self.declared

    def faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return nothing: what its parameters may be is seen when it is made."""
        return {}

    def build(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the estimator, reading ``features_<encoding>`` and ``label``.

        Raises:
            StepError: it cannot be made with these parameters, or is no Estimator with those two columns.
        """
        estimator = CustomStage(self.python, self.kind, dict(params), key=f"training.models.{self.name}").build()
        columns = {"featuresCol": f"features_{self.encoding}", **({"labelCol": "label"} if task in LABELLED else {})}
        if not isinstance(estimator, Estimator) or not all(estimator.hasParam(name) for name in columns):
            raise StepError(f"training.models.{self.name}: {self.python} is no Estimator with the params {' and '.join(columns)}")
        for name, value in {**columns, "seed": seed}.items():
            if estimator.hasParam(name) and not (name == "seed" and "seed" in params):
                estimator.set(estimator.getParam(name), value)
        return estimator
