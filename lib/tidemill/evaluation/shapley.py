"""Shapley values of raw columns for any model: what a prediction gains as columns of a row replace those of background rows.

Every row is explained by the same evaluations (`ShapleyDesign`), so that its values depend neither on other rows nor on partitions.

Source: Štrumbelj, Kononenko, Explaining prediction models and individual predictions with feature contributions, 2014 (sampled
permutations); Mitchell et al., Sampling permutations for Shapley value estimation, JMLR 2022 (each with its reverse).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.functions import arrow_udf

from tidemill.columns import column

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ROW, HYBRID, OUTPUTS = "_tidemill_row", "_tidemill_hybrid", "_tidemill_outputs"
"""The number of an explained row, that of one of its hybrids with background rows, and the outputs of the model: ARRAY<DOUBLE>."""
MAX_HYBRIDS = 600
_MAX_BACKGROUND = 16
_SEED = 37
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class ShapleyDesign:
    """The hybrids that explain a row, and the weights of their predictions.

    Hybrid h has the row's own values in the columns of ``own`` (hybrids, columns) and those of the background row ``background`` (hybrids)
    in the others. The contribution of a column is the sum of the outputs weighted by ``weights`` (hybrids, columns); the last column of
    ``weights`` gives the mean output of the background rows. All of them add up to the output of the row itself.
    """

    own: np.ndarray
    background: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, columns: int, background_rows: int) -> ShapleyDesign:
        """Return the exact design if it has at most `MAX_HYBRIDS` hybrids; else sample permutations, each with its reverse."""
        rows = min(background_rows, _MAX_BACKGROUND)
        exact_rows = min(rows, MAX_HYBRIDS // 2**columns) if columns < 16 else 0
        if exact_rows >= min(rows, 8):
            return cls._enumerate(columns, exact_rows)
        return cls._sample(columns, max(1, min(rows, MAX_HYBRIDS // (2 * columns))))

    @classmethod
    def _enumerate(cls, columns: int, rows: int) -> ShapleyDesign:
        """Return the design of all subsets of the columns."""
        own = (np.arange(2**columns)[:, None] >> np.arange(columns)) & 1 == 1
        sizes = own.sum(axis=1)
        joins = np.array([1 / (columns * comb(columns - 1, size)) if size < columns else 0.0 for size in range(columns + 1)])
        weights = np.where(own, joins[sizes - 1][:, None], -joins[sizes][:, None])
        base = (sizes == 0).astype(float)[:, None]
        return cls(np.tile(own, (rows, 1)), np.repeat(np.arange(rows), len(own)), np.tile(np.hstack([weights, base]), (rows, 1)) / rows)

    @classmethod
    def _sample(cls, columns: int, rows: int) -> ShapleyDesign:
        """Return the design of one random order of the columns and its reverse for each background row."""
        generator = np.random.default_rng([_SEED, columns])
        places: dict[tuple[int, frozenset[int]], int] = {}
        cells: list[tuple[int, int, float]] = []
        share = 1 / (2 * rows)
        for row in range(rows):
            order = generator.permutation(columns)
            for steps in (order, order[::-1]):
                known: frozenset[int] = frozenset()
                before = places.setdefault((row, known), len(places))
                cells.append((before, columns, share))
                for added in steps.tolist():
                    known |= {added}
                    # A row that has all values of its own is the same beside every background row.
                    after = places.setdefault((0 if len(known) == columns else row, known), len(places))
                    cells += [(after, added, share), (before, added, -share)]
                    before = after
        own = np.zeros((len(places), columns), dtype=bool)
        weights = np.zeros((len(places), columns + 1))
        for (_, known), place in places.items():
            own[place, list(known)] = True
        hybrids, targets, shares = zip(*cells, strict=True)
        np.add.at(weights, (hybrids, targets), shares)
        return cls(own, np.array([row for row, _ in places]), weights)

    def weigh(self, outputs: np.ndarray) -> np.ndarray:
        """Return the contributions of the columns, and last the mean output: (rows, outputs, columns + 1), of (rows, hybrids, outputs)."""
        return np.einsum("rho,hc->roc", outputs, self.weights)


def build_hybrids(rows: DataFrame, background: pa.Table, design: ShapleyDesign) -> DataFrame:
    """Return all hybrids of rows: `ROW`, `HYBRID` INT, and the columns.

    Args:
        rows: `ROW` BIGINT, and the columns of ``background``, with the same types.
        background: the background rows.
        design: the hybrids.
    """
    names, n_hybrids, schema = background.column_names, len(design.own), rows.schema
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, background.schema) as writer:
        writer.write_table(background)
    packed = sink.getvalue().to_pybytes()

    def mix(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        others = pa.ipc.open_stream(packed).read_all().combine_chunks()
        step = max(1, _BATCH_ROWS // n_hybrids)
        for batch in (part for whole in batches for part in (whole.slice(first, step) for first in range(0, len(whole), step))):
            places, hybrids = np.repeat(np.arange(len(batch)), n_hybrids), np.tile(np.arange(n_hybrids), len(batch))
            columns = [batch.column(ROW).take(pa.array(places)), pa.array(hybrids.astype(np.int32))]
            for number, name in enumerate(names):
                own = batch.column(1 + number)
                both = pa.concat_arrays([own, others.column(name).combine_chunks().cast(own.type)])
                columns.append(both.take(pa.array(np.where(design.own[hybrids, number], places, len(batch) + design.background[hybrids]))))
            yield pa.RecordBatch.from_arrays(columns, names=[ROW, HYBRID, *names])

    fields = [schema[ROW], T.StructField(HYBRID, T.IntegerType()), *(schema[name] for name in names)]
    # PySpark cannot pass columns whose names have dots.
    numbered = [column(name).alias(f"c{number}") for number, name in enumerate(names)]
    return rows.select(ROW, *numbered).mapInArrow(mix, T.StructType(fields))


def weigh_hybrids(scored: DataFrame, design: ShapleyDesign, name: str) -> DataFrame:
    """Return `ROW` and ``name`` ARRAY<DOUBLE>: for each output of the model the contributions of the columns, and the mean output.

    It is null for a row that a stage of the model dropped.

    Args:
        scored: `ROW`, `HYBRID` and `OUTPUTS`.
        design: the hybrids.
        name: the column to add.
    """
    n_hybrids, width = len(design.own), design.weights.shape[1]

    def weigh(lists: pa.Array) -> pa.Array:
        sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
        values = lists.flatten().flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        n_outputs = max(1, len(values) // max(1, int(sizes.sum())))
        starts = np.concatenate([[0], np.cumsum(sizes)]) * n_outputs
        whole = np.flatnonzero(sizes == n_hybrids)
        places = starts[whole][:, None] + np.arange(n_hybrids * n_outputs)
        weighed = design.weigh(values[places].reshape(len(whole), n_hybrids, n_outputs)).reshape(len(whole), n_outputs * width)
        found = dict(zip(whole.tolist(), weighed.tolist(), strict=True))
        return pa.array([found.get(row) for row in range(len(lists))], pa.list_(pa.float64()))

    untyped_udf: Any = arrow_udf  # mypy requires a function type that arrow_udf infers
    lists = F.array_sort(F.collect_list(F.struct(HYBRID, OUTPUTS)))
    gathered = scored.groupBy(ROW).agg(F.transform(lists, lambda each: each[OUTPUTS]).alias(OUTPUTS))
    return gathered.select(ROW, untyped_udf(weigh, "array<double>")(F.col(OUTPUTS)).alias(name))
