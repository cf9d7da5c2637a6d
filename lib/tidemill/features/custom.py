"""Custom stages: any Transformer or Estimator, named by its dotted path, fitted inside the fold like every other stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.ml import Estimator, Transformer
from pyspark.ml.feature import VectorSizeHint
from pyspark.ml.linalg import VectorUDT
from pyspark.ml.util import MLWritable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.errors import Fault, SpecError, StepError, TidemillError, did_you_mean
from tidemill.features.names import internal_name, number_sql
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.runtime.user_code import contain_exit

if TYPE_CHECKING:
    from tidemill.features.groups.custom import PythonPart

_SEED = 7


@dataclass(frozen=True)
class CustomStage:
    """One entry of ``features.custom``: its class, its parameters, and the raw columns that it reads."""

    python: str
    kind: Callable[..., Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    key: str = "features.custom"  # where the spec names it

    def build(self) -> Any:
        """Return the stage with its parameters; a stage with a seed that is not set gets a fixed one.

        Raises:
            StepError: the constructor fails, or the object is no stage.
        """
        try:
            with contain_exit(f"{self.key}: {self.python}"):
                stage = self._construct()
        except TidemillError:
            raise
        except Exception as error:
            raise StepError(f"{self.key}: {self.python} cannot be constructed with its params: {type(error).__name__}: {error}") from error
        if not isinstance(stage, Transformer | Estimator):
            raise StepError(f"{self.key}: {self.python} is {type(stage).__name__}, expected a Transformer or Estimator of pyspark.ml")
        if stage.hasParam("seed") and "seed" not in self.params:
            stage.set(stage.getParam("seed"), _SEED)
        return stage

    def fit(self, stage: Any, df: DataFrame) -> Any:
        """Fit ``stage`` on ``df`` and return the model; a Transformer is returned as it is."""
        return stage.fit(df) if isinstance(stage, Estimator) else stage

    def _construct(self) -> Any:
        try:
            return self.kind(**self.params)
        except TypeError:
            stage = self.kind()  # the constructor takes no arguments: set its Params
        known = [param.name for param in getattr(stage, "params", [])]
        unknown = [name for name in self.params if name not in known]
        if unknown:
            raise StepError(
                f"{self.key}: {self.python} has no parameter {unknown[0]!r}{did_you_mean(unknown[0], known)}; "
                f"it has {', '.join(known) or 'none'}"
            )
        for name, value in self.params.items():
            stage.set(stage.getParam(name), value)
        return stage


@dataclass(frozen=True)
class FittedStages:
    """The fitted custom stages, their slots (name to SQL), vector columns, and all columns they add."""

    stages: Sequence[Transformer]
    slots: Mapping[str, str]
    vectors: Sequence[str]
    added: Sequence[str]


def plan_custom(parts: Sequence[PythonPart], load: Callable[[str], Any] | None, df: DataFrame, usable: Sequence[str]) -> list[CustomStage]:
    """Return the declared stages, each with the raw columns that it reads.

    These are its ``columns``; else those that its ``params`` name; else, for a Transformer, those without which Spark cannot analyse it,
    and for an Estimator all usable columns.

    Raises:
        SpecError: a stage names a column that is missing or must not be a feature.
    """
    faults, stages = [], []
    for place, part in enumerate(parts):
        missing = [name for name in part.columns if name not in usable]
        for name in missing:
            message = f"column {name!r} is not in the dataset, or cannot be a feature{did_you_mean(name, usable)}"
            faults.append(Fault("pipeline.yml", None, f"features.custom.{place}.columns", message))
        if load is None:
            raise StepError(f"features.custom: {part.python} cannot be loaded here")
        stage = CustomStage(part.python, load(part.python), dict(part.params), tuple(name for name in part.named_columns if name in usable))
        if not part.named_columns and not missing:
            with contain_exit(f"features.custom: {part.python}"):
                needed = _find_needed_columns(stage.build(), df, usable)
            stage = CustomStage(part.python, stage.kind, stage.params, tuple(needed))
        stages.append(stage)
    if faults:
        raise SpecError(faults)
    return stages


def is_user_code(stage: Any) -> bool:
    """Return True if ``stage.kind`` is defined beside the spec, not in an installed package: its source is saved with the model."""
    return str(getattr(stage.kind, "__module__", "")).startswith("_tidemill_")


def fit_custom(stages: Sequence[CustomStage], df: DataFrame) -> tuple[FittedStages, DataFrame]:
    """Fit each stage on ``df`` with the columns of the earlier stages; return the fitted stages and the frame with their columns.

    A number or boolean that they add is a slot, 0 where it is null or not finite; a vector has one slot per element.

    Raises:
        StepError: a stage fails, adds no column, drops one, or cannot be saved, or no stage adds a number or a vector.
    """
    fitted: list[Transformer] = []
    slots: dict[str, str] = {}
    vectors: list[str] = []
    added: list[str] = []
    for custom in stages:
        stage = custom.build()
        try:
            with contain_exit(f"features.custom: {custom.python}"):
                model = custom.fit(stage, df)
                after = model.transform(df)
        except TidemillError:
            raise
        except Exception as error:
            raise StepError(f"features.custom: {custom.python} failed: {type(error).__name__}: {format_spark_error(error)}") from error
        new = [name for name in after.columns if name not in df.columns]
        _check(custom, model, df, after, new)
        fitted.append(model)
        for name in new:
            if isinstance(after.schema[name].dataType, VectorUDT):
                fitted.append(VectorSizeHint(inputCol=name, size=_size(custom, after, name), handleInvalid="error"))
                vectors.append(name)
            elif isinstance(after.schema[name].dataType, T.NumericType | T.BooleanType):
                slots[internal_name("custom", name)] = f"coalesce({number_sql(name)}, 0.0D)"
        added += new
        df = after
    if stages and not slots and not vectors:
        raise StepError("features.custom: no stage adds a number or a vector; the last one must, since a model takes only those")
    return FittedStages(fitted, slots, vectors, added), df


def _check(custom: CustomStage, model: Any, before: DataFrame, after: DataFrame, new: Sequence[str]) -> None:
    lost = [name for name in before.columns if name not in after.columns]
    if lost:
        raise StepError(f"features.custom: {custom.python} drops the column {lost[0]!r}; a stage adds columns and keeps all others")
    if not new:
        raise StepError(f"features.custom: {custom.python} adds no column; give its output a name that the dataset does not have")
    if not isinstance(model, MLWritable):
        raise StepError(
            f"features.custom: {type(model).__name__} of {custom.python} cannot be saved with the model; let it inherit "
            "DefaultParamsReadable and DefaultParamsWritable of pyspark.ml.util"
        )


def _size(custom: CustomStage, after: DataFrame, name: str) -> int:
    row = after.where(column(name).isNotNull()).select(column(name)).first()
    if row is None:
        raise StepError(f"features.custom: {custom.python} leaves {name!r} null in every training row; expected a vector")
    return len(row[0])


def _find_needed_columns(stage: Any, df: DataFrame, usable: Sequence[str]) -> list[str]:
    """Return the columns without which Spark cannot analyse a Transformer; all columns for an Estimator."""
    if isinstance(stage, Estimator):
        return list(usable)
    empty = df.limit(0)
    return [name for name in usable if not _can_analyse(stage, empty.select(*[column(other) for other in usable if other != name]))]


def _can_analyse(stage: Transformer, df: DataFrame) -> bool:
    try:
        return bool(stage.transform(df).select(F.lit(1)).schema)
    except (AnalysisException, LookupError, ValueError, AttributeError):
        return False
    except Exception as error:  # noqa: BLE001 - MLlib stages report a missing column in various ways
        return "does not exist" not in str(error) and "cannot be resolved" not in str(error)
