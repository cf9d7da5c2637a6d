"""Metrics by name: the task kinds of each, which direction is better, and its formula.

The engines and the evaluate step compute the same counts of the predictions, in Spark or from arrays (`tidemill.evaluation.counts`), and a
metric is a formula of these counts. So its value does not depend on the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple

from tidemill.extensions import Registry, describe

if TYPE_CHECKING:
    import numpy as np

    from tidemill.tasks.task import TaskKind


class PredictedRows(NamedTuple):
    """Rows with their predictions, as arrays of the same length.

    ``label`` and ``prediction`` are class indices or values; ``probability`` has a column for each class, and none for a regression.
    """

    label: np.ndarray
    prediction: np.ndarray
    probability: np.ndarray


Terms = Callable[[PredictedRows], "Mapping[str, np.ndarray]"]
Formula = Callable[[Any], "float | None"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric.

    Args:
        name: the name in a spec, in gates and in tables: that of the registry, or the dotted path.
        tasks: the kinds of task whose models it measures.
        value: computes the metric from the counts of a kind (`tidemill.evaluation.counts`), or None if the spec does not require it.
            Without a formula, the evaluator of the task measures it.
        terms: what the metric needs besides the counts: name → a number for each row. Their weighted sums are ``counts.sums``.
        greater_is_better: False if less is better.
        needs_label: False if no label is needed, which only built-in metrics without a formula can be.
        is_built_in: True for those that come with tidemill.
        is_best_by_constant: True if a constant prediction reaches the best value, so that it is no baseline.
    """

    name: str
    tasks: frozenset[str]
    value: Formula | None = None
    terms: Terms | None = None
    greater_is_better: bool = True
    needs_label: bool = True
    is_built_in: bool = False
    is_best_by_constant: bool = False


QUANTILE_LOSS = "quantileLoss"
"""A metric of regressions with ``loss: {quantile: …}`` only."""
_LEVELS = (75, 90, 95, 99)
ERROR_QUANTILES = tuple(f"absoluteErrorQuantile{level}" for level in _LEVELS)
"""The absolute error that so many per cent of the rows do not exceed."""
RANKING = ("ndcgAtK", "meanAveragePrecisionAtK", "precisionAtK", "recallAtK")


_CLASSES = ("binary", "multiclass")
_BUILT_IN: dict[str, tuple[tuple[str, ...], Formula | None]] = {
    "areaUnderPR": (("binary", "anomaly"), attrgetter("area_under_pr")),
    "areaUnderROC": (("binary", "anomaly"), attrgetter("area_under_roc")),
    "averagePrecision": (("binary", "anomaly"), attrgetter("average_precision")),
    "accuracy": (_CLASSES, attrgetter("accuracy")),
    "balancedAccuracy": (_CLASSES, attrgetter("balanced_accuracy")),
    "f1": (_CLASSES, attrgetter("f1")),
    "macroF1": (("multiclass",), attrgetter("macro_f1")),
    "precision": (("binary",), attrgetter("precision")),
    "recall": (("binary",), attrgetter("recall")),
    "specificity": (("binary",), attrgetter("specificity")),
    "falsePositiveRate": (("binary",), attrgetter("false_positive_rate")),
    "selectionRate": (("binary",), attrgetter("selection_rate")),
    "mcc": (_CLASSES, attrgetter("mcc")),
    **{f"top{k}Accuracy": (("multiclass",), methodcaller("top_accuracy", k)) for k in (2, 3, 5)},
    "logLoss": (_CLASSES, attrgetter("log_loss")),
    "brier": (("binary",), attrgetter("brier")),
    "expectedCalibrationError": (("binary",), attrgetter("expected_calibration_error")),
    "rmse": (("regression", "recommendation"), attrgetter("rmse")),
    "mae": (("regression", "recommendation"), attrgetter("mae")),
    "r2": (("regression",), attrgetter("r2")),
    "mape": (("regression",), attrgetter("mape")),
    "medianAbsoluteError": (("regression",), methodcaller("absolute_error", 50)),
    **{name: (("regression",), methodcaller("absolute_error", level)) for level, name in zip(_LEVELS, ERROR_QUANTILES, strict=True)},
    QUANTILE_LOSS: (("regression",), attrgetter("quantile_loss")),
    "silhouette": (("clustering",), None),
    "massVolume": (("anomaly",), None),
    **dict.fromkeys((*RANKING, "coverage"), (("recommendation",), None)),
}
_MINIMISED = frozenset(
    {
        *("logLoss", "brier", "expectedCalibrationError", "falsePositiveRate", "massVolume"),
        *("rmse", "mae", "mape", "medianAbsoluteError", *ERROR_QUANTILES, QUANTILE_LOSS),
    }
)
_WITHOUT_LABEL = frozenset({"silhouette", "massVolume"})
_BEST_BY_CONSTANT = frozenset({"recall", "specificity", "falsePositiveRate", "selectionRate", "expectedCalibrationError"})


_WITH_COUNTS = (*_CLASSES, "regression", "anomaly")


def _accept(name: str, candidate: Any) -> Metric:
    """Return a built-in Metric; build one from a Metric, a class or an instance, with ``tasks``, ``value`` and perhaps ``terms``.

    A custom metric always needs a label, since counts do.
    """
    if isinstance(candidate, Metric) and name in _BUILT_IN:
        return candidate
    declared = candidate() if isinstance(candidate, type) else candidate
    tasks, value, terms = (getattr(declared, key, None) for key in ("tasks", "value", "terms"))
    if isinstance(tasks, str) or not tasks or not callable(value):
        raise TypeError(f"expected `tasks`, a tuple of names such as 'binary', and a method `value(counts)`, found {describe(candidate)}")
    unknown = sorted(set(map(str, tasks)) - set(_WITH_COUNTS))
    if unknown:
        raise TypeError(f"its `tasks` name {', '.join(unknown)}, expected some of {', '.join(_WITH_COUNTS)}")
    if terms is not None and not callable(terms):
        raise TypeError(f"its `terms` must be a method `terms(rows)`, found {describe(terms)}")
    return Metric(
        name=name,
        tasks=frozenset(map(str, tasks)),
        value=value,
        terms=terms,
        greater_is_better=bool(getattr(declared, "greater_is_better", True)),
    )


METRICS: Registry[Metric] = Registry(
    "metric",
    "tidemill.metrics",
    {
        name: Metric(
            name=name,
            tasks=frozenset(tasks),
            value=formula,
            greater_is_better=name not in _MINIMISED,
            needs_label=name not in _WITHOUT_LABEL,
            is_built_in=True,
            is_best_by_constant=name in _BEST_BY_CONSTANT,
        )
        for name, (tasks, formula) in _BUILT_IN.items()
    },
    _accept,
)


def metrics_of(kind: TaskKind | str) -> list[Metric]:
    """Return the metrics of a task kind that need no dotted path; those of packages that cannot be imported are left out."""
    metrics = METRICS.usable()
    return [metric for metric in metrics.values() if str(kind) in metric.tasks]


def is_minimised(name: str) -> bool:
    """Return True if a smaller value is better."""
    return not METRICS.get(name).greater_is_better


def reads_error_quantiles(name: str) -> bool:
    """Return True for a metric that is a quantile of the absolute error, which Spark computes on request."""
    return name in ("medianAbsoluteError", *ERROR_QUANTILES)
