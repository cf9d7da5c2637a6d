"""A user-defined family: an Estimator of Spark ML, named by its dotted path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.ml import Estimator

from tidemill.errors import StepError
from tidemill.families import Family
from tidemill.families.space import Scalar, Space
from tidemill.features.custom import CustomStage
from tidemill.tasks import TaskKind

_ENCODINGS = ("linear", "tree", "positive")


@dataclass(frozen=True, kw_only=True)
class EstimatorFamily(Family):
    """An Estimator that reads ``featuresCol`` and ``labelCol`` and whose model adds ``prediction`` and, for classes, ``probability``.

    A clustering estimator reads no label. An attribute ``encoding`` of the class names the vectors that it reads: ``linear`` (scaled and
    one-hot; the default), ``tree`` (numbers and indices of categories) or ``positive``. ``python`` is its dotted path, ``kind`` its class.
    """

    python: str
    kind: Callable[..., Any]

    @classmethod
    def of(cls, name: str, python: str, kind: Callable[..., Any], space: Space | None = None) -> EstimatorFamily:
        """Return the family of a class.

        Raises:
            StepError: the class names an encoding that does not exist.
        """
        encoding: Any = getattr(kind, "encoding", "linear")
        if encoding not in _ENCODINGS:
            raise StepError(f"training.models.{name}: {python}.encoding is {encoding!r}, expected one of {', '.join(_ENCODINGS)}")
        spaces: dict[str, Space] = dict.fromkeys(
            [kind for kind in TaskKind if kind.reads_features and not kind.finds_anomalies], space or {}
        )
        return cls(name=name, spaces=spaces, encoding=encoding, estimators=dict.fromkeys(spaces, python), python=python, kind=kind)

    def build_estimator(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the estimator, which reads ``features_<encoding>`` and ``label``.

        Raises:
            StepError: it cannot be built with these parameters, or is no Estimator with these two columns.
        """
        estimator = CustomStage(self.python, self.kind, dict(params), key=f"training.models.{self.name}").build()
        columns = {"featuresCol": f"features_{self.encoding}", **({"labelCol": "label"} if TaskKind(task).learns_label else {})}
        if not isinstance(estimator, Estimator) or not all(estimator.hasParam(name) for name in columns):
            raise StepError(f"training.models.{self.name}: {self.python} is no Estimator with the params {' and '.join(columns)}")
        for name, value in {**columns, "seed": seed}.items():
            if estimator.hasParam(name) and not (name == "seed" and "seed" in params):
                estimator.set(estimator.getParam(name), value)
        return estimator
