"""What every block of a spec is made of: the base model, the kinds of names, and the words that are known."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
ColumnName = Annotated[str, StringConstraints(min_length=1)]
"""A column of the dataset; unlike a name of the spec's own it may hold any character."""
DottedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
TableName = Annotated[str, StringConstraints(pattern=r"^(bronze|silver|gold)\.[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Duration = Annotated[str, StringConstraints(pattern=r"^\d+\s*(s|m|h|d)$")]
Share = Annotated[float, Field(ge=0, le=1)]
Scalar = bool | int | float | str
Span = Duration | Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A stretch of time: a duration, or a number in the unit of a time that is a number."""

_MICROSECONDS = {"s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}

SOURCE_FORMATS = ("csv", "tsv", "json", "parquet", "orc", "avro", "xml", "text", "binaryFile", "delta", "jdbc", "kafka")
WITHOUT_FILES = frozenset({"jdbc", "kafka", "delta"})
RECOMMENDATION = "recommendation"
TASKS = ("binary", "multiclass", "regression", "clustering", "anomaly", RECOMMENDATION)
NUMERIC_LABEL = frozenset({"regression", RECOMMENDATION})
"""Tasks whose label is a number, not a class."""
RANKING = ("ndcgAtK", "meanAveragePrecisionAtK", "precisionAtK", "recallAtK")
METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("areaUnderPR", "areaUnderROC", "accuracy", "f1", "logLoss"),
    "multiclass": ("f1", "accuracy", "logLoss"),
    "regression": ("rmse", "mae", "r2", "quantileLoss"),
    "clustering": ("silhouette",),
    "anomaly": ("areaUnderPR", "areaUnderROC", "massVolume"),
    RECOMMENDATION: (*RANKING, "rmse", "mae", "coverage"),
}
QUANTILE_LOSS = "quantileLoss"
"""A metric of regressions with ``loss: {quantile: …}`` alone."""
MINIMISED = frozenset({"logLoss", "rmse", "mae", "massVolume", QUANTILE_LOSS})
# What may be named, what is tried where a spec names none, and that where it declares texts.
FAMILIES: dict[str, tuple[str, ...]] = {
    "binary": (
        "logistic_regression", "random_forest", "gradient_boosted_trees", "linear_svm", "naive_bayes", "multilayer_perceptron",
        "factorization_machines", "hist_gradient_boosting", "xgboost", "lightgbm",
    ),
    "multiclass": (
        "logistic_regression", "random_forest", "gradient_boosted_trees", "linear_svm", "naive_bayes", "multilayer_perceptron",
        "hist_gradient_boosting", "xgboost", "lightgbm",
    ),
    "regression": (
        "linear_regression", "random_forest", "gradient_boosted_trees", "factorization_machines", "hist_gradient_boosting",
        "xgboost", "lightgbm",
    ),
    "clustering": ("kmeans", "bisecting_kmeans", "gaussian_mixture"),
    "anomaly": ("isolation_forest", "gaussian_mixture"),
    RECOMMENDATION: ("als",),
}  # fmt: skip
DEFAULT_FAMILIES: dict[str, tuple[str, ...]] = {
    "binary": ("logistic_regression", "random_forest", "gradient_boosted_trees"),
    "multiclass": ("logistic_regression", "random_forest", "gradient_boosted_trees"),
    "regression": ("linear_regression", "random_forest", "gradient_boosted_trees"),
    "clustering": ("kmeans", "bisecting_kmeans", "gaussian_mixture"),
    "anomaly": ("isolation_forest", "gaussian_mixture"),
    RECOMMENDATION: ("als",),
}
TEXT_FAMILIES: dict[str, tuple[str, ...]] = {
    "binary": ("linear_svm", "logistic_regression", "naive_bayes"),
    "multiclass": ("linear_svm", "logistic_regression", "naive_bayes"),
    "regression": ("linear_regression",),
    "clustering": ("kmeans", "bisecting_kmeans"),
    "anomaly": ("isolation_forest",),
    RECOMMENDATION: ("als",),
}


class Block(BaseModel):
    """Base of every block: frozen, no unknown keys, keys as they are written in YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, strict=True, allow_inf_nan=False)


def microseconds(duration: str) -> int:
    """Return the microseconds of ``2h``."""
    return int(duration[:-1]) * _MICROSECONDS[duration[-1]]


def seconds(duration: str | None) -> float | None:
    """Return the seconds of ``2h``; None of None."""
    return None if duration is None else microseconds(duration) / 1e6
