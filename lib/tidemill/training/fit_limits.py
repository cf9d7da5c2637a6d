"""Time limits of fits of user code and of MLlib."""

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
    """Run ``fit`` within ``limit`` seconds, or without a limit where it is None, and return its model.

    User code runs in a child process, which can always be ended, where the system can fork.

    Raises:
        TimedOut: the fit took longer.
    """
    if limit is not None and isinstance(family, EstimatorFamily) and can_fork():
        return call_in_driver_child(spark, limit, fit)
    return call_within(spark, limit, fit)


def limit_custom_stages(plan: FeaturePlan, limit: float | None) -> FeaturePlan:
    """Return the plan with each fit of a custom stage limited to ``limit`` seconds; unchanged where it is None."""
    if limit is None or not plan.custom:
        return plan
    limited = tuple(LimitedStage(stage.python, stage.kind, stage.params, stage.columns, stage.key, limit=limit) for stage in plan.custom)
    return replace(plan, custom=limited)


def call_within_feature_limit(spark: SparkSession, limit: float | None, plan: FeaturePlan, call: Callable[[], Result]) -> Result:
    """Return the result of ``call``, which uses the features of ``plan``; limit it to ``limit`` seconds where these have custom stages.

    Raises:
        StepError: the call took longer.
    """
    try:
        return call_within(spark, limit if plan.custom else None, call)
    except TimedOut as error:
        raise StepError(f"features.custom: {', '.join(stage.python for stage in plan.custom)}: {error}") from error


@dataclass(frozen=True)
class LimitedStage(CustomStage):
    """A custom stage whose fit may take at most ``limit`` seconds."""

    limit: float = 0.0

    def fit(self, stage: Any, df: DataFrame) -> Any:
        """Fit the stage on ``df`` and return its model.

        Raises:
            StepError: the fit took longer, or failed.
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
