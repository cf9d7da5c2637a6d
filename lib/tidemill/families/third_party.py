"""Families of other libraries: an estimator of one machine, in the engine ``tasks``, by its library's own parameters."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

from pyspark.ml import Estimator
from pyspark.sql import SparkSession

from tidemill.errors import SpecError, did_you_mean
from tidemill.families.family import AnyTask, Encoding, Family, space_fault
from tidemill.families.learners.boosting import PATIENCE, Library
from tidemill.families.learners.histogram import HISTOGRAM
from tidemill.families.learners.lightgbm import LIGHTGBM
from tidemill.families.learners.xgboost import XGBOOST
from tidemill.runtime.session import task_slots
from tidemill.spec.models import LABELLED, IntRange, LogRange, Range, Scalar, Space

# What tidemill itself decides: the rows, the task, the cores, the seed, and what tells when to stop.
_OURS = frozenset(
    {
        *("random_state", "seed", "n_jobs", "nthread", "num_threads", "verbose", "verbosity", "device", "objective", "early_stopping"),
        *("eval_metric", "callbacks", "categorical_features", "categorical_feature", "enable_categorical"),
        *("feature_types", "missing", "booster", "validation_fraction", "n_iter_no_change", "scoring", "warm_start", "class_weight"),
        *("importance_type", "base_score", "multi_strategy", "tol", "num_parallel_tree", "validate_parameters", "boosting_type"),
        *("contamination",),
    }
)


@dataclass(frozen=True)
class LearnedFamily(AnyTask):
    """A family that is not MLlib's: it learns in single tasks, and scores by Spark all the same."""

    name: str
    learner: Library
    default: Space
    encoding: Encoding = "tree"
    takes_weights: bool = True
    tasks: tuple[str, ...] = LABELLED
    distributed: Mapping[str, str] = field(default_factory=dict)  # task → the library's own estimator on Spark, by its dotted name

    def is_mllib(self, task: str) -> bool:
        """Return True where the library has an estimator on Spark of its own."""
        return task in self.distributed

    def space(self, task: str, *, texts: bool = False) -> Space:
        """Return the space that is searched where the spec declares none."""
        return self.default

    def missing(self) -> str | None:
        """Return how to install the library, None where it is there."""
        return self.learner.missing()

    def faults(self, space: Space, task: str) -> Mapping[str, str]:
        """Return what is wrong with the parameters of ``space``: parameter → message; needs the library, where there are any."""
        known = sorted(self.learner.names() - _OURS)
        found = {}
        for name in space:
            if name in _OURS:
                instead = "set training.tuner.seed instead" if name in ("random_state", "seed") else "leave it out"
                found[name] = f"{name!r} is set by tidemill; {instead}"
            elif name not in known:
                found[name] = f"{self.name} has no parameter {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
            elif name == PATIENCE and not _are_counts(space[name]):
                found[name] = "expected whole numbers from 1: after so many rounds without a gain on the fold's own rows a fit stops"
        return found

    def build(self, params: Mapping[str, Scalar], *, task: str, n_classes: int, seed: int, max_categories: int) -> Estimator:
        """Return the library's own estimator on Spark, which trains one model on all workers together.

        Raises:
            SpecError: the library has none, or none that stops early.
        """
        if task not in self.distributed:
            raise SpecError([space_fault(self.name, "", f"{self.name} cannot be fitted by `engine: spark`; write `tasks` or `auto`")])
        if PATIENCE in params:
            message = "a fit on the whole cluster, as of vectors too large for tasks, has every round; leave it out"
            raise SpecError([space_fault(self.name, PATIENCE, message)])
        module, _, name = self.distributed[task].rpartition(".")
        logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)
        estimator: Estimator = getattr(import_module(module), name)(
            features_col=f"features_{self.encoding}",
            label_col="label",
            num_workers=task_slots(SparkSession.active()),
            random_state=seed,
            verbosity=0,
            verbose=False,
            **params,
        )
        return estimator


def _are_counts(values: Range) -> bool:
    """Return True where all values are whole numbers from 1."""
    if isinstance(values, IntRange):
        return values.int[0] >= 1
    each = values if isinstance(values, list) else [values]
    return all(isinstance(value, int) and not isinstance(value, bool) and value >= 1 for value in each)


HIST_GRADIENT_BOOSTING: Family = LearnedFamily(
    "hist_gradient_boosting",
    HISTOGRAM,
    {
        "max_iter": IntRange(int=[50, 200]),
        "learning_rate": LogRange(log=[0.03, 0.3]),
        "max_leaf_nodes": [15, 31, 63],
        "min_samples_leaf": [20, 60],
    },
)
XGBOOST_TREES: Family = LearnedFamily(
    "xgboost",
    XGBOOST,
    distributed={
        "binary": "xgboost.spark.SparkXGBClassifier",
        "multiclass": "xgboost.spark.SparkXGBClassifier",
        "regression": "xgboost.spark.SparkXGBRegressor",
    },
    default={
        "n_estimators": IntRange(int=[50, 200]),
        "learning_rate": LogRange(log=[0.03, 0.3]),
        "max_depth": IntRange(int=[4, 9]),
        "min_child_weight": LogRange(log=[1.0, 50.0]),
    },
)
LIGHTGBM_TREES: Family = LearnedFamily(
    "lightgbm",
    LIGHTGBM,
    {
        "n_estimators": IntRange(int=[50, 200]),
        "learning_rate": LogRange(log=[0.03, 0.3]),
        "num_leaves": [15, 31, 63],
        "min_child_samples": [20, 60],
    },
)
