"""Fits of user code and of MLlib that may take a limited time, wherever a run makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pyspark.ml import Estimator

from tidemill.errors import StepError
from tidemill.features.custom import CustomStage
from tidemill.learners.custom import EstimatorFamily
from tidemill.runtime.user_code import contain_exit
from tidemill.training.engines.timeouts import TimedOut, call_in_driver_child, call_within, can_fork

if TYPE_CHECKING:
    from pyspark.ml import Model
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.families import Family
    from tidemill.features import FeaturePlan


Result = TypeVar("Result")


def fit_within(spark: SparkSession, limit: float | None, family: Family, fit: Callable[[], Model]) -> Model:
    """Return the model that ``fit`` makes, which may take ``limit`` seconds, where that is given.

    Code of the user's own runs in a process that can be ended whatever it does, where the system has one.

    Raises:
        TimedOut: it took longer.
    """
    if limit is not None and isinstance(family, EstimatorFamily) and can_fork():
        return call_in_driver_child(spark, limit, fit)
    return call_within(spark, limit, fit)


def limit_custom_stages(plan: FeaturePlan, limit: float | None) -> FeaturePlan:
    """Return the plan with custom stages each of whose fits may take ``limit`` seconds, where that is given."""
    if limit is None or not plan.custom:
        return plan
    limited = tuple(LimitedStage(stage.python, stage.kind, stage.params, stage.columns, stage.key, limit=limit) for stage in plan.custom)
    return replace(plan, custom=limited)


def call_within_feature_limit(spark: SparkSession, limit: float | None, plan: FeaturePlan, call: Callable[[], Result]) -> Result:
    """Return what ``call`` makes of the features of ``plan``: within ``limit`` seconds where stages of the user's own are among them.

    Raises:
        StepError: it took longer.
    """
    try:
        return call_within(spark, limit if plan.custom else None, call)
    except TimedOut as error:
        raise StepError(f"features.custom: {', '.join(stage.python for stage in plan.custom)}: {error}") from error


@dataclass(frozen=True)
class LimitedStage(CustomStage):
    """A custom stage whose fit may take so many seconds."""

    limit: float = 0.0

    def fit(self, stage: Any, df: DataFrame) -> Any:
        """Return the model that the stage learns from ``df``.

        Raises:
            StepError: it took longer, or failed.
        """
        if not (isinstance(stage, Estimator) and can_fork()):
            return super().fit(stage, df)

        def fit() -> Any:
            with contain_exit(f"{self.key}: {self.python}"):
                return stage.fit(df)

        try:
            return call_in_driver_child(df.sparkSession, self.limit, fit)
        except (TimedOut, ChildProcessError) as error:
            message = str(error)
            raise StepError(message if message.startswith(self.key) else f"{self.key}: {self.python}: {message}") from error
