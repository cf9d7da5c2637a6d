"""The `training` block: task, families, search spaces, tuner, folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PrivateAttr, Tag, ValidationError

from tidemill.errors import UsageError
from tidemill.families import ENGINES, Engine, Requirements
from tidemill.families.space import Range, Scalar, Space
from tidemill.options import Block, ColumnName, DottedName, Duration, Name, Problem, Share
from tidemill.spec.loading.document import Key, Node
from tidemill.spec.models.features import Features
from tidemill.tasks import QUANTILE_LOSS, TASKS, Task


class CustomFamily(Block):
    """An estimator of the user's own as a model family."""

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

    task: str = Field(description="the name of a task, or the dotted path of a custom one")
    metric: str | None = Field(
        default=None,
        description="a metric, or the dotted path of a custom one; absent: areaUnderPR (binary), f1 (multiclass), rmse or the metric of "
        "`loss` (regression), silhouette (clustering), for anomaly areaUnderPR where the dataset has a label, else massVolume, for "
        "recommendation rmse, or ndcgAtK where it is implicit",
    )
    folds: int = Field(default=3, ge=2, le=50)
    engine: str = Field(default="auto", description="auto, spark or tasks, or the dotted path of a custom one")
    tuner: Tuner = Tuner()
    select: Literal["best", "one_standard_error"] = "best"
    models: dict[Name | DottedName, Family] = Field(default={})
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

    _task: Task | None = PrivateAttr(default=None)
    _engine: Engine | None = PrivateAttr(default=None)

    def problems(self) -> Iterator[Problem]:
        """Yield an unknown task, or an unknown engine."""
        try:
            self._task = TASKS.get(self.task)
        except UsageError as error:
            yield ("task",), str(error)
        try:
            self._engine = ENGINES.get(self.engine)
        except UsageError as error:
            yield ("engine",), str(error)

    @property
    def task_definition(self) -> Task:
        """The task, as resolved when the spec was loaded."""
        return self._task or TASKS.get(self.task)

    @property
    def engine_definition(self) -> Engine:
        """The engine, as resolved when the spec was loaded."""
        return self._engine or ENGINES.get(self.engine)

    @property
    def loss_metric(self) -> str | None:
        """The metric of the loss, None for the squared loss."""
        return {"absolute": "mae", "quantile": QUANTILE_LOSS}.get(self.loss_kind)

    @property
    def quantile(self) -> float | None:
        """The quantile that is learned, if one is."""
        return self.loss.quantile if isinstance(self.loss, Quantile) else None

    @property
    def loss_kind(self) -> str:
        """``squared``, ``absolute`` or ``quantile``."""
        return "quantile" if isinstance(self.loss, Quantile) else self.loss

    def requirements(self, *, is_weighted: bool) -> Requirements:
        """Return what a family must be able to do; ``is_weighted``: rows have weights."""
        return Requirements(self.engine_definition.required_way, bool(self.monotone), self.loss_kind, is_weighted)

    @property
    def items_each(self) -> int:
        """K: how many items a user is recommended, and how many of them the metrics look at."""
        return self.at or 10


PREFIX = "features."
"""The prefix of feature paths among the parameters of a trial."""


def with_values(features: Features, values: Mapping[str, Scalar]) -> Features:
    """Return the block with each of ``values`` at its path.

    A part of a path is a key, the place of a block in a list (from 0), or the name of a stage of texts.

    Raises:
        ValueError: a path does not exist or names columns, or the block does not accept the value.
    """
    plain = features.model_dump(mode="json", by_alias=True, exclude_none=True)
    for path, value in values.items():
        _put(plain, path, value)
    try:
        return Features.model_validate(plain, by_alias=True, by_name=False)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False)
        shown = ", ".join(f"{path}: {value!r}" for path, value in values.items())
        why = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"]
        raise ValueError(f"{shown} does not fit into `features`: {why}") from error


def value_problems(root: Node) -> Iterator[tuple[tuple[Key, ...], str]]:
    """Yield faults of ``training.features``: unknown paths, and values that do not fit."""
    declared = root.at("training", "features")
    if declared is None or not declared.mapping:
        return
    block = root.at("features")
    if block is None or not block.mapping:
        yield ("training", "features"), "`features` is `auto`, which chooses by itself; declare the groups that are to be tuned"
        return
    try:
        features = Features.model_validate(block.plain(), by_alias=True, by_name=False)
    except ValidationError:
        return  # its own faults come first
    for path, node in declared.mapping.items():
        for value in _extremes(node):
            try:
                with_values(features, {path: value})
            except ValueError as error:
                yield ("training", "features", path), str(error)
                break


def _extremes(node: Node) -> list[Any]:
    inner = next(iter(node.mapping.values()), node)
    return [item.value for item in inner.items] if inner.items else [inner.value]


def _put(plain: Any, path: str, value: Scalar) -> None:
    *parents, last = path.split(".")
    block: Any = plain
    for part in parents:
        block = _child(block, part, path)
    if last == "columns" or not parents:
        raise ValueError(f"{path!r} is no parameter of a feature group; write such as `numeric.scale`")
    if not isinstance(block, dict):
        raise ValueError(f"there is no {path!r} in `features`: {parents[-1]!r} has several blocks; say which, such as `numeric.0.scale`")
    block[last] = value


def _child(block: Any, part: str, path: str) -> Any:
    """Return the block at a part of a path; a stage given by name becomes a block."""
    if isinstance(block, dict) and block.get(part) is not None:
        return block[part]
    if isinstance(block, list):
        for place, item in enumerate(block):
            if str(place) == part or item == part or (isinstance(item, dict) and list(item) == [part]):
                block[place] = {part: {}} if isinstance(item, str) else item
                return block[place].get(part, block[place])
    raise ValueError(f"there is no {path!r} in `features`: nothing is declared at {part!r}")
