"""Fits as Spark tasks: the fit that is sent to a worker, its work, and its results."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tidemill.evaluation.arrays import compute_array_metrics
from tidemill.evaluation.mass_volume import MAX_ROWS, mass_volume
from tidemill.learners.base import Learner, Linear, Predictor, Rows, Setting, library
from tidemill.learners.boosting import EarlyStoppedModel
from tidemill.learners.outliers import to_dense
from tidemill.runtime.caching import WORKER_CACHE, limit_to_one_thread
from tidemill.tasks import Metric
from tidemill.training.balance import correct_probabilities
from tidemill.training.engines.fold_matrix import HELD_OUT, TRAIN, FoldMatrix, MatrixRows, open_rows
from tidemill.training.engines.timeouts import TimedOut, call_in_child
from tidemill.training.out_of_fold import (
    HISTOGRAM_SCHEMA,
    MAX_SCORES,
    ScoreHistogram,
    count_scores,
    list_counted_classes,
    read_histograms,
    to_record_batch,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_OUTCOME = "trial INT, metrics STRING, seconds DOUBLE, score_seconds DOUBLE, error STRING, rounds INT"
_MODEL = "weights ARRAY<DOUBLE>, biases ARRAY<DOUBLE>, dumped BINARY, has_timed_out BOOLEAN"


@dataclass(frozen=True)
class Fit:
    """One fit on the training rows of ``matrix``, shared by all of ``settings`` (trial → setting).

    ``share`` is the share of the training rows, the first in their order. Predicted probabilities are corrected by ``factors``, where
    there are any. The fit may take ``limit`` seconds; None sets no limit. ``own_metrics`` are computed besides the built-in ones.
    """

    matrix: FoldMatrix
    learner: Learner
    encoding: str
    settings: Mapping[int, Setting]
    nominal: Mapping[int, int] = field(default_factory=dict)
    share: float = 1.0
    factors: tuple[float, ...] = ()
    limit: float | None = None
    own_metrics: tuple[Metric, ...] = ()

    @property
    def setting(self) -> Setting:
        """The setting of a fit with a single one."""
        return next(iter(self.settings.values()))

    @property
    def library(self) -> str:
        """The name and version of the library that fits it."""
        return library(self.learner.fitting_package(self.setting.task, self.matrix.slots_of(self.encoding)))

    def split_settings(self) -> list[Fit]:
        """Return one fit per setting."""
        return [replace(self, settings={trial: setting}) for trial, setting in self.settings.items()]


@dataclass(frozen=True)
class Outcome:
    """The result of a trial on one fold; ``metrics`` is empty where there is an ``error``.

    ``library`` fitted it, None where unknown; ``rounds`` is the number of boosting rounds that early stopping on the held-out rows chose.
    """

    trial: int
    metrics: Mapping[str, float]
    seconds: float
    score_seconds: float
    error: str | None
    library: str | None = None
    rounds: int | None = None


def run_fits(spark: SparkSession, fits: Sequence[Fit]) -> list[Outcome]:
    """Run the fits as one Spark job, each in a Spark task; return an outcome for each of their trials, in order."""

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                outcomes = measure_fit(fits[number])
                columns = {
                    "trial": pa.array([outcome.trial for outcome in outcomes], pa.int32()),
                    "metrics": [json.dumps(dict(outcome.metrics)) for outcome in outcomes],
                    "seconds": [outcome.seconds for outcome in outcomes],
                    "score_seconds": [outcome.score_seconds for outcome in outcomes],
                    "error": pa.array([outcome.error for outcome in outcomes], pa.string()),
                    "rounds": pa.array([outcome.rounds for outcome in outcomes], pa.int32()),
                }
                yield pa.RecordBatch.from_pydict(columns)

    rows = spark.range(0, len(fits), 1, len(fits)).mapInArrow(work, _OUTCOME).toArrow().to_pylist()
    return [Outcome(**{**row, "metrics": json.loads(row["metrics"])}) for row in rows]


def measure_fit(fit: Fit) -> list[Outcome]:
    """Fit and score the held-out rows; runs in a worker. Any failure becomes the outcome of the setting that caused it.

    A fit with a limit runs in a child process, so that nothing it computes from the rows is cached for the next fit.
    """
    started = time.perf_counter()
    try:
        rows = _training_rows(fit)
        if fit.limit is not None:
            unlimited = replace(fit, limit=None)
            return call_in_child(fit.limit, lambda: measure_fit(unlimited))
        with limit_to_one_thread():
            models = list(fit.learner.fit_each(rows, list(fit.settings.values()), lambda: _held_out_rows(fit)))
        held_out = open_rows(fit.matrix, fit.encoding, HELD_OUT, fit.learner.layout)
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        if len(fit.settings) > 1:
            return [outcome for each in fit.split_settings() for outcome in measure_fit(each)]
        return [Outcome(trial, {}, time.perf_counter() - started, 0.0, _format_error(error)) for trial in fit.settings]
    fit_seconds = (time.perf_counter() - started) / len(fit.settings)
    return [_score(model, fit, held_out, trial, fit_seconds) for trial, model in zip(fit.settings, models, strict=True)]


def _score(model: Predictor, fit: Fit, held_out: MatrixRows, trial: int, fit_seconds: float) -> Outcome:
    started = time.perf_counter()
    try:
        with limit_to_one_thread():
            predicted = _predict(model, fit, held_out.features)
        score_seconds = time.perf_counter() - started
        metrics = _compute_fit_metrics(model, fit, held_out, predicted)
    except Exception as error:  # noqa: BLE001 - as above
        return Outcome(trial, {}, fit_seconds + time.perf_counter() - started, 0.0, _format_error(error))
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    rounds = model.rounds if isinstance(model, EarlyStoppedModel) else None
    return Outcome(trial, finite, fit_seconds + time.perf_counter() - started, score_seconds, None, rounds=rounds)


def _compute_fit_metrics(model: Predictor, fit: Fit, held_out: MatrixRows, predicted: np.ndarray) -> Mapping[str, float]:
    """Return the metrics of predictions; for anomalies without a label the mass volume."""
    labels, setting = np.asarray(held_out.labels), fit.setting
    if setting.task.finds_anomalies and np.isnan(labels).all():
        rows_to_measure = to_dense(held_out.features[:MAX_ROWS])
        with limit_to_one_thread():
            return {"massVolume": mass_volume(lambda rows: model.predict(rows)[:, 1], rows_to_measure, setting.seed)}
    if setting.target == "log":
        labels, predicted = np.expm1(labels), np.expm1(predicted)
    return compute_array_metrics(labels, predicted, setting.task, row_weights(held_out), setting.quantile, fit.own_metrics)


def _predict(model: Predictor, fit: Fit, features: Any) -> np.ndarray:
    predictions = model.predict(features)
    return correct_probabilities(predictions, fit.factors) if fit.factors else predictions


def predict_held_out(fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Fit, and return labels, predictions and weights of the held-out rows; runs in a worker.

    Raises:
        Exception: the fit failed, or took longer than its limit.
    """
    if fit.limit is not None:
        unlimited = replace(fit, limit=None)
        return call_in_child(fit.limit, lambda: predict_held_out(unlimited))
    with limit_to_one_thread():
        scorer = fit.learner.fit(_training_rows(fit), fit.setting)
        held_out = open_rows(fit.matrix, fit.encoding, HELD_OUT, fit.learner.layout)
        labels, predicted = np.asarray(held_out.labels), _predict(scorer, fit, held_out.features)
    if fit.setting.target == "log":
        labels, predicted = np.expm1(labels), np.expm1(predicted)
    return labels, predicted, row_weights(held_out)


def run_counts(spark: SparkSession, fits: Sequence[Fit]) -> list[ScoreHistogram]:
    """Fit each, and return the histograms of all their predictions of held-out rows; see `out_of_fold.count_scores`.

    Raises:
        Exception: a fit failed.
    """

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                labels, predicted, weights = predict_held_out(fits[number])
                for place, histogram in zip(classes, count_scores(labels, predicted, weights, max_scores), strict=True):
                    yield to_record_batch(place, histogram)

    classes = list_counted_classes(fits[0].setting.n_classes)
    max_scores = MAX_SCORES // len(fits)
    table = spark.range(0, len(fits), 1, len(fits)).mapInArrow(work, HISTOGRAM_SCHEMA).toArrow()
    return read_histograms(table, classes)


def fit_model(spark: SparkSession, fit: Fit) -> Linear | bytes:
    """Fit on all training rows of the matrix, in one Spark task; return a linear model's weights, or the dump of any other.

    Raises:
        TimedOut: the fit took longer than its limit.
        Exception: the fit failed.
    """

    def fit_here() -> Linear | bytes:
        with limit_to_one_thread():
            model = fit.learner.fit(_training_rows(fit), fit.setting)
        return model if isinstance(model, Linear) else model.dump()

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            row: dict[str, list[Any]] = {"weights": [None], "biases": [None], "dumped": [None], "has_timed_out": [False]}
            try:
                model = fit_here() if fit.limit is None else call_in_child(fit.limit, fit_here)
            except TimedOut:  # not raised, so that Spark does not retry it
                yield pa.RecordBatch.from_pydict({**row, "has_timed_out": [True]}, _schema())
                continue
            if isinstance(model, Linear):
                size = len(model.weights)
                row = {"weights": [list(slots) for slots in model.weights], "biases": [list(model.biases)] * size}
                row |= {"dumped": [None] * size, "has_timed_out": [False] * size}
            else:
                row["dumped"] = [model]
            yield pa.RecordBatch.from_pydict(row, _schema())

    table = spark.range(0, 1, 1, 1).mapInArrow(work, _MODEL).toArrow()
    if table["has_timed_out"][0].as_py():
        raise TimedOut(fit.limit or 0.0)
    dumped = table["dumped"][0].as_py()
    if dumped is not None:
        return bytes(dumped)
    weights = table["weights"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    return Linear(weights, np.array(table["biases"][0].as_py()), fit.setting.task)


def _schema() -> pa.Schema:
    lists = pa.list_(pa.float64())
    return pa.schema([("weights", lists), ("biases", lists), ("dumped", pa.binary()), ("has_timed_out", pa.bool_())])


def _training_rows(fit: Fit) -> Rows:
    """Return the share of the training rows; a worker caches the last few sets."""
    key = f"{fit.matrix.name}/{fit.encoding}/{fit.share}"

    def open_training_rows() -> Rows:
        matrix_rows = open_rows(fit.matrix, fit.encoding, TRAIN, fit.learner.layout)
        count = max(1, round(len(matrix_rows.labels) * fit.share))
        weights = row_weights(matrix_rows)
        weights = None if weights is None else weights[:count]
        if count == len(matrix_rows.labels):
            return Rows(matrix_rows.features, matrix_rows.labels, fit.nominal, key, weights)
        return Rows(matrix_rows.features[:count], matrix_rows.labels[:count], fit.nominal, key, weights)

    return WORKER_CACHE.get(key, open_training_rows)


def _held_out_rows(fit: Fit) -> Rows:
    """Return the held-out rows for early stopping, weighted as training rows would be."""
    matrix_rows = open_rows(fit.matrix, fit.encoding, HELD_OUT, fit.learner.layout)
    weights = row_weights(matrix_rows)
    if fit.factors:
        own = 1.0 if weights is None else weights
        weights = own * np.asarray(fit.factors)[np.asarray(matrix_rows.labels, dtype=int)]
    return Rows(matrix_rows.features, matrix_rows.labels, fit.nominal, weights=weights)


def row_weights(matrix_rows: MatrixRows) -> np.ndarray | None:
    """Return the weights of the rows; None where all are 1."""
    return None if (matrix_rows.weights == 1.0).all() else np.asarray(matrix_rows.weights)


def _format_error(error: Exception) -> str:
    """Return the error in one line."""
    if isinstance(error, TimedOut | ChildProcessError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
