"""All metrics of all slices with their intervals from one pass over the predictions; Spark tasks measure, the driver sees results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.arrays import compute_terms
from tidemill.evaluation.counts import Sums, measure_counts, measure_draws
from tidemill.evaluation.curve_points import is_point
from tidemill.evaluation.curves import CALIBRATION_BINS
from tidemill.evaluation.estimates import CurvePoint, Estimate
from tidemill.evaluation.metrics import check_predictions
from tidemill.evaluation.resampling import UNITS, Resampler
from tidemill.evaluation.row_counts import BOOTSTRAP_BINS, Arrays
from tidemill.evaluation.row_kinds import RowKind, column_names, read_column, read_probabilities
from tidemill.evaluation.scores import count_scores, measure_scores
from tidemill.tasks import Metric, PredictedRows, TaskKind

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


MAX_SINGLE_ROWS = 4_000_000
"""Up to so many rows, counted once for each slice that they are in, a slice is measured row by row; above, rows are added up in cells."""
SLICE_UNITS = 128
"""Resampling units of slices whose rows are added up in cells by unit."""
ALL_ROWS = ""
"""The name of the slice of all rows."""
TERM = "term "
OF_CLASS = " of class "
_BIASED = frozenset({"expectedCalibrationError"})
"""Metrics that noise makes greater, and in the draws once more: their draws are reflected at the value (the basic bootstrap)."""


@dataclass(frozen=True)
class MeasuredSlice:
    """What was measured of the rows of a slice: rows, metrics, sums of SQL terms, and how far a metric may be off."""

    rows: int
    estimates: Mapping[str, Estimate]
    terms: Sequence[Estimate] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)
    points: Sequence[CurvePoint] = ()


@dataclass(frozen=True)
class Pass:
    """What is computed in one pass.

    ``draws`` is the number of bootstrap draws; ``own`` are custom metrics; ``n_terms`` is the number of elements of the column ``terms``;
    ``is_grouped`` says that rows of a group share a unit; ``unit_rows``, the rows of each unit, are counted by `measure_slices`.
    """

    task: TaskKind
    kind: RowKind
    n_classes: int
    draws: int
    own: Sequence[Metric] = ()
    n_terms: int = 0
    is_grouped: bool = False
    unit_rows: np.ndarray = field(default_factory=lambda: np.zeros(UNITS))

    @property
    def has_terms(self) -> bool:
        """True where further numbers of each row are added up."""
        return bool(self.n_terms) or any(metric.terms for metric in self.own)


def measure_slices(rows: DataFrame, plan: Pass, *, max_single_rows: int = MAX_SINGLE_ROWS) -> dict[str, MeasuredSlice]:
    """Measure all rows (slice ``''``) and each slice.

    Args:
        rows: ``label`` and ``prediction`` DOUBLE (class indices or values), ``probability`` VECTOR for classification, ``weight`` DOUBLE,
            ``unit`` BIGINT, a hash of what is resampled as a whole, ``slices`` ARRAY<STRING>, the names of the row's slices, and ``terms``
            ARRAY<DOUBLE>, further numbers whose sums are returned. Read two or three times: cache it.
        plan: what to compute.
        max_single_rows: see `MAX_SINGLE_ROWS`.

    Returns:
        Slice → what was measured.

    Raises:
        StepError: there is no row, all weights are 0, or a prediction is no number.
    """
    counts = _count_units(rows)
    n_rows, single_rows = int(counts[:, 0].sum()), int(counts[:, 1].sum())
    if not n_rows:
        check_predictions(0, 0, 0.0)
    plan = replace(plan, unit_rows=counts[:, 0])
    if single_rows <= max_single_rows:
        return _measure_prepared(_prepare(rows, plan, np.empty(0)), plan)
    measured = _measure_prepared(_add_up(_prepare(rows, plan, find_edges(rows, plan, n_rows)), plan), plan)
    return {**measured, ALL_ROWS: _with_exact_areas(measured[ALL_ROWS], rows, plan)}


def _count_units(rows: DataFrame) -> np.ndarray:
    """Return for each unit its rows, and its rows counted once for each slice that they are in: (`UNITS`, 2)."""
    table = (
        rows.groupBy(_unit().alias("unit"))
        .agg(F.count("*").alias("rows"), F.sum(F.array_size("slices") + 1).alias("single_rows"))
        .toArrow()
    )
    counts = np.zeros((UNITS, 2))
    counts[table["unit"].to_numpy()] = np.column_stack([table["rows"].to_numpy(), table["single_rows"].to_numpy()])
    return counts


def _unit() -> Column:
    return F.pmod(F.col("unit"), F.lit(UNITS)).cast("int")


def _measure_prepared(prepared: DataFrame, plan: Pass) -> dict[str, MeasuredSlice]:
    return dict(_read_results(prepared.groupBy("slice").applyInArrow(_measure_function(plan), _RESULT).toArrow()))


def _with_exact_areas(measured: MeasuredSlice, rows: DataFrame, plan: Pass) -> MeasuredSlice:
    """Replace the areas of all rows, counted in bins, by the exact ones; the draws move with them."""
    if not plan.kind.has_areas:
        return measured
    p, is_positive = vector_to_array(F.col("probability"))[1].alias("p"), (F.col("label") == 1).alias("is_positive")
    _, _, counts = measure_scores(
        count_scores(rows.select(p, is_positive, (F.col("prediction") == 1).alias("is_called"), "weight"), "weight")
    )
    exact = {"areaUnderROC": counts.area_under_roc, "areaUnderPR": counts.area_under_pr, "averagePrecision": counts.average_precision}
    moved = {name: measured.estimates[name].move_to(value) for name, value in exact.items()}
    bounds = {name: bound for name, bound in measured.bounds.items() if name not in exact}
    return replace(measured, estimates={**measured.estimates, **moved}, bounds=bounds)


def find_edges(rows: DataFrame, plan: Pass, n_rows: int) -> np.ndarray:
    """Return the edges of bins with about equal shares of the rows and of the positive rows, from a sample by the hash of the units."""
    column = plan.kind.edge_column
    if column is None:
        return np.empty(0)
    one_in = max(1, n_rows // _SAMPLE)
    whole = rows.withColumn("slices", F.array().cast("array<string>")).withColumn("terms", F.array().cast("array<double>"))
    sample = whole.where(F.pmod(F.floor(F.col("unit") / UNITS), F.lit(one_in)) == 0)
    few = [_prepare(sample, replace(plan, own=()), np.empty(0))]
    if "is_positive" in plan.kind.places:
        positives = whole.where(F.col("label") == 1)
        one_in = max(1, positives.count() // _SAMPLE)
        few.append(
            _prepare(positives.where(F.pmod(F.floor(F.col("unit") / UNITS), F.lit(one_in)) == 0), replace(plan, own=()), np.empty(0))
        )
    values = [frame.select(column).toArrow()[column].to_numpy() for frame in few]
    shares = np.linspace(0, 1, BOOTSTRAP_BINS // len(values) + 1)[1:-1]
    inner = np.concatenate([np.quantile(each, shares, method="inverted_cdf") for each in values if len(each)])
    fixed = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS if column == "p" else np.empty(0)
    return np.unique(np.concatenate([inner, fixed]))


_SAMPLE = 20_000


_RESULT_SCHEMA = pa.schema(
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
        ("error", pa.string()),
    ]
)
_RESULT = (
    "slice STRING, rows BIGINT, bad BIGINT, weight DOUBLE, names ARRAY<STRING>, metrics ARRAY<DOUBLE>, draws ARRAY<DOUBLE>, "
    "bounds MAP<STRING, DOUBLE>, points STRING, error STRING"
)


def _prepare(rows: DataFrame, plan: Pass, edges: np.ndarray) -> DataFrame:
    """Return a row for each row and slice: ``slice``, ``unit`` INT, ``rows``, ``bad``, the columns of the row kind, and the terms."""
    kind, names = plan.kind, column_names(plan.kind)

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if not len(batch):
                continue
            columns, is_bad = kind.read(batch)
            own_names, terms = _read_terms(batch, plan, columns["weight"])
            bins = kind.place(columns, edges) if len(edges) else np.zeros(len(batch))
            arrays = {name: pa.array(columns[name].astype(np.float64)) for name in names}
            arrays |= {"bin": pa.array(bins), "bad": pa.array(is_bad.astype(np.int64)), "terms": _as_lists(terms)}
            arrays["own_names"] = pa.repeat(pa.scalar(own_names), len(batch)) if own_names else pa.nulls(len(batch), pa.string())
            yield pa.RecordBatch.from_pydict({"unit": batch.column("unit"), "slices": batch.column("slices"), **arrays})

    doubles = ", ".join(f"{name} DOUBLE" for name in [*names, "bin"])
    schema = f"unit INT, slices ARRAY<STRING>, {doubles}, bad BIGINT, terms ARRAY<DOUBLE>, own_names STRING"
    probability = [vector_to_array(F.col("probability")).alias("probability")] if "probability" in rows.columns else []
    weight, unit = F.col("weight").cast("double").alias("weight"), _unit().alias("unit")
    read_rows = rows.select("label", "prediction", *probability, weight, unit, "slices", "terms").mapInArrow(read, schema)
    slices = F.explode(F.concat(F.array(F.lit(ALL_ROWS)), F.col("slices"))).alias("slice")
    one = F.lit(1).cast("bigint").alias("rows")
    return read_rows.select(slices, "unit", one, *names, "bin", "bad", "terms", "own_names")


def _read_terms(batch: pa.RecordBatch, plan: Pass, weight: np.ndarray) -> tuple[str, np.ndarray]:
    """Return the terms of SQL metrics, then those of custom metrics times the weight: (n, terms), and the names of the latter as JSON."""
    n = len(batch)
    given = np.asarray(batch.column("terms").flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(n, -1)
    if not any(metric.terms for metric in plan.own):
        return "", given
    probability = read_probabilities(batch, plan.n_classes) if "probability" in batch.schema.names else np.empty((n, 0))
    predicted = PredictedRows(read_column(batch, "label"), read_column(batch, "prediction"), probability)
    terms = {(metric, name): values for metric, each in compute_terms(plan.own, predicted).items() for name, values in each.items()}
    return json.dumps(list(terms)), np.column_stack([given, *(values * weight for values in terms.values())])


def _as_lists(values: np.ndarray) -> pa.Array:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(values).ravel()))


def _add_up(single: DataFrame, plan: Pass) -> DataFrame:
    """Add rows up in cells: of all rows by unit; of slices by unit, or without units where nothing but counts varies in a cell."""
    kind = plan.kind
    unit, bins = F.col("unit"), F.col("bin")
    is_all = F.col("slice") == ALL_ROWS
    if kind.is_additive and not plan.is_grouped and not plan.has_terms:
        unit = F.when(is_all, unit).otherwise(F.lit(-1))
    else:
        unit = F.when(is_all, unit).otherwise(F.pmod(unit, F.lit(SLICE_UNITS)))
        bins = F.when(is_all, bins).otherwise(F.floor(bins / _BINS_TOGETHER)).cast("double")
    keys = [F.col("slice"), unit.alias("unit"), *(bins.alias("bin") if name == "bin" else F.col(name) for name in kind.places)]
    rows, weight = F.sum("rows").alias("rows"), F.sum("weight").alias("weight")
    sums = [F.sum(name).alias(name) for name in ("bad", *kind.sums)]
    means = [F.avg(name).alias(name) for name in kind.means]
    ranges = [end(name).alias(f"{name}_{word}") for name in kind.ranges for end, word in ((F.min, "lowest"), (F.max, "highest"))]
    size = single.select(F.array_size("terms")).first() if plan.has_terms else None
    count = size[0] if size else 0
    terms = F.array(*[F.sum(F.get("terms", F.lit(place))) for place in range(count)]) if count else F.array().cast("array<double>")
    squares = F.sum(F.col("weight") ** 2).alias("weight_square")
    return single.groupBy(*keys).agg(
        rows, weight, squares, *sums, *means, *ranges, terms.alias("terms"), F.max("own_names").alias("own_names")
    )


_BINS_TOGETHER = 8


def _measure_function(plan: Pass) -> Callable[[pa.Table], pa.Table]:
    """Return the function that measures the rows or cells of one slice."""

    def measure(table: pa.Table) -> pa.Table:
        arrays = {name: table[name].to_numpy() for name in table.column_names if name not in ("slice", "terms", "own_names")}
        name, rows, bad, weight = table["slice"][0].as_py(), arrays["rows"].sum(), arrays["bad"].sum(), float(arrays["weight"].sum())
        result: dict[str, Any] = {"slice": name, "rows": int(rows), "bad": int(bad), "weight": weight}
        metrics: dict[str, tuple[float, np.ndarray]] = {}
        bounds: Mapping[str, float] = {}
        points, error = list[CurvePoint](), None
        if weight > 0 and not bad:
            columns, resampler = _make_resampler(name, arrays, plan)
            try:
                metrics, bounds = _measure_arrays(
                    columns, resampler, _read_matrix(table), table["own_names"][0].as_py(), plan, name == ALL_ROWS
                )
            except StepError as caught:
                error = str(caught)
            points = [point for point in plan.kind.describe(columns, resampler) if is_point(point)] if name == ALL_ROWS else []
        draws = np.concatenate([of_draws for _, of_draws in metrics.values()]) if metrics else np.empty(0)
        result |= {
            "names": list(metrics),
            "metrics": [value for value, _ in metrics.values()],
            "draws": draws,
            "bounds": list(bounds.items()),
        }
        result |= {"points": json.dumps(points), "error": error}
        return pa.Table.from_pylist([result], schema=_RESULT_SCHEMA)

    return measure


def _read_matrix(table: pa.Table) -> np.ndarray:
    return np.asarray(table["terms"].combine_chunks().flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(
        table.num_rows, -1
    )


def _make_resampler(name: str, arrays: Arrays, plan: Pass) -> tuple[Arrays, Resampler]:
    """Return the columns of a slice, without the bin of single rows, and what resamples them."""
    if "weight_square" not in arrays:
        arrays = {column: values for column, values in arrays.items() if column != "bin"}
        return arrays, Resampler(plan.draws, arrays["unit"], plan.unit_rows)
    if arrays["unit"].min() >= 0:
        rows = plan.unit_rows if name == ALL_ROWS else plan.unit_rows.reshape(-1, SLICE_UNITS).sum(axis=0)
        return arrays, Resampler(plan.draws, arrays["unit"], rows)
    effective_rows = arrays["weight"] ** 2 / np.maximum(arrays["weight_square"], np.finfo(np.float64).tiny)
    return arrays, Resampler(plan.draws, None, rows=effective_rows)


def _measure_arrays(
    arrays: Arrays, resampler: Resampler, terms: np.ndarray, own_names: str | None, plan: Pass, is_all: bool
) -> tuple[dict[str, tuple[float, np.ndarray]], Mapping[str, float]]:
    """Return each metric and each sum of an SQL term with its draws, and how far metrics may be off."""
    totals, of_draws = resampler.sum(terms) if terms.shape[1] else (np.empty(0), np.empty((plan.draws, 0)))
    sums = [_name_sums(each.T[plan.n_terms :], own_names) for each in (totals, of_draws)]
    measured, bounds = measure_columns(arrays, resampler, plan, sums, with_details=is_all)
    measured |= {f"{TERM}{place}": (float(totals[place]), of_draws[:, place]) for place in range(plan.n_terms)}
    return measured, bounds


def measure_columns(
    arrays: Arrays, resampler: Resampler, plan: Pass, own_sums: Sequence[Sums] = ({}, {}), *, with_details: bool = False
) -> tuple[dict[str, tuple[float, np.ndarray]], Mapping[str, float]]:
    """Return each metric with its draws, and how far metrics may be off, from the columns of the row kind.

    ``own_sums`` are the sums of the terms of custom metrics: of all rows, and of each draw. ``with_details`` adds metrics of classes.
    """
    counted = plan.kind.count(arrays, resampler)
    metrics = measure_counts(counted.point, plan.task, plan.own, own_sums[0])
    of_draws = {} if counted.draws is None else measure_draws(counted.draws, plan.draws, plan.task, plan.own, own_sums[1])
    for name in _BIASED & of_draws.keys():
        of_draws[name] = np.maximum(2 * metrics[name] - of_draws[name], 0.0)
    measured = {name: (value, of_draws.get(name, np.empty(0))) for name, value in metrics.items()}
    details = plan.kind.list_details(counted) if with_details else {}
    return {**measured, **{f"{metric}{OF_CLASS}{place}": both for (metric, place), both in details.items()}}, counted.bounds


def estimate_arrays(
    labels: np.ndarray,
    prediction: np.ndarray,
    probability: np.ndarray | None,
    plan: Pass,
    *,
    units: np.ndarray,
    weights: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Return the metrics of arrays with their intervals, as `measure_slices` gives them for all rows of a frame.

    Args:
        labels: class indices or values.
        prediction: the predicted class indices or values.
        probability: (n, classes); None for a regression.
        plan: what to compute.
        units: a hash of what is resampled as a whole, for each row.
        weights: the sample weights; None: 1 each.
    """
    columns = {"label": labels.astype(float), "prediction": prediction.astype(float)}
    columns["weight"] = np.ones(len(labels)) if weights is None else weights.astype(float)
    lists = {} if probability is None else {"probability": _as_lists(probability)}
    batch = pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()} | lists)
    arrays, is_bad = plan.kind.read(batch)
    check_predictions(len(labels), int(is_bad.sum()), float(columns["weight"].sum()))
    measured, _ = measure_columns(arrays, Resampler(plan.draws, np.asarray(units) % UNITS), plan)
    return {name: Estimate(value, of_draws if plan.draws else None) for name, (value, of_draws) in measured.items()}


def _name_sums(sums: np.ndarray, own_names: str | None) -> dict[str, dict[str, Any]]:
    named: dict[str, dict[str, Any]] = {}
    for (metric, term), total in zip(json.loads(own_names) if own_names else (), sums, strict=True):
        named.setdefault(metric, {})[term] = total
    return named


def _read_results(table: pa.Table) -> Iterator[tuple[str, MeasuredSlice]]:
    """Yield the slices and what was measured of them.

    Raises:
        StepError: a prediction of all rows is no number, all weights are 0, or a custom metric failed.
    """
    for row in table.to_pylist():
        if row["slice"] == ALL_ROWS:
            check_predictions(row["rows"], row["bad"], row["weight"])
        if row["error"]:
            raise StepError(row["error"])
        draws = np.array(row["draws"]).reshape(len(row["names"]), -1)
        named = zip(row["names"], row["metrics"], draws, strict=True)
        estimates = {name: Estimate(value, of_draws if len(of_draws) else None) for name, value, of_draws in named}
        terms = {name: estimate for name, estimate in estimates.items() if name.startswith(TERM)}
        metrics = {name: estimate for name, estimate in estimates.items() if name not in terms}
        points = [CurvePoint(*point) for point in json.loads(row["points"])]
        yield row["slice"], MeasuredSlice(row["rows"], metrics, list(terms.values()), dict(row["bounds"]), points)
