"""Many rows counted partition by partition: every slice of a partition in dense arrays, which then add up slice by slice."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F

from tidemill.evaluation.curves import partial_areas, partial_precision, ratio, whole_areas
from tidemill.evaluation.measurement_plan import ALL_ROWS, Pass, ReadRows, collect_rows, read_rows
from tidemill.evaluation.resampling import UNITS
from tidemill.evaluation.row_counts import BINS, Arrays, Places, add_collected

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


SLICE_UNITS = 128
"""Resampling units of slices, of which there may be many."""
_TOGETHER, _SLICE_TOGETHER = 4, 8
_ROWS_AT_ONCE = 250_000
_MOST_SLICES = 500  # slices whose counts a Spark task holds, some 0.2 MB each, before it hands them on
_SAMPLE = 20_000
_ROWS_PER_TASK = 500_000
PARTIAL_COLUMNS = "slice STRING, counts BINARY"


def find_edges(rows: DataFrame, plan: Pass, n_rows: int, n_positive: int) -> np.ndarray:
    """Return the edges of bins with about equal shares of the rows, and of the positive rows, from samples by the hash of the units.

    ``rows`` are those that `read_rows` reads, with ``unit`` BIGINT.
    """
    if not plan.kind.has_bins:
        return np.empty(0)
    hashed, is_positive = F.pmod(F.floor(F.col("unit") / UNITS), F.lit(2**31)), F.col("label") == 1
    one_in, one_positive_in = (max(1, total // _SAMPLE) for total in (n_rows, n_positive))
    in_all = F.pmod(hashed, F.lit(one_in)) == 0
    in_positive = is_positive & (F.pmod(hashed, F.lit(one_positive_in)) == 0) if plan.kind.has_areas else F.lit(False)
    table = rows.select("*", in_all.alias("in_all"), in_positive.alias("in_positive")).where("in_all OR in_positive").toArrow()
    values = plan.kind.values(read_rows(_as_batch(table), plan).columns)
    assert values is not None
    samples = [values[table[name].to_numpy()] for name in ("in_all", "in_positive")]
    samples = [sample for sample in samples if len(sample)]
    shares = np.linspace(0, 1, BINS // max(len(samples), 1) + 1)[1:-1]
    inner = [np.quantile(sample, shares, method="inverted_cdf") for sample in samples]
    return np.unique(np.concatenate([*inner, plan.kind.fixed_edges]))


def _as_batch(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], names=table.column_names)


def collect_partition(plan: Pass, edges: np.ndarray, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the counts of each slice of a partition: ``slice`` and ``counts``, to be added up by `merge_partials`."""
    states: dict[str, tuple[Arrays, tuple[tuple[str, str], ...]]] = {}
    for batch in _join_batches(batches):
        rows = read_rows(batch, plan)
        values = plan.kind.values(rows.columns)
        bins = np.zeros(len(batch), dtype=np.int64) if values is None else np.searchsorted(edges, values)
        units = batch.column("unit").to_numpy().astype(np.int64)
        _add(states, ALL_ROWS, rows, Places(units, UNITS, bins, len(edges) + 1, _TOGETHER), plan)
        for name, chosen in _split_slices(batch):
            places = Places(units[chosen] % SLICE_UNITS, SLICE_UNITS, bins[chosen], len(edges) + 1, _SLICE_TOGETHER)
            _add(states, name, _select(rows, chosen), places, plan)
            if len(states) > _MOST_SLICES:
                yield _write_states(states)
                states.clear()
    if states:
        yield _write_states(states)


def _join_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of some 250,000: numpy's fixed costs are paid less often."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
            yield _as_batch(pa.Table.from_batches(waiting))
            waiting = []
    if sum(map(len, waiting)):
        yield _as_batch(pa.Table.from_batches(waiting))


def _split_slices(batch: pa.RecordBatch) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the slices of a batch with the places of their rows."""
    for column in batch.schema.names:
        if not column.startswith("slice_"):
            continue
        encoded = batch.column(column).dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            yield name, order[starts[code] : starts[code + 1]]


def _select(rows: ReadRows, chosen: np.ndarray) -> ReadRows:
    columns = {name: values[chosen] for name, values in rows.columns.items()}
    return ReadRows(columns, rows.is_bad[chosen], rows.terms[chosen], rows.own_names)


def _add(states: dict[str, tuple[Arrays, tuple[tuple[str, str], ...]]], name: str, rows: ReadRows, places: Places, plan: Pass) -> None:
    collected = collect_rows(rows, places, plan)
    states[name] = (add_collected(states[name][0], collected) if name in states else collected, rows.own_names)


def _write_states(states: dict[str, tuple[Arrays, tuple[tuple[str, str], ...]]]) -> pa.RecordBatch:
    counts = pa.array([pickle.dumps(state, protocol=5) for state in states.values()], pa.binary())
    return pa.RecordBatch.from_pydict({"slice": list(states), "counts": counts})


def merge_partials(table: pa.Table) -> tuple[str, Arrays, tuple[tuple[str, str], ...]]:
    """Return a slice with its counts of all partitions, and the names of custom terms."""
    collected: Arrays = {}
    own_names: tuple[tuple[str, str], ...] = ()
    for cell in table["counts"]:
        part, own_names = pickle.loads(cell.as_py())  # written by `collect_partition` of the same pass
        collected = add_collected(collected, part) if collected else part
    return table["slice"][0].as_py(), collected, own_names


def measure_exact_areas(rows: DataFrame, edges: np.ndarray, histogram: np.ndarray) -> tuple[float, float, float]:
    """Return both areas and the average precision of all rows: Spark tasks sort and measure a range of scores each.

    Args:
        rows: ``label`` DOUBLE, ``probability`` VECTOR and ``weight``.
        edges: of the bins.
        histogram: the weight of all rows and of the positive rows of each bin, (bins, 2).
    """
    p, positive = vector_to_array(F.col("probability"))[1].alias("p"), F.when(F.col("label") == 1, F.col("weight")).otherwise(0.0)
    n_rows = rows.count()
    steps = max(1, n_rows // _ROWS_PER_TASK)
    cumulative = np.cumsum(histogram[:, 0])
    cuts = np.unique(np.searchsorted(cumulative, cumulative[-1] * np.arange(1, steps) / steps))
    cuts = cuts[cuts < len(edges)]
    above = np.array([histogram[cut + 1 :].sum(axis=0) for cut in cuts] + [np.zeros(2)])
    limits = F.array(*[F.lit(float(edge)) for edge in edges[cuts]]).cast("array<double>")
    part = F.array_size(F.filter(limits, lambda edge: edge < F.col("p"))).alias("part")

    def measure(table: pa.Table) -> pa.Table:
        scores, weight, ones = (table[name].to_numpy() for name in ("p", "weight", "positive"))
        order = np.argsort(-scores, kind="stable")
        is_last = np.r_[scores[order][1:] != scores[order][:-1], True]
        hits, whole = (np.diff(np.cumsum(values[order])[is_last], prepend=0.0) for values in (ones, weight))
        before, ones_before = above[table["part"][0].as_py()]
        counts = hits[whole > 0], (whole - hits)[whole > 0], ones_before, before - ones_before
        roc, pr = partial_areas(*counts)
        return pa.table({"roc": [roc], "pr": [pr], "precision": [partial_precision(*counts)]})

    chosen = rows.select(p, F.col("weight").cast("double").alias("weight"), positive.cast("double").alias("positive"))
    parts = chosen.select("*", part).groupBy("part").applyInArrow(measure, "roc DOUBLE, pr DOUBLE, precision DOUBLE").toArrow()
    roc, pr, precision = (float(np.sum(parts[name].to_numpy())) for name in ("roc", "pr", "precision"))
    n, ones = (float(total) for total in histogram.sum(axis=0))
    return *whole_areas(roc, pr, ones, n - ones), ratio(precision, ones)
