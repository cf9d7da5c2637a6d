"""The whole of ``pipeline.yml``, and the blocks `scoring` and `monitoring`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, PrivateAttr, model_validator

from tidemill.errors import UsageError
from tidemill.families import find_family, unsupported_reason
from tidemill.families.space import FloatRange, IntRange, LogRange, Range, Space
from tidemill.monitoring.methods import DRIFT_METHODS, PSI, DriftMethod
from tidemill.options import (
    Block,
    ColumnName,
    DottedName,
    Duration,
    Name,
    Problem,
    Reference,
    Scalar,
    Share,
    TableName,
)
from tidemill.spec.models.dataset import Aggregate, Dataset, Lookup, Split
from tidemill.spec.models.evaluation import Evaluation
from tidemill.spec.models.expectations import Expectation
from tidemill.spec.models.features import Checks, Features, Select
from tidemill.spec.models.registry import Registry, RegistryAddress
from tidemill.spec.models.search_space import (
    CustomFamily,
    Family,
    Quantile,
    Threshold,
    Training,
    Tuner,
)
from tidemill.spec.models.sources import Source, Table
from tidemill.tasks import METRICS, Metric, Task, TaskKind

__all__ = [
    "Aggregate",
    "Block",
    "Checks",
    "CustomFamily",
    "Dataset",
    "DottedName",
    "Drift",
    "Duration",
    "Evaluation",
    "Expectation",
    "Family",
    "Features",
    "FloatRange",
    "IntRange",
    "LabelSource",
    "LogRange",
    "Lookup",
    "Monitoring",
    "Name",
    "Performance",
    "Pipeline",
    "Quantile",
    "Range",
    "Reference",
    "Registry",
    "Retrain",
    "Scalar",
    "Scoring",
    "Select",
    "Share",
    "Source",
    "Space",
    "Split",
    "Table",
    "TableName",
    "Threshold",
    "Training",
    "Tuner",
]


class Scoring(Block):
    """What the champion scores; it becomes ``gold.<pipeline>_predictions``."""

    from_: TableName | None = Field(default=None, alias="from")
    sql: str | None = None
    load: Literal["full", "incremental"] = "full"
    keep: list[ColumnName] = Field(default=[])
    shadow: bool = False
    seen: bool = Field(default=False, description="recommendation: also recommend what a user has had in the training rows")

    @model_validator(mode="after")
    def _one_definition(self) -> Scoring:
        if self.from_ is not None and self.sql is not None:
            raise ValueError("takes one of `from` and `sql`, not both")
        return self


RESERVED_METHODS = ("js", "ks")
"""Drift methods of later releases."""


class Drift(Block):
    """How far the scored rows may drift from the training rows."""

    method: str = Field(default="psi", description="a drift method, or the dotted path of a function of two lists of counts")
    warn: float | None = Field(default=None, ge=0, description="absent: the method's own level (psi: 0.1)")
    alert: float | None = Field(default=None, ge=0, description="absent: the method's own level (psi: 0.25)")
    on_alert: Literal["warn", "fail"] = "warn"
    _measure: DriftMethod = PrivateAttr(default=PSI)

    def problems(self) -> Iterator[Problem]:
        """Yield an unknown method, and levels in the wrong order."""
        if self.method in RESERVED_METHODS:
            return  # refused by name elsewhere
        try:
            self._measure = DRIFT_METHODS.get(self.method)
        except UsageError as error:
            yield ("method",), str(error)
            return
        warn, alert = self.levels
        if warn > alert and self.warn is None:
            yield ("alert",), f"{alert} is below `warn` ({warn}); a warning comes first"
        elif warn > alert:
            yield ("warn",), f"{warn} is above `alert` ({alert}); a warning comes first"

    @property
    def measure(self) -> DriftMethod:
        """The method, as resolved when the spec was loaded."""
        return self._measure

    @property
    def levels(self) -> tuple[float, float]:
        """The distances of a warning and of an alert."""
        method = self._measure
        return method.warn if self.warn is None else self.warn, method.alert if self.alert is None else self.alert


class LabelSource(Block):
    """Where labels arrive later."""

    table: TableName
    by: list[ColumnName]
    column: ColumnName
    mature_after: Duration = "1d"


class Performance(Block):
    """How far a live metric may fall."""

    metric: str
    drop: float


class Retrain(Block):
    """When breaches ask for a new training run."""

    breaches: int = Field(gt=0)
    of: int = Field(gt=0)


class Monitoring(Block):
    """What is watched after deployment."""

    drift: Drift | None = None
    labels: LabelSource | None = None
    performance: Performance | None = None
    freshness: dict[ColumnName, Duration] = Field(default={})
    retrain: Retrain | None = None


class Pipeline(Block):
    """The whole of ``pipeline.yml``."""

    pipeline: Name
    description: str = ""
    trust: bool = Field(default=False, description="SQL of this spec may do whatever Spark can: run programs, call Java, read paths")
    vars: dict[str, Scalar] = Field(default={})
    lake: str = "./lake"
    registry: RegistryAddress = Field(default=None, description="MLflow's tracking server; absent: a SQLite file in the lake")
    sources: dict[Name, Source] = Field(min_length=1)
    tables: dict[Name, Table] = Field(default={})
    dataset: Dataset
    features: Literal["auto"] | Features = "auto"
    training: Training
    evaluation: Evaluation = Evaluation()
    scoring: Scoring = Scoring()
    monitoring: Monitoring = Monitoring()

    @property
    def task(self) -> Task:
        """The task, as resolved when the spec was loaded."""
        return self.training.task_definition

    @property
    def task_kind(self) -> TaskKind:
        """What a model of the task predicts."""
        return self.task.kind

    @property
    def selection_metric(self) -> str:
        """The metric that the search optimises; where no label is declared, one that needs none."""
        if self.training.metric is None and self.task_kind.recommends and not self.training.implicit:
            return "rmse"  # a model of ratings that is chosen by its ranks may predict no rating at all
        named = self.training.metric or self.training.loss_metric
        return named or self.task.default_metric(has_label=self.dataset.label is not None)

    @property
    def own_metrics(self) -> tuple[Metric, ...]:
        """The metrics of the task that are not built in: of installed packages, and those that the spec names by a dotted path."""
        named = [self.selection_metric, *self.task.metric_names()]
        metrics = [METRICS.get(name) for name in dict.fromkeys(named)]
        return tuple(metric for metric in metrics if not metric.is_built_in)

    @property
    def has_positive_class(self) -> bool:
        """True where one of two label values is the positive class."""
        return self.task_kind.has_two_classes or (self.task_kind.label_judges and self.dataset.label is not None)

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are declared as texts."""
        return () if self.features == "auto" else tuple(name for block in self.features.texts for name in block.columns)

    @property
    def has_texts(self) -> bool:
        """True where columns of text are declared."""
        return bool(self.texts)

    @property
    def families(self) -> dict[str, Family]:
        """The declared families, or the task's default ones that meet the spec's requirements."""
        return self.training.models or {name: {} for name in self._default_families if name not in self.left_out}

    @property
    def left_out(self) -> dict[str, str]:
        """The default families that lack a requirement of the spec, each with the reason."""
        required = self.training.requirements(is_weighted=self.dataset.weight is not None)
        names = () if self.training.models else self._default_families
        reasons = {name: unsupported_reason(name, find_family(name, self.task_kind), required) for name in names}
        return {name: reason for name, reason in reasons.items() if reason}

    @property
    def _default_families(self) -> tuple[str, ...]:
        """The default families of the task; with text features, those that support many slots."""
        names = self.task.text_families if self.has_texts else self.task.families
        if isinstance(self.features, Features) and any(block.is_signed for block in self.features.texts):
            names = tuple(name for name in names if not find_family(name, self.task_kind).needs_nonnegative)
        return names

    @property
    def dataset_table(self) -> str:
        """``gold.<pipeline>_dataset``."""
        return f"gold.{self.pipeline}_dataset"

    @property
    def predictions_table(self) -> str:
        """``gold.<pipeline>_predictions``."""
        return f"gold.{self.pipeline}_predictions"

    @property
    def recommendations_table(self) -> str:
        """``gold.<pipeline>_recommendations``, of the task recommendation."""
        return f"gold.{self.pipeline}_recommendations"

    @property
    def model_name(self) -> str:
        """``models.<pipeline>``: the name under which steps hand a model version on, beside their tables."""
        return f"models.{self.pipeline}"
