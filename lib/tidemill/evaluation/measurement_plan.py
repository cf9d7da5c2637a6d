"""What a pass over predictions computes, how its rows are read, and the metrics of what was counted; runs in Spark tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tidemill.evaluation.arrays import compute_terms
from tidemill.evaluation.counts import Sums, measure_counts, measure_draws
from tidemill.evaluation.curve_points import is_point
from tidemill.evaluation.estimates import CurvePoint
from tidemill.evaluation.resampling import UNITS, draw_unit_weights, sum_by_unit
from tidemill.evaluation.row_counts import Arrays, Places
from tidemill.evaluation.row_kinds import RowKind, read_column, read_probabilities
from tidemill.tasks import Metric, PredictedRows, TaskKind

ALL_ROWS = ""
"""The name of the slice of all rows."""
TERM = "term "
OF_CLASS = " of class "
_BIASED = frozenset({"expectedCalibrationError"})
"""Metrics that noise makes greater, and in the draws once more: their draws are reflected at the value (the basic bootstrap)."""


@dataclass(frozen=True)
class Pass:
    """What is computed in one pass.

    ``draws`` is the number of bootstrap draws; ``own`` are custom metrics; ``n_terms`` is the number of elements of the column ``terms``;
    ``unit_rows``, the rows of each unit, are counted by `measure_slices`.
    """

    task: TaskKind
    kind: RowKind
    n_classes: int
    draws: int
    own: Sequence[Metric] = ()
    n_terms: int = 0
    unit_rows: np.ndarray = field(default_factory=lambda: np.zeros(UNITS))

    @property
    def has_own_terms(self) -> bool:
        """True where a custom metric needs numbers of each row."""
        return any(metric.terms for metric in self.own)


class ReadRows(NamedTuple):
    """Rows that were read: the columns of the row kind, which rows are bad, all terms, and the names of those of custom metrics."""

    columns: dict[str, np.ndarray]
    is_bad: np.ndarray
    terms: np.ndarray
    own_names: tuple[tuple[str, str], ...]


def read_rows(batch: pa.RecordBatch, plan: Pass) -> ReadRows:
    """Read a batch with ``label``, ``prediction``, ``weight``, ``terms`` and what the row kind selects; custom terms are weighted."""
    columns, is_bad = plan.kind.read(batch)
    n = len(batch)
    terms = np.asarray(batch.column("terms").flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(n, plan.n_terms)
    if not plan.has_own_terms:
        return ReadRows(columns, is_bad, terms, ())
    probability = read_probabilities(batch, plan.n_classes) if "probability" in batch.schema.names else np.empty((n, 0))
    predicted = PredictedRows(read_column(batch, "label"), read_column(batch, "prediction"), probability)
    own = {(metric, name): values for metric, each in compute_terms(plan.own, predicted).items() for name, values in each.items()}
    return ReadRows(columns, is_bad, np.column_stack([terms, *(values * columns["weight"] for values in own.values())]), tuple(own))


def collect_rows(rows: ReadRows, places: Places, plan: Pass) -> dict[str, np.ndarray]:
    """Return counts of the rows that add up over batches."""
    return {
        **plan.kind.collect(rows.columns, places),
        "rows": np.array([len(rows.is_bad)]),
        "bad": np.array([rows.is_bad.sum()]),
        "weight": np.array([rows.columns["weight"].sum()]),
        "terms": sum_by_unit(places.units, places.n_units, rows.terms),
    }


class Measured(NamedTuple):
    """Metrics and sums of terms with their draws, how far metrics may be off, and points of curves."""

    metrics: dict[str, tuple[float, np.ndarray]]
    bounds: Mapping[str, float]
    points: list[CurvePoint]


def measure_collected(
    name: str, collected: Arrays, own_names: Sequence[tuple[str, str]], plan: Pass, columns: Arrays | None = None
) -> Measured:
    """Return the metrics of a slice, and of all rows also curves and metrics of classes; ``columns`` are those of all its rows, if known.

    Raises:
        StepError: a custom metric failed.
    """
    n_units = len(collected["terms"])
    draws = draw_unit_weights(plan.draws, plan.unit_rows.reshape(-1, n_units).sum(axis=0))
    counted = plan.kind.count(collected, draws, columns)
    totals, of_draws = collected["terms"].sum(axis=0), draws @ collected["terms"]
    sums, sums_of_draws = (_name_sums(each.T[plan.n_terms :], own_names) for each in (totals, of_draws))
    values = measure_counts(counted.point, plan.task, plan.own, sums)
    resampled = {} if counted.draws is None else measure_draws(counted.draws, plan.draws, plan.task, plan.own, sums_of_draws)
    for metric in _BIASED & resampled.keys():
        resampled[metric] = np.maximum(2 * values[metric] - resampled[metric], 0.0)
    metrics = {metric: (value, resampled.get(metric, np.empty(0))) for metric, value in values.items()}
    metrics |= {f"{TERM}{place}": (float(totals[place]), of_draws[:, place]) for place in range(plan.n_terms)}
    if name != ALL_ROWS:
        return Measured(metrics, counted.bounds, [])
    details = plan.kind.list_details(counted)
    metrics |= {f"{metric}{OF_CLASS}{place}": both for (metric, place), both in details.items()}
    return Measured(metrics, counted.bounds, [point for point in plan.kind.describe(collected, draws, columns) if is_point(point)])


def _name_sums(sums: np.ndarray, own_names: Sequence[tuple[str, str]]) -> Sums:
    named: dict[str, dict[str, Any]] = {}
    for (metric, term), total in zip(own_names, sums, strict=True):
        named.setdefault(metric, {})[term] = total
    return named


RESULT_SCHEMA = pa.schema(
    [
        ("slice", pa.string()),
        ("rows", pa.int64()),
        ("bad", pa.int64()),
        ("weight", pa.float64()),
        ("names", pa.list_(pa.string())),
        ("metrics", pa.list_(pa.float64())),
        ("draws", pa.list_(pa.float64())),
        ("bounds", pa.map_(pa.string(), pa.float64())),
        ("points", pa.string()),
        ("histogram", pa.list_(pa.float64())),
        ("error", pa.string()),
    ]
)
RESULT_COLUMNS = (
    "slice STRING, rows BIGINT, bad BIGINT, weight DOUBLE, names ARRAY<STRING>, metrics ARRAY<DOUBLE>, draws ARRAY<DOUBLE>, "
    "bounds MAP<STRING, DOUBLE>, points STRING, histogram ARRAY<DOUBLE>, error STRING"
)


def build_result(name: str, collected: Arrays, measured: Measured | None, error: str | None) -> pa.Table:
    """Return the row of a slice that the driver reads; ``measured`` is None where nothing could be measured."""
    metrics = measured.metrics if measured else {}
    is_all = name == ALL_ROWS and "bins" in collected
    row = {
        "slice": name,
        **{key: collected[key][0].item() for key in ("rows", "bad", "weight")},
        "names": list(metrics),
        "metrics": [value for value, _ in metrics.values()],
        "draws": np.concatenate([draws for _, draws in metrics.values()]) if metrics else [],
        "bounds": list(measured.bounds.items()) if measured else [],
        "points": json.dumps(measured.points if measured else []),
        "histogram": collected["bins"].ravel() if is_all else [],
        "error": error,
    }
    return pa.Table.from_pylist([row], schema=RESULT_SCHEMA)
