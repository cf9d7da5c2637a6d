"""All metrics of all slices with their intervals from one pass over the predictions; Spark tasks measure, the driver sees results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.estimates import CurvePoint, Estimate
from tidemill.evaluation.measurement_plan import (
    ALL_ROWS,
    OF_CLASS,
    RESULT_COLUMNS,
    TERM,
    Pass,
    build_result,
    collect_rows,
    measure_collected,
    read_rows,
)
from tidemill.evaluation.metrics import check_predictions
from tidemill.evaluation.resampling import UNITS
from tidemill.evaluation.row_counts import AREAS, Arrays, Places
from tidemill.evaluation.row_sums import PARTIAL_COLUMNS, collect_partition, find_edges, measure_exact_areas, merge_partials

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["ALL_ROWS", "OF_CLASS", "MeasuredSlice", "Pass", "estimate_arrays", "measure_slices"]

MAX_SINGLE_ROWS = 1_000_000
"""Up to so many rows, counted once for each slice that they are in, a slice is measured from its rows; above, from counts in bins."""


@dataclass(frozen=True)
class MeasuredSlice:
    """What was measured of the rows of a slice: rows, metrics, sums of SQL terms, how far a metric may be off, and points of curves."""

    rows: int
    estimates: Mapping[str, Estimate]
    terms: Sequence[Estimate] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)
    points: Sequence[CurvePoint] = ()
    histogram: Sequence[float] = ()


def measure_slices(rows: DataFrame, plan: Pass, *, max_single_rows: int = MAX_SINGLE_ROWS) -> dict[str, MeasuredSlice]:
    """Measure all rows (slice ``''``) and each slice.

    Args:
        rows: ``label`` and ``prediction`` DOUBLE (class indices or values), ``probability`` VECTOR for classification, ``weight`` DOUBLE,
            ``unit`` BIGINT, a hash of what is resampled as a whole, ``slices`` ARRAY<STRING>, the names of the row's slices, as many in
            each row, and ``terms`` ARRAY<DOUBLE>, further numbers whose sums are returned. Read two or three times: cache it.
        plan: what to compute.
        max_single_rows: see `MAX_SINGLE_ROWS`.

    Returns:
        Slice → what was measured.

    Raises:
        StepError: there is no row, all weights are 0, or a prediction is no number.
    """
    counts, n_slices = _count_units(rows)
    n_rows, single_rows, n_positive = (int(total) for total in counts.sum(axis=0))
    if not n_rows:
        check_predictions(0, 0, 0.0)
    plan = replace(plan, unit_rows=counts[:, 0])
    if single_rows <= max_single_rows:
        return _measure_rows(_select(rows, plan), plan)
    selected = _select(rows, plan).drop("slices")
    edges = find_edges(selected.withColumn("unit", F.col("hash")), plan, n_rows, n_positive)
    measured = _measure_partitions(_select(rows, plan), n_slices, plan, edges)
    whole = _with_exact_areas(measured[ALL_ROWS], rows, plan, edges)
    if not whole.points:
        whole = replace(whole, points=_describe_sample(rows, n_rows, plan))
    return {**measured, ALL_ROWS: whole}


_DESCRIBED_ROWS = 200_000


def _describe_sample(rows: DataFrame, n_rows: int, plan: Pass) -> Sequence[CurvePoint]:
    """Return the curves that need the rows themselves, of a sample by the hash of the units."""
    one_in = max(1, n_rows // _DESCRIBED_ROWS)
    sample = rows.where(F.pmod(F.floor(F.col("unit") / UNITS), F.lit(one_in)) == 0)
    described = _measure_rows(_select(sample.withColumn("slices", F.array().cast("array<string>")), plan), plan)
    return described[ALL_ROWS].points if ALL_ROWS in described else ()


def _count_units(rows: DataFrame) -> tuple[np.ndarray, int]:
    """Return for each unit its rows, the same once more for each slice that they are in, and those of class 1, and the slices of a row."""
    single, ones, most = F.sum(F.array_size("slices") + 1), F.count_if(F.col("label") == 1), F.max(F.array_size("slices"))
    grouped = rows.groupBy(_unit().alias("unit"))
    table = grouped.agg(F.count("*").alias("rows"), single.alias("single"), ones.alias("ones"), most.alias("most")).toArrow()
    counts = np.zeros((UNITS, 3))
    counts[table["unit"].to_numpy()] = np.column_stack([table[name].to_numpy() for name in ("rows", "single", "ones")])
    return counts, max(table["most"].to_pylist(), default=0)


def _unit() -> Column:
    return F.pmod(F.col("unit"), F.lit(UNITS)).cast("int")


def _select(rows: DataFrame, plan: Pass) -> DataFrame:
    """Select what Spark tasks read of each row."""
    further = plan.kind.select()
    if plan.has_own_terms and "probability" in rows.columns:
        further = [*(column for column in further if plan.kind.has_areas), vector_to_array(F.col("probability")).alias("probability")]
    weight = F.col("weight").cast("double").alias("weight")
    return rows.select("label", "prediction", *further, weight, "terms", _unit().alias("unit"), F.col("unit").alias("hash"), "slices")


def _measure_rows(selected: DataFrame, plan: Pass) -> dict[str, MeasuredSlice]:
    """Measure each slice from its rows, in a Spark task."""

    def measure(table: pa.Table) -> pa.Table:
        name, rows = table["slice"][0].as_py(), table.drop_columns("slice").combine_chunks().to_batches()[0]
        return _measure_batch(name, rows, plan)

    slices = F.explode(F.concat(F.array(F.lit(ALL_ROWS)), F.col("slices"))).alias("slice")
    single = selected.select("*", slices).drop("slices", "hash")
    return dict(_read_results(single.groupBy("slice").applyInArrow(measure, RESULT_COLUMNS).toArrow()))


def _measure_batch(name: str, batch: pa.RecordBatch, plan: Pass) -> pa.Table:
    rows, units = read_rows(batch, plan), batch.column("unit").to_numpy().astype(np.int64)
    collected = collect_rows(rows, Places(units, UNITS, *plan.kind.find_bins(rows.columns)), plan)
    return _measure(name, collected, rows.own_names, plan, {**rows.columns, "unit": units})


def _measure(name: str, collected: Arrays, own_names: Sequence[tuple[str, str]], plan: Pass, columns: Arrays | None = None) -> pa.Table:
    if collected["bad"][0] or not collected["weight"][0] > 0:
        return build_result(name, collected, None, None)
    try:
        return build_result(name, collected, measure_collected(name, collected, own_names, plan, columns), None)
    except StepError as error:
        return build_result(name, collected, None, str(error))


def _measure_partitions(selected: DataFrame, n_slices: int, plan: Pass, edges: np.ndarray) -> dict[str, MeasuredSlice]:
    """Measure each slice from counts that partitions have made of it."""

    def collect(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from collect_partition(plan, edges, batches)

    def measure(table: pa.Table) -> pa.Table:
        return _measure(*merge_partials(table), plan)

    columns = [F.get("slices", F.lit(place)).alias(f"slice_{place}") for place in range(n_slices)]
    partials = selected.select("*", *columns).drop("slices", "hash").mapInArrow(collect, PARTIAL_COLUMNS)
    return dict(_read_results(partials.groupBy("slice").applyInArrow(measure, RESULT_COLUMNS).toArrow()))


def _with_exact_areas(measured: MeasuredSlice, rows: DataFrame, plan: Pass, edges: np.ndarray) -> MeasuredSlice:
    """Replace the areas of all rows, counted in bins, by the exact ones; the draws move with them."""
    if not plan.kind.has_areas:
        return measured
    exact = dict(zip(AREAS, measure_exact_areas(rows, edges, np.reshape(measured.histogram, (-1, 2))), strict=True))
    moved = {name: measured.estimates[name].move_to(value) for name, value in exact.items()}
    bounds = {name: bound for name, bound in measured.bounds.items() if name not in exact}
    return replace(measured, estimates={**measured.estimates, **moved}, bounds=bounds)


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
        yield row["slice"], MeasuredSlice(row["rows"], metrics, list(terms.values()), dict(row["bounds"]), points, row["histogram"])


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
    n, numbers = len(labels), np.asarray(units) % UNITS
    columns = {"label": labels.astype(float), "prediction": prediction.astype(float), "unit": numbers}
    columns["weight"] = np.ones(n) if weights is None else weights.astype(float)
    if probability is not None:
        columns["p"] = probability[:, min(1, probability.shape[1] - 1)]
    lists = {"terms": np.empty((n, 0))} | ({} if probability is None else {"probability": probability})
    arrays = {name: pa.array(values) for name, values in columns.items()} | {name: _as_lists(values) for name, values in lists.items()}
    counted = replace(plan, unit_rows=np.bincount(numbers, minlength=UNITS))
    [(_, measured)] = _read_results(_measure_batch(ALL_ROWS, pa.RecordBatch.from_pydict(arrays), counted))
    return {name: estimate for name, estimate in measured.estimates.items() if OF_CLASS not in name}


def _as_lists(values: np.ndarray) -> pa.Array:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(values, dtype=np.float64).ravel()))
