"""Model families: estimators and a learner by dotted name, the encoding of features, search spaces, and capabilities.

Spark and machine learning libraries are imported only by the methods that need them, so that a spec is validated without them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from tidemill.errors import Fault, SpecError, did_you_mean
from tidemill.extensions import import_attribute
from tidemill.families.space import Scalar, Space, are_counts, extreme_values

if TYPE_CHECKING:
    from pyspark.ml import Estimator
    from pyspark.ml.param import Param

    from tidemill.learners.base import Learner
    from tidemill.learners.boosting import Library

Encoding = Literal["linear", "tree", "positive"]
NOTHING: frozenset[str] = frozenset()
ON_CLUSTER, IN_TASKS = "spark", "tasks"
"""Where a family is fitted: an estimator on the whole cluster, or a learner in one Spark task."""
BOTH_WAYS = frozenset({ON_CLUSTER, IN_TASKS})
PATIENCE = "early_stopping_rounds"
"""The parameter of boosted trees for early stopping: the number of rounds without a better loss on the held-out rows."""

_RESERVED = ("featuresCol", "labelCol", "predictionCol", "probabilityCol", "rawPredictionCol", "weightCol", "leafCol", "seed", "thresholds")
# tidemill sets rows, task, number of cores, seed and early stopping.
_RESERVED_OF_LIBRARIES = frozenset(
    {
        *("random_state", "seed", "n_jobs", "nthread", "num_threads", "verbose", "verbosity", "device", "objective", "early_stopping"),
        *("eval_metric", "callbacks", "categorical_features", "categorical_feature", "enable_categorical"),
        *("feature_types", "missing", "booster", "validation_fraction", "n_iter_no_change", "scoring", "warm_start", "class_weight"),
        *("importance_type", "base_score", "multi_strategy", "tol", "num_parallel_tree", "validate_parameters", "boosting_type"),
        *("contamination",),
    }
)
_MIN_BINS = 32
_LOWER_BOUND = re.compile(r"\((>=?) ?(\d+(?:\.\d+)?)\)")


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family and its capabilities.

    Args:
        name: the name in a spec.
        spaces: task → the default search space. Its keys are the tasks that the family supports.
        encoding: the feature vector that it reads: ``linear`` (scaled and one-hot), ``tree`` (numbers and indices of categories) or
            ``positive`` (no value below 0).
        estimators: task → dotted name of the estimator that the engine ``spark`` fits, or its class.
        learner_at: ``module:attribute`` of the learner that the engine ``tasks`` fits; empty where there is none.
        weights: where (`ON_CLUSTER`, `IN_TASKS`) sample weights are supported.
        monotone: where ``training.monotone`` is supported.
        losses: loss other than the squared one → where it is supported.
        needs_nonnegative: True where text vectors with values below 0 are not supported.
        rounds: the parameter of MLlib's estimator that counts its boosting rounds, where a model of fewer rounds is a part of it.
        rounds_tasks: the tasks for which that holds.
        for_texts: default parameters where the spec declares texts.
        text_space: the default search space where the spec declares texts; empty: that of ``spaces``.
        implicit_space: further parameters of the default space where a recommendation learns from counts.
        fixed: default parameters that are not searched.
    """

    name: str
    spaces: Mapping[str, Space]
    encoding: Encoding = "linear"
    estimators: Mapping[str, str | type] = field(default_factory=dict)
    learner_at: str = ""
    weights: frozenset[str] = NOTHING
    monotone: frozenset[str] = NOTHING
    losses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    needs_nonnegative: bool = False
    rounds: str = ""
    rounds_tasks: frozenset[str] = NOTHING
    for_texts: Space = field(default_factory=dict)
    text_space: Space = field(default_factory=dict)
    implicit_space: Space = field(default_factory=dict)
    fixed: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the family supports."""
        return tuple(self.spaces)

    @property
    def learner(self) -> Learner | None:
        """The learner of the engine ``tasks``; None where the family has none."""
        if not self.learner_at:
            return None
        learner: Learner = import_attribute(self.learner_at)
        return learner

    def for_task(self, kind: str) -> Family | None:
        """Return the family for a task; None where it does not support it."""
        return self if kind in self.spaces else None

    def has_estimator(self, kind: str) -> bool:
        """Return True where the engine ``spark`` has an estimator of the family."""
        return kind in self.estimators

    def default_space(self, task: str, *, texts: bool = False, is_implicit: bool = False) -> Space:
        """Return the default search space; ``texts``: the spec declares texts."""
        space = (texts and self.text_space) or self.spaces[task]
        return {**space, **self.implicit_space} if is_implicit else space

    def missing_library(self) -> str | None:
        """Return how to install the library of the family; None where it is installed."""
        return None

    def library(self, *, in_tasks: bool) -> str:
        """Return the package that fits the family, in Spark tasks or on the cluster."""
        return self.learner.package if in_tasks and self.learner else "pyspark"

    def parameter_faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return what is wrong with the parameters of ``space``: parameter → message."""
        return {}

    def learner_params(self, params: Mapping[str, Scalar], task: str) -> dict[str, Scalar]:
        """Return the parameters of the learner: those of ``fixed`` that it supports, overridden by ``params``."""
        unknown = self.learner.unknown_parameters(self.fixed, task) if self.learner else list(self.fixed)
        return {**{name: value for name, value in self.fixed.items() if name not in unknown}, **params}

    def loss_params(self, loss: str, quantile: float | None, monotone: tuple[int, ...]) -> Mapping[str, Any]:
        """Return the parameters of the estimator for a loss other than the squared one, and for monotone slots."""
        return {}

    def build_estimator(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the seeded estimator, which reads ``features_<encoding>`` and ``label``.

        Raises:
            SpecError: the family has no estimator for the task, or a parameter is wrong.
        """
        raise SpecError([space_fault(self.name, "", f"{self.name} cannot be fitted by `engine: spark`; write `tasks` or `auto`")])


@dataclass(frozen=True, kw_only=True)
class MLlibFamily(Family):
    """A family with the parameters of MLlib's estimator, for both engines.

    ``choices``: parameter → its only values; ``reserved``: further parameters that tidemill sets.
    """

    choices: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    reserved: tuple[str, ...] = ()

    def parameter_faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return what is wrong with the parameters of ``space``: parameter → message; needs no JVM."""
        known = _estimator_params(_import_class(self.estimators[task]))
        reserved = (*_RESERVED, *self.reserved)
        settable = [name for name in known if name not in reserved]
        faults = {}
        for name, values in space.items():
            if name not in known:
                faults[name] = _unknown_parameter(self.name, name, settable)
            elif name in reserved:
                faults[name] = _reserved_parameter(name)
            elif message := self._value_fault(known[name], extreme_values(values)):
                faults[name] = message
        return faults

    def _value_fault(self, param: Param, values: list[Scalar]) -> str | None:
        for value in values:
            if not _is_valid(param, value):
                return f"{value!r} is no value for {param.name}: {param.doc}"
        choices = self.choices.get(param.name)
        for value in values:
            if choices is not None and value not in choices:
                near = did_you_mean(str(value), [str(choice) for choice in choices])
                return f"{value!r} is no value for {param.name} of {self.name}{near}; choose from {', '.join(map(str, choices))}"
        return None

    def build_estimator(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the seeded estimator, which reads ``features_<encoding>`` and ``label``.

        Raises:
            SpecError: a parameter is unknown, or its value has the wrong type.
        """
        faults = self.parameter_faults(dict(params), task)
        if faults:
            raise SpecError([space_fault(self.name, name, message) for name, message in faults.items()])
        values: dict[str, object] = {**self.fixed, **params, "featuresCol": f"features_{self.encoding}", "labelCol": "label", "seed": seed}
        if self.encoding == "tree":
            values["maxBins"] = max(_MIN_BINS, int(params.get("maxBins", 0)), max_categories + 1)
        estimator: Estimator = _import_class(self.estimators[task])()
        for name, value in values.items():
            if estimator.hasParam(name):
                estimator.set(estimator.getParam(name), value)
        return estimator


@dataclass(frozen=True, kw_only=True)
class LibraryFamily(Family):
    """A family of another library, with that library's parameters: fitted in Spark tasks, and scored by Spark.

    ``estimators`` are the library's Spark estimators, where it has some.
    """

    encoding: Encoding = "tree"
    weights: frozenset[str] = BOTH_WAYS

    def missing_library(self) -> str | None:
        """Return how to install the library; None where it is installed."""
        return self._library.missing()

    def library(self, *, in_tasks: bool) -> str:
        """Return the package of the library, which fits the family either way."""
        return self._library.package

    def parameter_faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return what is wrong with the parameters of ``space``: parameter → message; needs the library, where there are any."""
        known = sorted(self._library.names() - _RESERVED_OF_LIBRARIES)
        faults = {}
        for name, values in space.items():
            if name in _RESERVED_OF_LIBRARIES:
                faults[name] = _reserved_parameter(name)
            elif name not in known:
                faults[name] = _unknown_parameter(self.name, name, known)
            elif name == PATIENCE and not are_counts(values):
                faults[name] = "expected whole numbers from 1: a fit stops after so many rounds without a better loss on the held-out rows"
        return faults

    def build_estimator(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the library's Spark estimator, which fits one model on all workers.

        Raises:
            SpecError: the library has none, or the parameters ask for early stopping.
        """
        if task not in self.estimators:
            return super().build_estimator(params, task=task, n_classes=n_classes, seed=seed, max_categories=max_categories)
        if PATIENCE in params:
            message = "a fit on the whole cluster, as of vectors too large for tasks, has every round; leave it out"
            raise SpecError([space_fault(self.name, PATIENCE, message)])
        from pyspark.sql import SparkSession

        from tidemill.runtime.session import task_slots

        logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)
        estimator: Estimator = _import_class(self.estimators[task])(
            features_col=f"features_{self.encoding}",
            label_col="label",
            num_workers=task_slots(SparkSession.active()),
            random_state=seed,
            verbosity=0,
            verbose=False,
            **params,
        )
        return estimator

    def loss_params(self, loss: str, quantile: float | None, monotone: tuple[int, ...]) -> Mapping[str, Any]:
        """Return the library's parameters for a loss other than the squared one, and for monotone slots."""
        return self._library.loss_params(loss, quantile, monotone)

    @property
    def _library(self) -> Library:
        library: Library = self.learner  # type: ignore[assignment]  # a family of a library has a learner of that library
        return library


@dataclass(frozen=True, kw_only=True)
class FamilyByTask(Family):
    """A name that stands for a different family in each task."""

    spaces: Mapping[str, Space] = field(default_factory=dict)
    families: tuple[Family, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that one of the families supports."""
        return tuple(kind for family in self.families for kind in family.tasks)

    def for_task(self, kind: str) -> Family | None:
        """Return the family for a task; None where none supports it."""
        return next((family for family in self.families if kind in family.tasks), None)


def space_fault(family: str, parameter: str, message: str, file: str = "pipeline.yml") -> Fault:
    """Return the fault of one parameter of one family, of the family itself where ``parameter`` is empty."""
    return Fault(file, None, f"training.models.{family}" + (f".{parameter}" if parameter else ""), message)


def _unknown_parameter(family: str, name: str, known: list[str]) -> str:
    return f"{family} has no parameter {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"


def _reserved_parameter(name: str) -> str:
    instead = "set training.tuner.seed instead" if name in ("random_state", "seed") else "leave it out"
    return f"{name!r} is set by tidemill; {instead}"


def _import_class(dotted: str | type) -> Any:
    if isinstance(dotted, type):
        return dotted
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def _estimator_params(estimator: type) -> dict[str, Param]:
    """Return the parameters of an estimator class without an instance, which would need a JVM."""
    from pyspark.ml.param import Param

    return {name: value for name in dir(estimator) if isinstance(value := getattr(estimator, name, None), Param)}


def _is_valid(param: Param, value: Scalar) -> bool:
    """Return True where the value has the parameter's type and is within the lower bound in its description."""
    try:
        param.typeConverter(value)
    except (TypeError, ValueError):
        return False
    bound = _LOWER_BOUND.search(param.doc)
    if bound is None or isinstance(value, bool | str):
        return True
    return value >= float(bound[2]) if bound[1] == ">=" else value > float(bound[2])
