"""The dataset of a run as MLflow's inputs: a Delta table at a version, once for the training rows and once for the test rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from tidemill.model_registry.mlflow.history import RecordedRun

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_CONTEXTS = {"train": "train", "evaluate": "test"}
_TYPES = {
    "string": "string",
    "boolean": "boolean",
    "byte": "integer",
    "short": "integer",
    "integer": "integer",
    "long": "long",
    "float": "float",
    "double": "double",
    "binary": "binary",
    "date": "datetime",
    "timestamp": "datetime",
    "timestamp_ntz": "datetime",
}


def dataset_inputs(run: RecordedRun) -> list[DatasetInput]:
    """Return the inputs of a run; empty where it read no dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    table = f"gold.{run.pipeline}_dataset"
    found = []
    for step, context in _CONTEXTS.items():
        row = run.steps.get(step)
        if row is None or table not in (row.inputs or {}) or row.state in ("SKIPPED", "PENDING", "BLOCKED"):
            continue
        version = int(dict(row.inputs or {})[table])
        dataset = Dataset(
            name=table,
            digest=f"{context}-v{version}",  # MLflow keeps one input for a name and digest
            source_type="delta_table",
            source=json.dumps({"path": run.lake.path(table), "delta_table_version": version, "is_databricks_uc_table": False}),
            schema=_schema(run.lake.path(table), version),
            profile=json.dumps({"num_rows": row.rows_in} if row.rows_in is not None else {}),
        )
        found.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context), InputTag("table_version", str(version))]))
    return found


def _schema(path: str, version: int) -> str | None:
    """Return the columns of the table as MLflow writes a schema; None where the version is gone, or of a kind that only Spark reads."""
    try:
        fields = DeltaTable(path, version=version).schema().fields
    except (DeltaError, OSError):
        return None
    return json.dumps({"mlflow_colspec": list(_columns(fields))})


def _columns(fields: list[Any]) -> Iterator[dict[str, object]]:
    for field in fields:
        kind = str(getattr(field.type, "type", ""))
        known = "double" if kind.startswith("decimal") else _TYPES.get(kind, "any")
        yield {"type": known, "name": field.name, "required": not field.nullable}
