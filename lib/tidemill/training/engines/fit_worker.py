"""Fits as Spark tasks: what is sent to a worker, what it does, and what comes back."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tidemill.evaluation.counts import compute_array_metrics
from tidemill.evaluation.mass_volume import MAX_ROWS, mass_volume
from tidemill.learners.base import Learner, Linear, Predictor, Rows, Setting, library
from tidemill.learners.boosting import Stopped
from tidemill.learners.outliers import spread_out
from tidemill.runtime.caching import WORKER_CACHE, limit_to_one_thread
from tidemill.tasks import Metric
from tidemill.training.balance import corrected
from tidemill.training.engines.fold_matrix import HELD_OUT, TRAIN, Copy, Part, open_part
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
    """One fit on the training rows of ``copy``, which serves all of ``settings`` (trial → setting).

    ``share`` is that of the training rows, the first in their order. What it says of classes is divided by ``factors``, where there are
    any. It may take ``limit`` seconds, where that is given. ``own_metrics`` are measured besides the built-in ones.
    """

    copy: Copy
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
        """The setting of a fit that serves one."""
        return next(iter(self.settings.values()))

    @property
    def library(self) -> str:
        """The name and version of what fits it."""
        return library(self.learner.fitting_package(self.setting.task, self.copy.slots_of(self.encoding)))

    def alone(self) -> list[Fit]:
        """Return a fit for each setting."""
        return [replace(self, settings={trial: setting}) for trial, setting in self.settings.items()]


@dataclass(frozen=True)
class Outcome:
    """What a trial came to on one fold; ``metrics`` is empty where there is an ``error``.

    ``library`` fitted it, where that is known; ``rounds`` are those of boosting, where the rows that measured them chose them.
    """

    trial: int
    metrics: Mapping[str, float]
    seconds: float
    score_seconds: float
    error: str | None
    library: str | None = None
    rounds: int | None = None


def run_fits(spark: SparkSession, fits: Sequence[Fit]) -> list[Outcome]:
    """Run the fits, each a task of one Spark job; return an outcome for each of their trials, in their order."""

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                outcomes = measure(fits[number])
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


def measure(fit: Fit) -> list[Outcome]:
    """Fit and score the held-out rows, in a worker; a failure, whatever it is, is an outcome, and of one setting alone.

    A fit with a limit is one of a process of its own, and nothing that it makes of the rows is kept for the next one.
    """
    started = time.perf_counter()
    try:
        rows = _training_rows(fit)
        if fit.limit is not None:
            free = replace(fit, limit=None)
            return call_in_child(fit.limit, lambda: measure(free))
        with limit_to_one_thread():
            models = list(fit.learner.fit_each(rows, list(fit.settings.values()), lambda: _unseen_rows(fit)))
        held_out = open_part(fit.copy, fit.encoding, HELD_OUT, fit.learner.layout)
    except Exception as error:  # noqa: BLE001 - one trial's failure, whatever it is, is one trial's failure
        if len(fit.settings) > 1:
            return [outcome for each in fit.alone() for outcome in measure(each)]
        return [Outcome(trial, {}, time.perf_counter() - started, 0.0, _sentence(error)) for trial in fit.settings]
    spent = (time.perf_counter() - started) / len(fit.settings)
    return [_scored(model, fit, held_out, trial, spent) for trial, model in zip(fit.settings, models, strict=True)]


def _scored(model: Predictor, fit: Fit, held_out: Part, trial: int, spent: float) -> Outcome:
    started = time.perf_counter()
    try:
        with limit_to_one_thread():
            predicted = _predicted(model, fit, held_out.features)
        took = time.perf_counter() - started
        found = _found(model, fit, held_out, predicted)
    except Exception as error:  # noqa: BLE001 - as above
        return Outcome(trial, {}, spent + time.perf_counter() - started, 0.0, _sentence(error))
    known = {name: value for name, value in found.items() if math.isfinite(value)}
    rounds = model.rounds if isinstance(model, Stopped) else None
    return Outcome(trial, known, spent + time.perf_counter() - started, took, None, rounds=rounds)


def _found(model: Predictor, fit: Fit, held_out: Part, predicted: np.ndarray) -> Mapping[str, float]:
    """Return the metrics of predictions; of anomalies that no label judges the room that the least strange rows take."""
    labels, setting = np.asarray(held_out.labels), fit.setting
    if setting.task.finds_anomalies and np.isnan(labels).all():
        looked_at = spread_out(held_out.features[:MAX_ROWS])
        with limit_to_one_thread():
            return {"massVolume": mass_volume(lambda rows: model.predict(rows)[:, 1], looked_at, setting.seed)}
    if setting.target == "log":
        labels, predicted = np.expm1(labels), np.expm1(predicted)
    return compute_array_metrics(labels, predicted, setting.task, given_weights(held_out), setting.quantile, fit.own_metrics)


def _predicted(model: Predictor, fit: Fit, features: Any) -> np.ndarray:
    found = model.predict(features)
    return corrected(found, fit.factors) if fit.factors else found


def unseen(fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Fit, and return the labels of the rows that the fit has not seen, what it says of them, and what they count for; in a worker.

    Raises:
        Exception: the fit failed, or took longer than it may.
    """
    if fit.limit is not None:
        free = replace(fit, limit=None)
        return call_in_child(fit.limit, lambda: unseen(free))
    with limit_to_one_thread():
        scorer = fit.learner.fit(_training_rows(fit), fit.setting)
        held_out = open_part(fit.copy, fit.encoding, HELD_OUT, fit.learner.layout)
        labels, predicted = np.asarray(held_out.labels), _predicted(scorer, fit, held_out.features)
    if fit.setting.target == "log":
        labels, predicted = np.expm1(labels), np.expm1(predicted)
    return labels, predicted, given_weights(held_out)


def run_counts(spark: SparkSession, fits: Sequence[Fit]) -> list[ScoreHistogram]:
    """Fit each, and count what all together say of the rows that they have not seen, as `out_of_fold.count_scores`.

    Raises:
        Exception: a fit failed.
    """

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                labels, predicted, weights = unseen(fits[number])
                for place, histogram in zip(classes, count_scores(labels, predicted, weights, max_scores), strict=True):
                    yield to_record_batch(place, histogram)

    classes = list_counted_classes(fits[0].setting.n_classes)
    max_scores = MAX_SCORES // len(fits)
    table = spark.range(0, len(fits), 1, len(fits)).mapInArrow(work, HISTOGRAM_SCHEMA).toArrow()
    return read_histograms(table, classes)


def fit_model(spark: SparkSession, fit: Fit) -> Linear | bytes:
    """Fit on all rows of the copy's training part, in one task; return the weights of a linear model, or another's dump.

    Raises:
        TimedOut: it took longer than its limit.
        Exception: the fit failed.
    """

    def fit_here() -> Linear | bytes:
        with limit_to_one_thread():
            found = fit.learner.fit(_training_rows(fit), fit.setting)
        return found if isinstance(found, Linear) else found.dump()

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            row: dict[str, list[Any]] = {"weights": [None], "biases": [None], "dumped": [None], "has_timed_out": [False]}
            try:
                found = fit_here() if fit.limit is None else call_in_child(fit.limit, fit_here)
            except TimedOut:  # not raised, so that Spark does not try it again
                yield pa.RecordBatch.from_pydict({**row, "has_timed_out": [True]}, _schema())
                continue
            if isinstance(found, Linear):
                size = len(found.weights)
                row = {"weights": [list(slots) for slots in found.weights], "biases": [list(found.biases)] * size}
                row |= {"dumped": [None] * size, "has_timed_out": [False] * size}
            else:
                row["dumped"] = [found]
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
    """Return the training rows, or the first of them; a worker keeps the last few."""
    key = f"{fit.copy.name}/{fit.encoding}/{fit.share}"

    def opened() -> Rows:
        part = open_part(fit.copy, fit.encoding, TRAIN, fit.learner.layout)
        count = max(1, round(len(part.labels) * fit.share))
        weights = given_weights(part)
        weights = None if weights is None else weights[:count]
        if count == len(part.labels):
            return Rows(part.features, part.labels, fit.nominal, key, weights)
        return Rows(part.features[:count], part.labels[:count], fit.nominal, key, weights)

    return WORKER_CACHE.get(key, opened)


def _unseen_rows(fit: Fit) -> Rows:
    """Return the rows that a fit can tell itself by when to stop: they count for what rows to learn from would."""
    part = open_part(fit.copy, fit.encoding, HELD_OUT, fit.learner.layout)
    weights = given_weights(part)
    if fit.factors:
        own = 1.0 if weights is None else weights
        weights = own * np.asarray(fit.factors)[np.asarray(part.labels, dtype=int)]
    return Rows(part.features, part.labels, fit.nominal, weights=weights)


def given_weights(part: Part) -> np.ndarray | None:
    """Return what the rows count for; None where all count for 1."""
    return None if (part.weights == 1.0).all() else np.asarray(part.weights)


def _sentence(error: Exception) -> str:
    """Return what went wrong in one line."""
    if isinstance(error, TimedOut | ChildProcessError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
