"""The columns of the ops tables, as Arrow schemas: the ledger's contract."""

from __future__ import annotations

import pyarrow as pa

INSTANT = pa.timestamp("us", tz="UTC")
VERSIONS = pa.map_(pa.string(), pa.int64())


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


_STATES = _schema(
    pipeline=pa.string(),
    run_id=pa.string(),
    node=pa.string(),
    at=INSTANT,
    state=pa.string(),
    started_at=INSTANT,
    ended_at=INSTANT,
    rows_in=pa.int64(),
    rows_out=pa.int64(),
    rows_quarantined=pa.int64(),
    rows_dropped=pa.int64(),
    fingerprint=pa.string(),
    error=pa.string(),
    inputs=VERSIONS,
    outputs=VERSIONS,
)

OPS_TABLES: dict[str, pa.Schema] = {
    "ops.runs": _STATES,
    "ops.steps": _STATES,
    "ops.files": _schema(
        pipeline=pa.string(),
        run_id=pa.string(),
        source=pa.string(),
        path=pa.string(),
        size=pa.int64(),
        modified_at=INSTANT,
        rows=pa.int64(),
        quarantined=pa.int64(),
        state=pa.string(),
        error=pa.string(),
        batch_id=pa.int64(),
        position=pa.string(),
        at=INSTANT,
    ),
    "ops.schemas": _schema(
        pipeline=pa.string(),
        run_id=pa.string(),
        source=pa.string(),
        version=pa.int64(),
        schema=pa.string(),
        reason=pa.string(),
        batch_id=pa.int64(),
        at=INSTANT,
    ),
    "ops.schema_changes": _schema(
        pipeline=pa.string(),
        run_id=pa.string(),
        source=pa.string(),
        batch_id=pa.int64(),
        column=pa.string(),
        difference=pa.string(),
        found=pa.string(),
        expected=pa.string(),
        action=pa.string(),
        records=pa.int64(),
        files=pa.int64(),
        sample=pa.string(),
        at=INSTANT,
    ),
    "ops.expectations": _schema(
        pipeline=pa.string(),
        run_id=pa.string(),
        table=pa.string(),
        expectation=pa.string(),
        rows_checked=pa.int64(),
        rows_failed=pa.int64(),
        action=pa.string(),
        passed=pa.bool_(),
        at=INSTANT,
    ),
    "ops.trials": _schema(
        pipeline=pa.string(),
        run_id=pa.string(),
        trial=pa.int32(),
        fold=pa.int32(),
        family=pa.string(),
        params=pa.string(),
        metric=pa.string(),
        value=pa.float64(),
        seconds=pa.float64(),
        state=pa.string(),
        engine=pa.string(),
        error=pa.string(),
        at=INSTANT,
    ),
    "ops.metrics": _schema(
        pipeline=pa.string(),
        run_id=pa.string(),
        model_version=pa.int32(),
        split=pa.string(),
        slice=pa.string(),
        metric=pa.string(),
        value=pa.float64(),
        lower=pa.float64(),
        upper=pa.float64(),
        at=INSTANT,
    ),
    "ops.deployments": _schema(
        pipeline=pa.string(),
        model_version=pa.int32(),
        from_state=pa.string(),
        to_state=pa.string(),
        actor=pa.string(),
        at=INSTANT,
        reason=pa.string(),
        evidence=pa.string(),
        run_id=pa.string(),
    ),
    "ops.drift": _schema(
        pipeline=pa.string(),
        run_id=pa.string(),
        model_version=pa.int32(),
        column=pa.string(),
        method=pa.string(),
        value=pa.float64(),
        level=pa.string(),
        rows_reference=pa.int64(),
        rows_scored=pa.int64(),
        at=INSTANT,
    ),
}
