"""The step monitor: how far newly scored rows lie from the rows that the champion was trained on."""

from __future__ import annotations

from tidemill.errors import DriftRefused
from tidemill.monitoring.drift import ColumnDrift, level, measure_drift
from tidemill.registry import Manifest, load_manifest
from tidemill.spark_errors import sentence
from tidemill.spec.models import RECOMMENDATION, Drift
from tidemill.steps.monitor_window import rows_to_compare, training_rows
from tidemill.steps.result import StepContext, StepResult


def monitor(context: StepContext) -> StepResult:
    """Measure the drift of the model's feature columns and write it to ``ops.drift``, one row a column; safe to repeat.

    The reference is the training rows (split ``train``, with a label) of the dataset at the version that the model was trained on, or,
    where that cannot be read any more, as it is now. What is compared are the rows scored since the last monitor; in a first run those
    that are not training rows: among all rows ever scored, the newest would hardly count. Keys, the label, ``event_time`` and instants
    are not watched.
    Where the spec has no ``monitoring.drift``, drift is recorded with the default levels and refuses nothing.

    Raises:
        DriftRefused: columns are at the alert level and the spec says ``on_alert: fail``.
    """
    pipeline = context.spec.pipeline
    version = context.inputs[pipeline.model_name]
    manifest = load_manifest(context.lake, context.pipeline, version)
    # Two texts are seldom the same, so that how often each is there says nothing.
    unwatched = {*pipeline.dataset.key, pipeline.dataset.label, pipeline.dataset.event_time, *pipeline.texts}
    if manifest.task == RECOMMENDATION:
        unwatched |= set(manifest.feature_columns)  # which ids there are says nothing either
    columns = [name for name in manifest.feature_columns if name not in unwatched]
    found, remarks = _measured(context, manifest, columns)
    rule = pipeline.monitoring.drift or Drift()
    _record(context, version, rule, found)
    alerts = [drift for drift in found if level(drift.value, rule.warn, rule.alert) == "alert"]
    if alerts and rule.on_alert == "fail":
        raise DriftRefused(f"drift of {_named(alerts)} is not below monitoring.drift.alert ({rule.alert}); look at them, or train anew")
    rows = found[0].rows_scored if found else None
    notes = (f"drift at the alert level ({rule.alert}): {_named(alerts)}", *remarks) if alerts else remarks
    return StepResult(rows_in=rows, rows_out=len(found), notes=notes)


def _measured(context: StepContext, manifest: Manifest, columns: list[str]) -> tuple[list[ColumnDrift], tuple[str, ...]]:
    """Return the drift of the columns, and notes on the rows that are compared."""
    table = context.spec.pipeline.dataset_table
    now = context.inputs[table]

    if not columns:
        return [], ()
    window = rows_to_compare(context, manifest, columns)

    def since(version: int) -> list[ColumnDrift]:
        return measure_drift(training_rows(context, version), window.rows, columns)

    if manifest.dataset_version == now:
        return since(now), window.remarks
    try:
        return since(manifest.dataset_version), window.remarks
    except Exception as error:  # noqa: BLE001 - files of an old version may be gone; whatever else it is shows again below
        note = f"drift is against {table} as it is now; version {manifest.dataset_version}, which model {manifest.version} was trained on, "
        return since(now), (
            *window.remarks,
            f"{note}cannot be read: {sentence(error)}",
        )


def _record(context: StepContext, version: int, rule: Drift, found: list[ColumnDrift]) -> None:
    rows = [
        {
            "pipeline": context.pipeline,
            "run_id": context.run_id,
            "model_version": version,
            "column_name": drift.column,
            "method": rule.method,
            "value": drift.value,
            "level": level(drift.value, rule.warn, rule.alert),
            "rows_reference": drift.rows_reference,
            "rows_scored": drift.rows_scored,
        }
        for drift in found
    ]
    context.lake.ledger.put("ops.drift", rows, where={"pipeline": context.pipeline, "run_id": context.run_id})


def _named(drifts: list[ColumnDrift]) -> str:
    ordered = sorted(drifts, key=lambda drift: -(drift.value or 0))
    return ", ".join(f"{drift.column} ({drift.value:.3f})" for drift in ordered)
