"""Predictions of rows that a fit has not seen, written by the worker that made them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.training.engines.fit_worker import Fit, unseen
from tidemill.training.engines.fold_matrix import HELD_OUT, open_order

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def write_unseen(spark: SparkSession, fits: Sequence[Fit], places: Sequence[str], order: str) -> None:
    """Fit each in a task of one Spark job, and write what it says of the rows that it has not seen into the folder of its place.

    A Parquet file each, with ``order`` (under that name) BIGINT, ``label`` DOUBLE and ``p`` ARRAY<DOUBLE>: the probabilities of the
    classes, or the value alone.

    Raises:
        Exception: a fit failed.
    """

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                fit = fits[number]
                labels, predicted, _ = unseen(fit)
                _write(places[number], {order: np.asarray(open_order(fit.copy, HELD_OUT)), "label": labels, "p": _lists(predicted)})
                yield pa.RecordBatch.from_pydict({"rows": pa.array([len(labels)], pa.int64())})

    spark.range(0, len(fits), 1, len(fits)).mapInArrow(work, "rows BIGINT").collect()


def _lists(predicted: np.ndarray) -> pa.Array:
    flat = np.ascontiguousarray(predicted.reshape(len(predicted), -1), dtype=np.float64)
    offsets = np.arange(len(flat) + 1, dtype=np.int64) * flat.shape[1]
    return pa.LargeListArray.from_arrays(offsets, pa.array(flat.ravel())).cast(pa.list_(pa.float64()))


def _write(place: str, columns: dict[str, np.ndarray | pa.Array]) -> None:
    """Write the one file of a folder; a task that is run again puts another in its place."""
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    making = folder / f"_{uuid.uuid4().hex}"
    pq.write_table(pa.table(columns), making)
    making.rename(folder / "rows.parquet")
