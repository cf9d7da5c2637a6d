"""A sample of the dataset's rows with their predictions at training time, kept with each version: what a loaded model must reproduce."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.column_names import INTERNAL
from tidemill.columns import column
from tidemill.errors import StepError
from tidemill.lake.catalog import read_batches
from tidemill.model_registry.manifest import Manifest, read_sample_file
from tidemill.model_registry.predict import OUTPUTS, predict
from tidemill.model_registry.store import load_model
from tidemill.runtime.session import child_session

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import SparkSession

    from tidemill.lake import Lake

SAMPLE_ROWS = 100
TOLERANCE = 1e-9
"""How far a predicted number or probability may be from the stored one, relative to the greater of the two and 1; classes are equal."""

_PLACE = f"{INTERNAL}_place"


@dataclass(frozen=True)
class SampleDifference:
    """The first row of a sample whose prediction is not the stored one.

    ``column`` is ``prediction``, ``probability`` or ``score_error``; ``computed`` is None where the model returned no such row.
    """

    key: Mapping[str, object]
    column: str
    stored: object
    computed: object

    def __str__(self) -> str:
        """Return the difference as a part of a sentence."""
        row = ", ".join(f"{name} {value}" for name, value in self.key.items())
        return f"{self.column} of the row {row} was {_show(self.stored)} at training time and is {_show(self.computed)} now"


@dataclass(frozen=True)
class SampleCheck:
    """The comparison of a version's predictions with the stored ones: the number of rows compared, and the first difference."""

    rows: int
    difference: SampleDifference | None

    @property
    def is_equal(self) -> bool:
        """Return True where every row has its stored prediction."""
        return self.difference is None


def take_sample(model: PipelineModel, manifest: Manifest, dataset: DataFrame, key: Sequence[str], label: str | None) -> pa.Table:
    """Return at most ``SAMPLE_ROWS`` rows of the dataset with the predictions of ``model``, which is still in memory.

    The rows are those with the lowest hashes of the key, so that they do not depend on partitions; for a recommender, of the training rows,
    since it can score no others.

    Returns:
        Columns: ``key`` and ``features`` (structs of the dataset's columns), ``prediction``, ``probability``, ``score_error``.
    """
    rows = _select_known_rows(dataset, label, manifest) if manifest.kind.recommends else dataset
    order = [F.xxhash64(*[column(name).cast("string") for name in key]), *[column(name).cast("string") for name in key]]
    names = list(dict.fromkeys((*key, *manifest.feature_columns)))
    sample = read_batches(rows.orderBy(*order).limit(SAMPLE_ROWS).select(*map(column, names))).read_all()
    return _join(sample, key, list(manifest.feature_columns), _predict(model, manifest, dataset.sparkSession, sample))


def to_parquet(sample: pa.Table) -> bytes:
    """Return a sample as the content of its file."""
    content = io.BytesIO()
    pq.write_table(sample, content)
    return content.getvalue()


def read_sample(lake: Lake, manifest: Manifest) -> pa.Table:
    """Return the sample that is stored with a version; see `take_sample`. Starts no Spark.

    Raises:
        StepError: the version has none, since an earlier release trained it, or the file was damaged or changed.
    """
    return pq.read_table(io.BytesIO(read_sample_file(lake, manifest)))


def check_sample(spark: SparkSession, lake: Lake, pipeline: str, version: int) -> SampleCheck:
    """Load a version from its files in a new session, past the cache of this process, and compare its predictions with the stored ones.

    Classes, clusters and ``score_error`` must be equal, other numbers and probabilities up to ``TOLERANCE``. The dataset is not read.

    Raises:
        StepError: the version, or its sample, is not there or damaged, it does not load, or a stage of it fails.
    """
    session = child_session(spark)
    model, manifest = load_model(lake, pipeline, version, session=session)
    sample = read_sample(lake, manifest)
    features = pa.Table.from_arrays(sample["features"].combine_chunks().flatten(), names=list(manifest.feature_columns))
    computed = _predict(model, manifest, session, features)
    return compare_predictions(sample, computed, is_number=manifest.kind.predicts_number)


def refuse_other_predictions(spark: SparkSession, lake: Lake, pipeline: str, version: int) -> int:
    """Check the sample of a version (see `check_sample`) and return the number of rows compared.

    Raises:
        StepError: a prediction is not the stored one, or the check could not be made.
    """
    check = check_sample(spark, lake, pipeline, version)
    if check.difference is not None:
        raise StepError(
            f"model {version} of {pipeline}, loaded from its files, does not predict what it did at training time: {check.difference}; "
            "train again, or choose another version"
        )
    return check.rows


def compare_predictions(stored: pa.Table, computed: pa.Table, *, is_number: bool) -> SampleCheck:
    """Compare predictions for the same rows in the same order; ``computed`` may lack rows, whose cells are null then."""
    for row, (before, now) in enumerate(zip(stored.to_pylist(), computed.to_pylist(), strict=True)):
        for name in OUTPUTS:
            is_exact = name == "score_error" or (name == "prediction" and not is_number)
            if not (before[name] == now[name] if is_exact else _is_close(before[name], now[name])):
                return SampleCheck(stored.num_rows, SampleDifference(stored["key"][row].as_py(), name, before[name], now[name]))
    return SampleCheck(stored.num_rows, None)


def _predict(model: PipelineModel, manifest: Manifest, spark: SparkSession, rows: pa.Table) -> pa.Table:
    """Return prediction, probability and score_error of each row, in the order of ``rows``; null where the model dropped the row."""
    features = rows.select(list(manifest.feature_columns)).append_column(_PLACE, pa.array(range(rows.num_rows), pa.int32()))
    outputs = read_batches(predict(model, manifest, spark.createDataFrame(features)).select(_PLACE, *OUTPUTS)).read_all()
    rows_of_places = {place: row for row, place in enumerate(outputs[_PLACE].to_pylist())}
    return outputs.select(list(OUTPUTS)).take(pa.array([rows_of_places.get(place) for place in range(rows.num_rows)], pa.int64()))


def _join(rows: pa.Table, key: Sequence[str], features: Sequence[str], outputs: pa.Table) -> pa.Table:
    structs = [rows.select(list(names)).to_struct_array().combine_chunks() for names in (key, features)]
    return pa.Table.from_arrays([*structs, *outputs.columns], names=["key", "features", *outputs.column_names])


def _select_known_rows(rows: DataFrame, label: str | None, manifest: Manifest) -> DataFrame:
    """Select the rows whose user and item are in the training rows; a recommender cannot score others."""
    is_whole = [column(name).isNotNull() for name in (*manifest.feature_columns, *([label] if label else []))]
    return rows.where(reduce(Column.__and__, is_whole, F.col("split") == "train"))


def _is_close(stored: Any, computed: Any) -> bool:
    if stored is None or computed is None:
        return stored is computed
    if isinstance(stored, list):
        return isinstance(computed, list) and len(stored) == len(computed) and all(map(_is_close, stored, computed))
    return bool(abs(stored - computed) <= TOLERANCE * max(1.0, abs(stored), abs(computed)))


def _show(value: object) -> str:
    return "null" if value is None else repr(value)
