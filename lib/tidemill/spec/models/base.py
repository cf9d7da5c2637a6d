"""What every block of a spec is made of: the base model, the kinds of names, and the words that are known."""

from __future__ import annotations

from tidemill.options import Block, ColumnName, DottedName, Duration, Name, Scalar, Share, Span, TableName, microseconds, seconds

__all__ = ["Block", "ColumnName", "DottedName", "Duration", "Name", "Scalar", "Share", "Span", "TableName", "microseconds", "seconds"]

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
# What is tried where a spec names no family, and where it declares texts.
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
