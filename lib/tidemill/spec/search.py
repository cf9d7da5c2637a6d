"""The block of a spec that says how models are searched: families, spaces, tuner, folds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from tidemill.spec.abilities import Needs
from tidemill.spec.blocks import QUANTILE_LOSS, Block, ColumnName, DottedName, Duration, Name, Scalar, Share

Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]


class LogRange(Block):
    """Real numbers between two bounds, evenly spread over their logarithms."""

    log: Bounds


class IntRange(Block):
    """Whole numbers between two bounds, both included."""

    int: Annotated[list[int], Field(min_length=2, max_length=2)]


class FloatRange(Block):
    """Real numbers between two bounds."""

    float: Bounds


def _range_kind(value: object) -> str:
    if isinstance(value, dict):
        return next((kind for kind in ("int", "float") if kind in value), "log")
    if isinstance(value, Block):
        return {LogRange: "log", IntRange: "int", FloatRange: "float"}[type(value)]
    return "choices" if isinstance(value, list) else "fixed"


Range = Annotated[
    Annotated[LogRange, Tag("log")]
    | Annotated[IntRange, Tag("int")]
    | Annotated[FloatRange, Tag("float")]
    | Annotated[list[Scalar], Field(min_length=1), Tag("choices")]
    | Annotated[Scalar, Tag("fixed")],
    Discriminator(_range_kind),
]
Space = dict[str, Range]


class CustomFamily(Block):
    """A model family of the user's own."""

    python: DottedName
    space: Space = Field(default={})


def _family_kind(value: object) -> str:
    return "custom" if isinstance(value, CustomFamily) or (isinstance(value, dict) and "python" in value) else "space"


Family = Annotated[Annotated[CustomFamily, Tag("custom")] | Annotated[Space, Tag("space")], Discriminator(_family_kind)]


class Tuner(Block):
    """How the search space is walked; ``trials`` is the number of parameter sets of the whole run, spread over the families."""

    strategy: Literal["grid", "random", "tpe", "qmc"] = "random"
    trials: int | None = Field(default=None, gt=0, description="absent: 12 for random search, the whole grid for grid search")
    timeout: Duration | None = Field(default=None, description="no trial begins after it")
    trial_timeout: Duration | None = Field(
        default=None, description="a fit that takes longer is stopped: its trial has failed, a final fit fails the step"
    )
    seed: int = 7
    parallelism: int | None = Field(default=None, gt=0, le=256, description="fits, or folds of the engine tasks, side by side; absent: 2")
    early_stopping: Literal["hyperband", "none"] = "none"


class Threshold(Block):
    """Where a probability becomes the positive class."""

    maximise: Literal["f1", "accuracy"] | None = None
    at_precision: Share | None = None
    at_recall: Share | None = None


class Quantile(Block):
    """The loss whose best constant is a quantile of the label."""

    quantile: Annotated[float, Field(gt=0, lt=1)]


class Training(Block):
    """The search: families, their spaces, folds and metric."""

    task: Literal["binary", "multiclass", "regression", "clustering", "anomaly", "recommendation"]
    metric: str | None = Field(
        default=None,
        description="absent: areaUnderPR (binary), f1 (multiclass), rmse or what goes with `loss` (regression), silhouette "
        "(clustering), for anomaly areaUnderPR where the dataset has a label, else massVolume, for recommendation rmse, or ndcgAtK "
        "where it is implicit",
    )
    folds: int = Field(default=3, ge=2, le=50)
    engine: Literal["auto", "spark", "tasks"] = "auto"
    tuner: Tuner = Tuner()
    select: Literal["best", "one_standard_error"] = "best"
    models: dict[Name, Family] = Field(default={})
    features: dict[str, Range] = Field(default={}, description="parameters of feature groups to be tuned, such as `numeric.scale`")
    balance: Literal["none", "weights", "undersample"] = "none"
    calibrate: Literal["none", "isotonic", "sigmoid"] = "none"
    threshold: Threshold | None = None
    ensemble: Literal["none", "blend", "stack"] = Field(
        default="none",
        description="the best trials of all families together, where that is better: their weighted mean, or a linear model of them",
    )
    contamination: float = Field(default=0.01, gt=0, le=0.5, description="anomaly: the share of training rows that are called anomalies")
    target: Literal["identity", "log"] = Field(default="identity", description="log: models learn log(1 + label) and give the label back")
    loss: Literal["squared", "absolute"] | Quantile = Field(default="squared", description="what a regression minimises")
    monotone: dict[ColumnName, Literal["increasing", "decreasing"]] = Field(
        default={}, description="how predictions may go with a numeric column, all others being equal"
    )
    user: ColumnName | None = Field(default=None, description="recommendation: the column that says who")
    item: ColumnName | None = Field(default=None, description="recommendation: the column that says what")
    implicit: bool | None = Field(default=None, description="recommendation: the label counts what was done; absent: it is a rating")
    at: int | None = Field(default=None, gt=0, le=1000, description="recommendation: K of the metrics and of the items a user gets; 10")
    relevant: float | None = Field(default=None, description="recommendation: the least rating that counts; absent: the training's mean")

    @property
    def loss_metric(self) -> str | None:
        """The metric that goes with the loss, where that is not the squared one."""
        return {"absolute": "mae", "quantile": QUANTILE_LOSS}.get(self.loss_kind)

    @property
    def quantile(self) -> float | None:
        """The quantile that is learned, if one is."""
        return self.loss.quantile if isinstance(self.loss, Quantile) else None

    @property
    def loss_kind(self) -> str:
        """``squared``, ``absolute`` or ``quantile``."""
        return "quantile" if isinstance(self.loss, Quantile) else self.loss

    def needs(self, *, is_weighted: bool) -> Needs:
        """Return what a family has to be able to do; ``is_weighted``: rows have weights."""
        return Needs(self.engine, bool(self.monotone), self.loss_kind, is_weighted)

    @property
    def items_each(self) -> int:
        """K: how many items a user is recommended, and how many of them the metrics look at."""
        return self.at or 10
