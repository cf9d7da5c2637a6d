"""The rows that a monitor compares with the training rows: those scored since the monitor before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.lake.names import quoted
from tidemill.spark_errors import sentence
from tidemill.steps.scoring_rows import scoring_rows
from tidemill.training.labels import labelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column, DataFrame

    from tidemill.registry import Manifest
    from tidemill.steps.result import StepContext

_KEY, _VALUES, _EARLIER, _TRAINED = "_tidemill_key", "_tidemill_values", "_tidemill_earlier", "_tidemill_trained"
# A monitor whose rows brought nothing new asks the one before it, and so on: a forced rerun must not clear an alert.
MOST_EARLIER = 10


@dataclass(frozen=True)
class Window:
    """Rows to compare, and what is to be said of them."""

    rows: DataFrame
    remarks: tuple[str, ...]


def training_rows(context: StepContext, version: int) -> DataFrame:
    """Return the rows of the dataset at ``version`` that a model is trained on: those of the split ``train`` that have a label."""
    pipeline = context.spec.pipeline
    dataset = context.lake.read(context.spark, pipeline.dataset_table, version)
    return labelled(dataset.where(F.col("split") == "train"), pipeline.dataset, pipeline.training.task)


def rows_to_compare(context: StepContext, manifest: Manifest, columns: Sequence[str]) -> Window:
    """Return the scored rows that no earlier monitor compared; where there is no earlier one, those that are not training rows.

    A row is new where its key was not among the rows to score of the earlier monitor, at the table versions that it read (``ops.steps``),
    or where a value of ``columns`` has changed since; the latter unless the model was trained on the row, since a feature that changes
    in every row would otherwise bring all training rows back. No clock is asked. Where nothing is new against the last monitor, the one
    before it is asked.
    """
    rows = scoring_rows(context)
    remarks: list[str] = []
    key = context.spec.pipeline.dataset.key
    marked = _mark_trained(rows, _trained_keys(context, manifest, key), key)
    for run_id, versions in _earlier_inputs(context):
        try:
            then = scoring_rows(replace(context, inputs={**context.inputs, **versions}))
            new = _new_rows(marked, then, key, [name for name in columns if name in rows.columns and name in then.columns])
            if not new.isEmpty():
                since = f"drift is of the rows that were scored since the monitor of run {run_id}"
                return Window(new.select(*map(quoted, rows.columns)), (since, *remarks))
        except Exception as error:  # noqa: BLE001 - files of an old version may be gone; whatever else it is shows again below
            remarks.append(f"the rows that run {run_id} scored cannot be read any more, and an earlier run is asked: {sentence(error)}")
    untrained = marked.where(F.col(_TRAINED).isNull()).select(*map(quoted, rows.columns))
    return Window(untrained, ("drift is of the scored rows that the model was not trained on", *remarks))


def _earlier_inputs(context: StepContext) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Yield the runs of earlier monitors that measured drift of other rows, latest first, with the versions of the scored tables."""
    tables = context.spec.scoring_inputs()
    wanted = {table: context.inputs[table] for table in tables}
    ledger, names = context.lake.ledger, {"pipeline": context.pipeline}
    measured = {row["run_id"] for row in ledger.rows("ops.drift", **names)} - {context.run_id}
    versions_of: dict[str, Mapping[str, int]] = {}
    for row in ledger.rows("ops.steps", **names, node=context.node):
        inputs = row["inputs"] or {}
        if row["run_id"] in measured and isinstance(inputs, dict) and set(tables) <= set(inputs):
            versions_of.pop(str(row["run_id"]), None)  # the order is that of each run's last row
            versions_of[str(row["run_id"])] = {table: int(inputs[table]) for table in tables}
    others = [(run_id, versions) for run_id, versions in reversed(versions_of.items()) if versions != wanted]
    yield from others[:MOST_EARLIER]


def _hash(names: Sequence[str]) -> Column:
    """Return a hash of columns by their text, so that a column whose type became wider keeps its hashes."""
    return F.xxhash64(*[F.coalesce(F.col(quoted(name)).cast("string"), F.lit("\0null")) for name in names], F.lit(len(names)))


def _trained_keys(context: StepContext, manifest: Manifest, key: Sequence[str]) -> DataFrame:
    """Return the keys of the model's training rows; of the dataset as it is now where the version that it learned from is gone."""
    now = context.inputs[context.spec.pipeline.dataset_table]
    try:
        trained = training_rows(context, manifest.dataset_version)
        trained.limit(1).collect()
    except Exception:
        if manifest.dataset_version == now:
            raise
        trained = training_rows(context, now)
    return trained.select(_hash(key).alias(_KEY), F.lit(True).alias(_TRAINED)).distinct()


def _mark_trained(rows: DataFrame, trained: DataFrame, key: Sequence[str]) -> DataFrame:
    return rows.withColumn(_KEY, _hash(key)).join(trained, on=_KEY, how="left")


def _new_rows(marked: DataFrame, then: DataFrame, key: Sequence[str], columns: Sequence[str]) -> DataFrame:
    """Return the marked rows that are new against those of ``then``."""
    earlier = then.select(_hash(key).alias(_KEY), _hash(columns).alias(_EARLIER)).dropDuplicates([_KEY])
    compared = marked.withColumn(_VALUES, _hash(columns)).join(earlier, on=_KEY, how="left")
    is_changed = (F.col(_VALUES) != F.col(_EARLIER)) & F.col(_TRAINED).isNull()
    return compared.where(F.col(_EARLIER).isNull() | is_changed)
