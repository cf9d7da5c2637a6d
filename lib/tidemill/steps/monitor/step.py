"""The step monitor: drift of newly scored rows from the training rows of the champion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.errors import DriftRefused
from tidemill.lake.ops import DriftRow, StepRow
from tidemill.model_registry import Manifest, read_manifest
from tidemill.monitoring.drift import ColumnDrift, level, measure_drift
from tidemill.monitoring.methods import DriftMethod
from tidemill.quoting import quote_name
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.spec.models import Drift
from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.score.step import read_scoring_rows
from tidemill.training.labels import filter_labelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import Column, DataFrame

    from tidemill.model_registry import Manifest
    from tidemill.steps.result import StepContext


_KEY, _VALUES, _EARLIER, _TRAINED = "_tidemill_key", "_tidemill_values", "_tidemill_earlier", "_tidemill_trained"
# A monitor without new rows compares with earlier monitors, up to so many: a forced rerun must not clear an alert.
MAX_EARLIER_MONITORS = 10


@dataclass(frozen=True)
class ComparedRows:
    """The rows to compare, and notes on them."""

    rows: DataFrame
    remarks: tuple[str, ...]


def select_training_rows(context: StepContext, version: int) -> DataFrame:
    """Return the training rows of the dataset at ``version``: the labelled rows of the split ``train``."""
    pipeline = context.spec.pipeline
    dataset = context.lake.read(context.spark, pipeline.dataset_table, version)
    return filter_labelled(dataset.where(F.col("split") == "train"), pipeline.dataset, pipeline.task_kind)


def select_rows_to_compare(context: StepContext, manifest: Manifest, columns: Sequence[str]) -> ComparedRows:
    """Return the scored rows that no earlier monitor has compared; without an earlier one, those that are not training rows.

    A row is new where its key was not among the rows to score of the earlier monitor, at the table versions that it read (``ops.steps``),
    or where a value of ``columns`` has changed since. Changed training rows do not count, since a feature that changes in every row would
    bring all of them back. Times are not used. Where no row is new since the last monitor, the one before it is used.
    """
    rows = read_scoring_rows(context)
    remarks: list[str] = []
    key = context.spec.pipeline.dataset.key
    marked = _mark_trained(rows, _read_training_keys(context, manifest, key), key)
    for run_id, versions in _list_earlier_inputs(context):
        try:
            then = read_scoring_rows(replace(context, inputs={**context.inputs, **versions}))
            new = _select_new_rows(marked, then, key, [name for name in columns if name in rows.columns and name in then.columns])
            if not new.isEmpty():
                since = f"drift is of the rows that were scored since the monitor of run {run_id}"
                return ComparedRows(new.select(*map(quote_name, rows.columns)), (since, *remarks))
        except Exception as error:  # noqa: BLE001 - files of an old version may be gone; other errors occur again below
            remarks.append(
                f"the rows that run {run_id} scored cannot be read any more, so an earlier run is used: {format_spark_error(error)}"
            )
    untrained = marked.where(F.col(_TRAINED).isNull()).select(*map(quote_name, rows.columns))
    return ComparedRows(untrained, ("drift is of the scored rows that the model was not trained on", *remarks))


def _list_earlier_inputs(context: StepContext) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Yield the runs of earlier monitors that measured drift of other rows, latest first, with the versions of the scored tables."""
    tables = context.spec.scoring_inputs()
    current_versions = {table: context.inputs[table] for table in tables}
    ledger = context.lake.ledger
    measured = {row.run_id for row in ledger.read(DriftRow, pipeline=context.pipeline)} - {context.run_id}
    versions_of: dict[str | None, Mapping[str, int]] = {}
    for row in ledger.read(StepRow, pipeline=context.pipeline, node=context.node):
        inputs = row.inputs or {}
        if row.run_id in measured and set(tables) <= set(inputs):
            versions_of.pop(row.run_id, None)  # runs are ordered by their last row
            versions_of[row.run_id] = {table: inputs[table] for table in tables}
    others = [(str(run_id), versions) for run_id, versions in reversed(versions_of.items()) if versions != current_versions]
    yield from others[:MAX_EARLIER_MONITORS]


def _hash_columns(names: Sequence[str]) -> Column:
    """Return a hash of columns by their text, so that a column keeps its hashes when its type becomes wider."""
    return F.xxhash64(*[F.coalesce(F.col(quote_name(name)).cast("string"), F.lit("\0null")) for name in names], F.lit(len(names)))


def _read_training_keys(context: StepContext, manifest: Manifest, key: Sequence[str]) -> DataFrame:
    """Return the keys of the model's training rows; of the current dataset where the version of the model is gone."""
    now = context.inputs[context.spec.pipeline.dataset_table]
    try:
        trained = select_training_rows(context, manifest.dataset_version)
        trained.limit(1).collect()
    except Exception:
        if manifest.dataset_version == now:
            raise
        trained = select_training_rows(context, now)
    return trained.select(_hash_columns(key).alias(_KEY), F.lit(True).alias(_TRAINED)).distinct()


def _mark_trained(rows: DataFrame, trained: DataFrame, key: Sequence[str]) -> DataFrame:
    return rows.withColumn(_KEY, _hash_columns(key)).join(trained, on=_KEY, how="left")


def _select_new_rows(marked: DataFrame, then: DataFrame, key: Sequence[str], columns: Sequence[str]) -> DataFrame:
    """Return the marked rows that are not among the rows ``then``, or have changed."""
    earlier = then.select(_hash_columns(key).alias(_KEY), _hash_columns(columns).alias(_EARLIER)).dropDuplicates([_KEY])
    compared = marked.withColumn(_VALUES, _hash_columns(columns)).join(earlier, on=_KEY, how="left")
    is_changed = (F.col(_VALUES) != F.col(_EARLIER)) & F.col(_TRAINED).isNull()
    return compared.where(F.col(_EARLIER).isNull() | is_changed)


def monitor(context: StepContext) -> StepResult:
    """Measure the drift of the model's feature columns and write it to ``ops.drift``, one row per column; safe to repeat.

    The reference is the training rows (split ``train``, with a label) of the dataset at the version that the model was trained on, or,
    where that version is gone, at the current one. The compared rows are those scored since the last monitor; in the first run those
    that are not training rows, since among all scored rows the newest would hardly count. Keys, the label, ``event_time`` and instants
    are not compared. Where the spec has no ``monitoring.drift``, drift is recorded with the default levels and refuses nothing.

    Raises:
        DriftRefused: columns are at the alert level and the spec says ``on_alert: fail``.
    """
    pipeline = context.spec.pipeline
    version = context.inputs[pipeline.model_name]
    manifest = read_manifest(context.lake, context.pipeline, version)
    # Texts are rarely equal, so their frequencies mean nothing.
    ignored = {*pipeline.dataset.key, pipeline.dataset.label, pipeline.dataset.event_time, *pipeline.texts}
    if manifest.kind.recommends:
        ignored |= set(manifest.feature_columns)  # the frequencies of ids mean nothing either
    columns = [name for name in manifest.feature_columns if name not in ignored]
    rule = pipeline.monitoring.drift or Drift()
    warn_level, alert_level = rule.levels
    drifts, remarks = _measure_drift(context, manifest, columns, rule.measure)
    _record(context, version, rule, drifts)
    alerts = [drift for drift in drifts if level(drift.value, warn_level, alert_level) == "alert"]
    if alerts and rule.on_alert == "fail":
        raise DriftRefused(
            f"drift of {_format_drifts(alerts)} is not below monitoring.drift.alert ({alert_level}); check these columns, or train again"
        )
    rows = drifts[0].rows_scored if drifts else None
    notes = (f"drift at the alert level ({alert_level}): {_format_drifts(alerts)}", *remarks) if alerts else remarks
    return StepResult(rows_in=rows, rows_out=len(drifts), notes=notes)


def _measure_drift(
    context: StepContext, manifest: Manifest, columns: list[str], method: DriftMethod
) -> tuple[list[ColumnDrift], tuple[str, ...]]:
    """Measure the drift of the columns; return also notes on the compared rows."""
    table = context.spec.pipeline.dataset_table
    now = context.inputs[table]

    if not columns:
        return [], ()
    compared = select_rows_to_compare(context, manifest, columns)

    def measure_since(version: int) -> list[ColumnDrift]:
        return measure_drift(select_training_rows(context, version), compared.rows, columns, method)

    if manifest.dataset_version == now:
        return measure_since(now), compared.remarks
    try:
        return measure_since(manifest.dataset_version), compared.remarks
    except Exception as error:  # noqa: BLE001 - files of an old version may be gone; whatever else it is shows again below
        note = f"drift is against {table} as it is now; version {manifest.dataset_version}, which model {manifest.version} was trained on, "
        return measure_since(now), (
            *compared.remarks,
            f"{note}cannot be read: {format_spark_error(error)}",
        )


def _record(context: StepContext, version: int, rule: Drift, drifts: list[ColumnDrift]) -> None:
    rows = [
        DriftRow(
            **context.run_columns,
            model_version=version,
            column_name=drift.column,
            method=rule.method,
            value=drift.value,
            level=level(drift.value, *rule.levels),
            rows_reference=drift.rows_reference,
            rows_scored=drift.rows_scored,
        )
        for drift in drifts
    ]
    context.lake.ledger.put(DriftRow, rows, where=context.run_columns)


def _format_drifts(drifts: list[ColumnDrift]) -> str:
    ordered = sorted(drifts, key=lambda drift: -(drift.value or 0))
    return ", ".join(f"{drift.column} ({drift.value:.3f})" for drift in ordered)
