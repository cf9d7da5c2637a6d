"""Predictions of held-out rows, written to files by the workers that fitted the models."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.training.engines.fit_worker import Fit, predict_held_out
from tidemill.training.engines.fold_matrix import HELD_OUT, open_order

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def write_held_out_predictions(spark: SparkSession, fits: Sequence[Fit], folders: Sequence[str], order: str) -> None:
    """Run the fits as one Spark job, each in a Spark task, and write the predictions of its held-out rows to its folder.

    One Parquet file each, with ``order`` (under that name) BIGINT, ``label`` DOUBLE and ``p`` ARRAY<DOUBLE>: the probabilities of the
    classes, or the value.

    Raises:
        Exception: a fit failed.
    """

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                fit = fits[number]
                labels, predicted, _ = predict_held_out(fit)
                _write(
                    folders[number], {order: np.asarray(open_order(fit.matrix, HELD_OUT)), "label": labels, "p": _to_list_array(predicted)}
                )
                yield pa.RecordBatch.from_pydict({"rows": pa.array([len(labels)], pa.int64())})

    spark.range(0, len(fits), 1, len(fits)).mapInArrow(work, "rows BIGINT").collect()


def _to_list_array(predicted: np.ndarray) -> pa.Array:
    matrix = np.ascontiguousarray(predicted.reshape(len(predicted), -1), dtype=np.float64)
    offsets = np.arange(len(matrix) + 1, dtype=np.int64) * matrix.shape[1]
    return pa.LargeListArray.from_arrays(offsets, pa.array(matrix.ravel())).cast(pa.list_(pa.float64()))


def _write(folder: str, columns: dict[str, np.ndarray | pa.Array]) -> None:
    """Write the file of a folder; a retried Spark task replaces it."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    partial_file = target / f"_{uuid.uuid4().hex}"
    pq.write_table(pa.table(columns), partial_file)
    partial_file.rename(target / "rows.parquet")
