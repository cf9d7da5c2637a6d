"""What a model family is: an estimator a task, what it wants of the features, and where to look for good parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pyspark.ml import Estimator
from pyspark.ml.param import Param

from tidemill.errors import Fault, SpecError, did_you_mean
from tidemill.families.learners.base import Learner
from tidemill.spec.models import LABELLED, FloatRange, IntRange, LogRange, Range, Scalar, Space

Encoding = Literal["linear", "tree", "positive"]

# What tidemill itself decides; everything else an estimator knows is the user's to set.
_OURS = ("featuresCol", "labelCol", "predictionCol", "probabilityCol", "rawPredictionCol", "weightCol", "leafCol", "seed", "thresholds")
_LEAST_BINS = 32
_LEAST = re.compile(r"\((>=?) ?(\d+(?:\.\d+)?)\)")


class Family(Protocol):
    """A model family; anything with these members can be one."""

    @property
    def name(self) -> str:
        """The name in a spec."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks the family suits."""
        ...

    @property
    def encoding(self) -> Encoding:
        """Which feature vector it reads: scaled and one-hot, numbers and category indices, or nothing below 0."""
        ...

    @property
    def for_texts(self) -> Space:
        """Parameters where the spec declares texts, unless it sets them."""
        ...

    def space(self, task: str, *, texts: bool = False) -> Space:
        """Return the space that is searched where the spec declares none; ``texts`` says whether it declares texts."""
        ...

    def faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return what is wrong with the parameters of ``space``: parameter → message."""
        ...

    def missing(self) -> str | None:
        """Return what has to be installed first, None where nothing has."""
        ...

    @property
    def learner(self) -> Learner | None:
        """What learns in the engine ``tasks``; None where the family is MLlib's alone."""
        ...

    @property
    def takes_weights(self) -> bool:
        """Whether rows may count for more than others in MLlib's estimator."""
        ...

    def is_mllib(self, task: str) -> bool:
        """Return True where the engine ``spark`` has an estimator of the family."""
        ...

    def learner_params(self, params: Mapping[str, Scalar], task: str) -> dict[str, Scalar]:
        """Return what the learner is given: the parameters, and tidemill's own in front of them as far as it knows them."""
        ...

    def build(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the estimator, reading ``features_<encoding>`` and ``label``."""
        ...


class AnyTask:
    """What families share that suit every task with a label and take parameters as they are."""

    tasks: tuple[str, ...] = LABELLED

    @property
    def for_texts(self) -> Space:
        """Nothing of its own."""
        return {}

    def learner_params(self, params: Mapping[str, Scalar], task: str) -> dict[str, Scalar]:
        """Return the parameters as they are."""
        return dict(params)

    def missing(self) -> str | None:
        """Return None: nothing has to be installed."""
        return None


@dataclass(frozen=True)
class MLlibFamily:
    """A family of MLlib: one estimator class a task, with parameters of tidemill's own choosing in front of the user's."""

    name: str
    encoding: Encoding
    estimators: Mapping[str, type]
    spaces: Mapping[str, Space]
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    choices: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)  # the only values of a parameter
    ours: tuple[str, ...] = ()  # more that tidemill decides
    for_texts: Space = field(default_factory=dict)  # parameters where texts are declared, unless the spec sets them
    text_space: Space = field(default_factory=dict)  # where to look in place of `spaces` where texts are declared
    learner: Learner | None = None  # what learns in the engine `tasks`
    takes_weights: bool = False  # whether rows of MLlib's estimator may count for more than others

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks the family suits."""
        return tuple(self.estimators)

    def space(self, task: str, *, texts: bool = False) -> Space:
        """Return the space that is searched where the spec declares none."""
        return (texts and self.text_space) or self.spaces[task]

    def missing(self) -> str | None:
        """Return None: MLlib is always there."""
        return None

    def faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return what is wrong with the parameters of ``space``: parameter → message; needs no JVM."""
        known = _params(self.estimators[task])
        ours = (*_OURS, *self.ours)
        settable = [name for name in known if name not in ours]
        found = {}
        for name, values in space.items():
            if name not in known:
                found[name] = f"{self.name} has no parameter {name!r}{did_you_mean(name, settable)}; it has {', '.join(settable)}"
            elif name in ours:
                instead = "set training.tuner.seed instead" if name == "seed" else "leave it out"
                found[name] = f"{name!r} is set by tidemill; {instead}"
            else:
                wrong = [value for value in _extremes(values) if not _fits(known[name], value)]
                other = [value for value in _extremes(values) if name in self.choices and value not in self.choices[name]]
                if wrong:
                    found[name] = f"{wrong[0]!r} is no value for {name}: {known[name].doc}"
                elif other:
                    near = did_you_mean(str(other[0]), [str(choice) for choice in self.choices[name]])
                    allowed = ", ".join(map(str, self.choices[name]))
                    found[name] = f"{other[0]!r} is no value for {name} of {self.name}{near}; choose from {allowed}"
        return found

    def is_mllib(self, task: str) -> bool:
        """Return True: each of its tasks has an estimator of MLlib's."""
        return task in self.estimators

    def learner_params(self, params: Mapping[str, Scalar], task: str) -> dict[str, Scalar]:
        """Return what the learner is given: the parameters, and the fixed ones in front of them as far as it knows them."""
        unknown = self.learner.refused(self.fixed, task) if self.learner else list(self.fixed)
        return {**{name: value for name, value in self.fixed.items() if name not in unknown}, **params}

    def build(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the seeded estimator, reading ``features_<encoding>`` and ``label``.

        Raises:
            SpecError: a parameter is unknown, or its value has the wrong type.
        """
        wrong = self.faults(dict(params), task)
        if wrong:
            raise SpecError([space_fault(self.name, name, message) for name, message in wrong.items()])
        values: dict[str, object] = {**self.fixed, **params, "featuresCol": f"features_{self.encoding}", "labelCol": "label", "seed": seed}
        if self.encoding == "tree":
            values["maxBins"] = max(_LEAST_BINS, int(params.get("maxBins", 0)), max_categories + 1)
        estimator = self.estimators[task]()
        for name, value in values.items():
            if estimator.hasParam(name):
                estimator.set(estimator.getParam(name), value)
        return estimator


def space_fault(family: str, parameter: str, message: str, file: str = "pipeline.yml") -> Fault:
    """Return the fault of one parameter of one family, of the family itself where ``parameter`` is empty."""
    return Fault(file, None, f"training.models.{family}" + (f".{parameter}" if parameter else ""), message)


def _params(estimator: type) -> dict[str, Param]:
    """Return the parameters of an estimator class; read off the class, since an instance needs a JVM."""
    return {name: value for name in dir(estimator) if isinstance(value := getattr(estimator, name, None), Param)}


def _extremes(values: Range) -> list[Scalar]:
    """Return values of a range that must all be of the parameter's type."""
    if isinstance(values, IntRange):
        return list(values.int)
    if isinstance(values, FloatRange | LogRange):
        bounds = values.float if isinstance(values, FloatRange) else values.log
        # Between the bounds lie fractions, also where both are whole.
        return [bounds[0] + 0.5 * (bounds[1] - bounds[0]) + 1e-9, *bounds]
    return list(values) if isinstance(values, list) else [values]


def _fits(param: Param, value: Scalar) -> bool:
    """Return whether the value has the parameter's type, and is not below the bound that its description names."""
    try:
        param.typeConverter(value)
    except (TypeError, ValueError):
        return False
    least = _LEAST.search(param.doc)
    if least is None or isinstance(value, bool | str):
        return True
    return value >= float(least[2]) if least[1] == ">=" else value > float(least[2])
