"""The input and the result of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidemill.lake.sql import has_join, table_names

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tidemill.lake import Lake
    from tidemill.lake.ops import TrialRow
    from tidemill.spec import Spec


@dataclass(frozen=True)
class StepContext:
    """Everything a step may use.

    ``inputs`` maps each table the step reads (and ``models.<pipeline>`` for a model) to the version it must read;
    ``node`` is the step's own name in the graph, such as ``ingest.flights`` or ``train``. ``replay`` is for ingest only:
    the batch or time from which the source is loaded again. ``recorded_trials`` are for train only: the rows of ``ops.trials`` of a search
    that is made again, with these parameters on these folds, instead of a new one.
    """

    spark: SparkSession
    spec: Spec
    lake: Lake
    inputs: Mapping[str, int]
    run_id: str
    node: str
    replay: str | None = None
    recorded_trials: tuple[TrialRow, ...] = ()

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        return self.spec.pipeline.pipeline

    @property
    def item(self) -> str:
        """The part of the node's name behind the dot: the source or the table."""
        return self.node.partition(".")[2]

    @property
    def run_columns(self) -> dict[str, Any]:
        """The columns that name this run in a row of an ops table."""
        return {"pipeline": self.pipeline, "run_id": self.run_id}

    def meta(self, **extra: object) -> dict[str, object]:
        """Return the ``userMetadata`` of a commit of this step."""
        return {"pipeline": self.pipeline, "run_id": self.run_id, "node": self.node, "inputs": dict(self.inputs), **extra}


@dataclass(frozen=True)
class StepResult:
    """The outputs and counts of a step.

    ``outputs`` maps each table it wrote (or ``models.<pipeline>``) to the version it committed, ``output_rows`` to the rows of the
    whole table at that version; counts are rows; ``notes`` are one-line remarks for people.
    """

    outputs: Mapping[str, int] = field(default_factory=dict)
    rows_in: int | None = None
    rows_out: int | None = None
    rows_quarantined: int = 0
    rows_dropped: int = 0
    notes: tuple[str, ...] = ()
    output_rows: Mapping[str, int] = field(default_factory=dict)


def suggest_key_remedy(context: StepContext, from_: str | None, sql: str | None) -> str:
    """Suggest how to get one row per key, for rows of the table ``from_``, or of the query or SQL file ``sql``."""
    pipeline = context.spec.pipeline
    text = None if sql is None else context.spec.sql_text(sql)
    tables = sorted(table_names(text)) if text is not None else [str(from_)]
    key = pipeline.dataset.key
    remedies = ["look for a join that multiplies rows"] if text is not None and has_join(text) else []
    for table in tables:
        layer, _, name = table.partition(".")
        declared = pipeline.tables.get(name) if layer == "silver" else None
        if declared is not None and not (declared.key and set(declared.key) <= set(key)):
            keys = ", ".join(key)
            remedies.append(f"give `tables.{name}.key: [{keys}]` and `latest_by: <column>`, which keeps the latest row of each key")
        elif layer == "bronze":
            remedies.append(
                f"read {table} through a table of `tables:` with `key` and `latest_by: <column>`, which keeps the latest row of each key"
            )
    return ", or ".join((*remedies, "add a column to `dataset.key`"))
