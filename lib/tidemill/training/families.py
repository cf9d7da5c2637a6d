"""Model families: which MLlib estimator stands behind a name, what it needs and where to look for good parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pyspark.ml import Estimator
from pyspark.ml.classification import GBTClassifier, LogisticRegression, RandomForestClassifier
from pyspark.ml.param import Param
from pyspark.ml.regression import GBTRegressor, LinearRegression, RandomForestRegressor

from tidemill.errors import Fault, SpecError, did_you_mean
from tidemill.spec.models import FloatRange, IntRange, LogRange, Range, Scalar, Space
from tidemill.training.one_vs_rest import OneVsRestBoosting

Encoding = Literal["linear", "tree"]

# What tidemill itself decides; everything else an estimator knows is the user's to set.
_OURS = ("featuresCol", "labelCol", "predictionCol", "probabilityCol", "rawPredictionCol", "weightCol", "leafCol", "seed", "thresholds")
_LEAST_BINS = 32
# Trees grow a whole level in one pass over the rows while its statistics fit; MLlib's 256 MB make a deep forest take several.
_TREE_MEMORY_MB = 512


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
        """Which feature vector it reads: scaled and one-hot, or numbers and category indices."""
        ...

    def space(self, task: str) -> Space:
        """Return the space that is searched where the spec declares none."""
        ...

    def faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return what is wrong with the parameters of ``space``: parameter → message."""
        ...

    def build(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the estimator, reading ``features_<encoding>`` and ``label``."""
        ...


@dataclass(frozen=True)
class MLlibFamily:
    """A family of MLlib: one estimator class a task, with parameters of tidemill's own choosing in front of the user's."""

    name: str
    encoding: Encoding
    estimators: Mapping[str, type]
    spaces: Mapping[str, Space]
    fixed: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks the family suits."""
        return tuple(self.estimators)

    def space(self, task: str) -> Space:
        """Return the space that is searched where the spec declares none."""
        return self.spaces[task]

    def faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return what is wrong with the parameters of ``space``: parameter → message; needs no JVM."""
        known = _params(self.estimators[task])
        settable = [name for name in known if name not in _OURS]
        found = {}
        for name, values in space.items():
            if name not in known:
                found[name] = f"{self.name} has no parameter {name!r}{did_you_mean(name, settable)}; it has {', '.join(settable)}"
            elif name in _OURS:
                instead = "set training.tuner.seed instead" if name == "seed" else "leave it out"
                found[name] = f"{name!r} is set by tidemill; {instead}"
            else:
                wrong = [value for value in _extremes(values) if not _fits(known[name], value)]
                if wrong:
                    found[name] = f"{wrong[0]!r} is no value for {name}: {known[name].doc}"
        return found

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


def family_of(name: str, task: str) -> Family:
    """Return the family of that name.

    Raises:
        SpecError: there is none, or it does not suit the task.
    """
    family = FAMILIES.get(name)
    if family is None or task not in family.tasks:
        fitting = [known.name for known in FAMILIES.values() if task in known.tasks]
        message = f"no model family for `task: {task}`{did_you_mean(name, fitting)}; choose from {', '.join(fitting)}"
        raise SpecError([Fault("pipeline.yml", None, f"training.models.{name}", message)])
    return family


def search_spaces(declared: Mapping[str, Space], task: str, file: str = "pipeline.yml") -> dict[str, Space]:
    """Return the space of each declared family: as declared, or the family's own where that is empty.

    Raises:
        SpecError: a family or a parameter is unknown, or a value has the wrong type; all of them are named.
    """
    spaces: dict[str, Space] = {}
    faults: list[Fault] = []
    for name, space in declared.items():
        try:
            family = family_of(name, task)
        except SpecError as error:
            faults += [Fault(file, None, fault.key, fault.message) for fault in error.faults]
            continue
        faults += [space_fault(name, parameter, message, file) for parameter, message in family.faults(space, task).items()]
        spaces[name] = space or family.space(task)
    if faults:
        raise SpecError(faults)
    return spaces


def space_fault(family: str, parameter: str, message: str, file: str = "pipeline.yml") -> Fault:
    """Return the fault of one parameter of one family."""
    return Fault(file, None, f"training.models.{family}.{parameter}", message)


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
    try:
        param.typeConverter(value)
    except (TypeError, ValueError):
        return False
    return True


_BOOSTED: Space = {"maxIter": IntRange(int=[30, 60]), "maxDepth": IntRange(int=[4, 6]), "stepSize": LogRange(log=[0.05, 0.3])}
# One model a class and round: fewer and flatter ones, so that ten classes stay affordable.
_BOOSTED_EACH_CLASS: Space = {"maxIter": IntRange(int=[10, 20]), "maxDepth": IntRange(int=[3, 4]), "stepSize": LogRange(log=[0.1, 0.4])}
_FOREST: Space = {"numTrees": IntRange(int=[20, 60]), "maxDepth": IntRange(int=[6, 12]), "minInstancesPerNode": [1, 5, 20]}
_LINEAR: Space = {"regParam": LogRange(log=[1e-5, 1e-1]), "elasticNetParam": [0.0, 0.5, 1.0]}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        MLlibFamily(
            name="logistic_regression",
            encoding="linear",
            estimators={"binary": LogisticRegression, "multiclass": LogisticRegression},
            spaces={"binary": _LINEAR, "multiclass": _LINEAR},
            fixed={"maxIter": 50},
        ),
        MLlibFamily(
            name="linear_regression",
            encoding="linear",
            estimators={"regression": LinearRegression},
            spaces={"regression": _LINEAR},
            fixed={"maxIter": 50},
        ),
        MLlibFamily(
            name="random_forest",
            encoding="tree",
            estimators={"binary": RandomForestClassifier, "multiclass": RandomForestClassifier, "regression": RandomForestRegressor},
            spaces=dict.fromkeys(("binary", "multiclass", "regression"), _FOREST),
            fixed={"maxMemoryInMB": _TREE_MEMORY_MB},
        ),
        MLlibFamily(
            name="gradient_boosted_trees",
            encoding="tree",
            estimators={"binary": GBTClassifier, "multiclass": OneVsRestBoosting, "regression": GBTRegressor},
            spaces={"binary": _BOOSTED, "multiclass": _BOOSTED_EACH_CLASS, "regression": _BOOSTED},
            fixed={"maxMemoryInMB": _TREE_MEMORY_MB},
        ),
    )
}
