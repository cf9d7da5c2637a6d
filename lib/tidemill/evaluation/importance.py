"""Permutation importance: the loss of a metric where the values of one raw column are shuffled among the rows.

Source: Breiman, Random forests, 2001; Fisher, Rudin, Dominici, All models are wrong, but many are useful, JMLR 2019 (model reliance).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyspark.sql import types as T

from tidemill.evaluation.arrays import compute_array_metrics
from tidemill.evaluation.estimates import Estimate
from tidemill.tasks import Metric

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BLOCK, PLACE, SCORES = "_tidemill_block", "_tidemill_place", "_tidemill_scores"
"""The number of a copy of the sample, the place of a row in the sample, and the outputs of the model: ARRAY<DOUBLE>, the
prediction and, for classes, their probabilities."""
_SEED = 29
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Permutations:
    """Copies of a sample of ``size`` rows: the first as it is, then ``repeats`` for each of ``columns``, whose values are permuted.

    A permutation depends on the repeat alone: the columns of one repeat take their values from the same other rows.
    """

    columns: tuple[str, ...]
    repeats: int
    size: int

    @property
    def n_blocks(self) -> int:
        """The number of copies."""
        return 1 + self.repeats * len(self.columns)

    def column(self, block: int) -> str | None:
        """Return the permuted column of a copy; None for the first one."""
        return self.columns[(block - 1) // self.repeats] if block else None

    def places(self, block: int) -> np.ndarray:
        """Return for each row the place that its value of the permuted column comes from."""
        return np.random.default_rng([_SEED, (block - 1) % self.repeats]).permutation(self.size)

    def blocks(self, column: str) -> range:
        """Return the copies in which a column is permuted."""
        first = 1 + self.columns.index(column) * self.repeats
        return range(first, first + self.repeats)


def build_permuted_rows(spark: SparkSession, sample: pa.Table, schema: T.StructType, plan: Permutations, partitions: int) -> DataFrame:
    """Return all copies of the sample as one frame: ``BLOCK`` INT, ``PLACE`` INT, and the columns of the sample.

    Args:
        spark: the session.
        sample: the rows, in an order that does not depend on partitions.
        schema: the columns of the sample as Spark has them.
        plan: what is permuted.
        partitions: the number of Spark tasks that make the copies.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, sample.schema) as writer:
        writer.write_table(sample)
    packed = sink.getvalue().to_pybytes()

    def copy_sample(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = pa.ipc.open_stream(packed).read_all().combine_chunks()
        places = pa.array(np.arange(plan.size, dtype=np.int32))
        for block in (block for batch in batches for block in batch.column(0).to_pylist()):
            permuted = plan.column(block)
            columns = [
                rows.column(name).take(pa.array(plan.places(block))) if name == permuted else rows.column(name)
                for name in rows.column_names
            ]
            numbers = pa.array(np.full(plan.size, block, dtype=np.int32))
            names = [BLOCK, PLACE, *rows.column_names]
            yield from pa.table([numbers, places, *columns], names=names).combine_chunks().to_batches(_BATCH_ROWS)

    fields = [T.StructField(BLOCK, T.IntegerType()), T.StructField(PLACE, T.IntegerType()), *schema.fields]
    return spark.range(0, plan.n_blocks, 1, partitions).mapInArrow(copy_sample, T.StructType(fields))


@dataclass(frozen=True)
class Judge:
    """Computes one metric of the sample's rows, and its bootstrap draws.

    ``labels`` are class indices or values, ``weights`` those of the rows; ``units`` are the resampling units of the rows, since the rows
    of a group are drawn together. ``metric`` is a name of ``kind``'s metrics, or that of one of ``own``.
    """

    metric: str
    kind: str
    labels: np.ndarray
    weights: np.ndarray
    units: np.ndarray
    draws: int
    quantile: float | None = None
    own: Sequence[Metric] = field(default=())

    def measure(self, scores: np.ndarray) -> Estimate:
        """Return the metric, NaN where it is undefined, and its draws; the draws of all calls are paired.

        Args:
            scores: the prediction of each row and, for classes, their probabilities: (n, 1 or more).
        """
        drawn = np.random.default_rng(_SEED).poisson(1.0, (self.draws, int(self.units.max(initial=-1)) + 1))
        values = [self._value(scores, self.weights * row[self.units]) for row in drawn]
        return Estimate(self._value(scores, self.weights), np.array(values) if self.draws else None)

    def _value(self, scores: np.ndarray, weights: np.ndarray) -> float:
        prediction, probability = scores[:, 0], scores[:, 1:]
        predicted = probability if probability.shape[1] else prediction
        try:
            values = compute_array_metrics(self.labels, predicted, self.kind, weights, self.quantile, self.own, prediction == 1)
        except ValueError:  # all weights are 0, or a permuted row has no prediction
            return np.nan
        return values.get(self.metric, np.nan)


def measure_blocks(scored: DataFrame, judge: Judge) -> dict[int, Estimate]:
    """Return the metric of each copy, measured by Spark tasks; ``scored`` has `BLOCK`, `PLACE` and `SCORES`."""

    def measure(table: pa.Table) -> pa.Table:
        order = np.argsort(table.column(PLACE).to_numpy())
        outputs = table.column(SCORES).combine_chunks()
        scores = outputs.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)[order]
        estimate = judge.measure(scores.astype(np.float64))
        draws = [] if estimate.draws is None else estimate.draws.tolist()
        cells = {BLOCK: pa.array([table.column(BLOCK)[0].as_py()], pa.int32()), "value": pa.array([estimate.value], pa.float64())}
        return pa.table({**cells, "draws": pa.array([draws], pa.list_(pa.float64()))})

    blocks = scored.groupBy(BLOCK).applyInArrow(measure, f"{BLOCK} INT, value DOUBLE, draws ARRAY<DOUBLE>").toArrow().to_pylist()
    return {row[BLOCK]: Estimate(row["value"], np.array(row["draws"], dtype=float) if row["draws"] else None) for row in blocks}


def estimate_importances(blocks: Mapping[int, Estimate], plan: Permutations, *, is_minimised: bool) -> dict[str, Estimate]:
    """Return for each column how much worse the metric gets, the greatest first; above 0 the model needs the column.

    The draws resample the rows, and of each draw also the permutations, so that the interval holds both.
    """
    sign = -1.0 if is_minimised else 1.0
    losses = {}
    for column in plan.columns:
        each = [blocks[0] - blocks[block] for block in plan.blocks(column)]
        value = sign * float(np.mean([estimate.value for estimate in each]))
        draws: Any = [estimate.draws for estimate in each]
        if any(draw is None for draw in draws):
            losses[column] = Estimate(value)
            continue
        shares = np.random.default_rng(_SEED).multinomial(plan.repeats, np.full(plan.repeats, 1 / plan.repeats), len(draws[0]))
        losses[column] = Estimate(value, sign * (shares.T * np.array(draws)).sum(axis=0) / plan.repeats)
    return dict(sorted(losses.items(), key=lambda item: -item[1].value if np.isfinite(item[1].value) else np.inf))
