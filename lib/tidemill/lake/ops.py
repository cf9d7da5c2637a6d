"""The rows of the ops tables: one frozen dataclass per table; its docstring describes a row.

``python -m tidemill.lake.ops`` prints the description of the tables for ``docs/tables.md``. Names of columns avoid the words that Spark,
DuckDB or PostgreSQL reserve, so that nobody has to quote them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime

from tidemill.lake.ops_row import OPS_TABLES, Int32, OpsRow, Versions, column, describe_tables

__all__ = ["OPS_TABLES", "OpsRow"]

_PIPELINE, _RUN, _MODEL = "the pipeline", "the run", "the model version"


@dataclass(frozen=True, kw_only=True)
class StateRow(OpsRow, stamps_after="node"):
    """A change of state of a run, or of a node of a run."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    node: str | None = column("the node, such as `ingest.flights`; null in `ops.runs`")
    state: str | None = column("PENDING, RUNNING, SUCCEEDED, FAILED, SKIPPED, BLOCKED or AWAITING_APPROVAL")
    started_at: datetime | None = column("when the run or node started")
    ended_at: datetime | None = column("when it ended; null while it runs")
    rows_in: int | None = column("rows read")
    rows_out: int | None = column("rows written")
    rows_quarantined: int | None = column("rows written to quarantine")
    rows_dropped: int | None = column("rows dropped by expectations or as older versions of a key")
    fingerprint: str | None = column("hashes of the node's part of the spec, of its code and of its inputs")
    error: str | None = column("why it failed or was blocked")
    inputs: Versions | None = column("table, or `models.<pipeline>` → version read")
    outputs: Versions | None = column("table, or `models.<pipeline>` → version written")
    output_rows: Versions | None = column("table → rows of the whole table at that version")


@dataclass(frozen=True, kw_only=True)
class RunRow(StateRow, table="ops.runs"):
    """Change of state of a run."""


@dataclass(frozen=True, kw_only=True)
class StepRow(StateRow, table="ops.steps"):
    """Change of state of a node of a run."""


@dataclass(frozen=True, kw_only=True)
class FileRow(OpsRow, table="ops.files", retention="forever"):
    """Run and file of a source."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    source: str | None = column("the source")
    path: str | None = column("the file; for other sources what was read, such as a table or a topic")
    size: int | None = column("bytes of the file")
    modified_at: datetime | None = column("when the file was last changed")
    rows: int | None = column("records that went into the table")
    quarantined: int | None = column("records that went into quarantine")
    state: str | None = column("loaded or bad")
    error: str | None = column("why the file is bad")
    batch_id: int | None = column("number of the batch, as `_batch_id` in the table")
    position: str | None = column("how far the source has been read, as JSON")


@dataclass(frozen=True, kw_only=True)
class SchemaRow(OpsRow, table="ops.schemas", retention="forever"):
    """Version of a source's schema."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    source: str | None = column("the source")
    version: int | None = column("number of the schema, from 1")
    schema: str | None = column("the columns as DDL")
    reason: str | None = column("why there is a new version")
    batch_id: int | None = column("the first batch of this version")


@dataclass(frozen=True, kw_only=True)
class SchemaChangeRow(OpsRow, table="ops.schema_changes"):
    """Difference that a policy decided."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    source: str | None = column("the source")
    batch_id: int | None = column("the batch")
    column_name: str | None = column("the column")
    difference: str | None = column("new, missing or of another type")
    found: str | None = column("the type in the batch")
    expected: str | None = column("the type in the schema")
    action: str | None = column("what the policy did")
    records: int | None = column("records concerned")
    files: int | None = column("files concerned")
    sample: str | None = column("one of the values")


@dataclass(frozen=True, kw_only=True)
class ExpectationRow(OpsRow, table="ops.expectations"):
    """Run, table and expectation."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    table_name: str | None = column("the table")
    expectation: str | None = column("name of the expectation; `key` is the table's key")
    rows_checked: int | None = column("rows that were checked")
    rows_failed: int | None = column("rows that violate it")
    action: str | None = column("what `on_violation` says")
    passed: bool | None = column("whether it holds")
    kind: str | None = column("the kind of expectation")
    value: float | None = column("the measured figure, of kinds that have one")
    expected: str | None = column("what the spec requires")


@dataclass(frozen=True, kw_only=True)
class ProfileRow(OpsRow, table="ops.profiles", retention="forever"):
    """Profile and column."""

    profile_id: str | None = column("the profile: one call of `tidemill profile`")
    table_name: str | None = column("the table")
    table_version: int | None = column("its version")
    column_name: str | None = column("the column")
    position: Int32 | None = column("position of the column in the table, from 0")
    type: str | None = column("its type")
    rows: int | None = column("rows of the table")
    nulls: int | None = column("null values")
    distinct_values: int | None = column("distinct values")
    is_distinct_exact: bool | None = column("whether that count is exact")
    min: str | None = column("smallest value")
    max: str | None = column("greatest value")
    mean: float | None = column("mean of numbers")
    stddev: float | None = column("standard deviation of numbers")
    quantiles: str | None = column("quantiles, as JSON")
    zeros: int | None = column("zeros")
    negatives: int | None = column("negative numbers")
    not_finite: int | None = column("NaN and infinite numbers")
    empty: int | None = column("empty texts")
    min_length: int | None = column("shortest text, in characters")
    max_length: int | None = column("longest text, in characters")
    mean_length: float | None = column("mean length of texts")
    top_values: str | None = column("frequent values with their counts, as JSON")
    are_top_values_exact: bool | None = column("whether these counts are exact")
    histogram: str | None = column("histogram of numbers, as JSON")


@dataclass(frozen=True, kw_only=True)
class CheckRow(OpsRow, table="ops.checks"):
    """Figure of the checks before training."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    table_name: str | None = column("the table")
    check_name: str | None = column("leakage, constant, correlation …")
    column_name: str | None = column("the column")
    other: str | None = column("the other column, of checks of pairs")
    measure: str | None = column("what was measured")
    value: float | None = column("the measured figure")
    limit_value: float | None = column("the limit")
    action: str | None = column("what follows: block, warn or drop")
    message: str | None = column("the finding as a sentence")


@dataclass(frozen=True, kw_only=True)
class FeatureRow(OpsRow, table="ops.features"):
    """Column: what `features: auto` chose."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    position: Int32 | None = column("position of the column, from 0")
    column_name: str | None = column("the column")
    chosen: str | None = column("what it becomes, or that it is left out")
    reason: str | None = column("why")
    feature_group: str | None = column("the feature group")
    settings: str | None = column("the group's options, as JSON")
    figures: str | None = column("the statistics that decided, as JSON")


@dataclass(frozen=True, kw_only=True)
class UnseenRow(OpsRow, table="ops.unseen"):
    """Scoring and category column: values that training did not contain."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    model_version: Int32 | None = column(_MODEL)
    column_name: str | None = column("the column")
    rows_scored: int | None = column("rows scored")
    rows_unseen: int | None = column("rows with a value that training did not contain")
    is_exact: bool | None = column("whether that count is exact")
    most_frequent: str | None = column("the most frequent of these values, as JSON")


@dataclass(frozen=True, kw_only=True)
class TrialRow(OpsRow, table="ops.trials"):
    """Trial and fold."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    trial: Int32 | None = column("number of the trial in its run")
    fold: Int32 | None = column("the validation fold")
    family: str | None = column("the model family")
    params: str | None = column("the parameters, as JSON")
    metric: str | None = column("the selection metric")
    value: float | None = column("its value on the fold; null where the fit failed")
    seconds: float | None = column("seconds of the fit")
    state: str | None = column("SUCCEEDED, FAILED or stopped early")
    engine: str | None = column("spark or tasks")
    error: str | None = column("why the fit failed")
    library: str | None = column("the library that fitted it")
    score_seconds: float | None = column("seconds of scoring the fold")
    share: float | None = column("share of the training rows that were used")
    search: str | None = column("hash of all that the search depends on; a resumed run reuses rows of the same hash")
    rounds: Int32 | None = column("boosting rounds, where they were stopped early")


@dataclass(frozen=True, kw_only=True)
class ImportanceRow(OpsRow, table="ops.importances", retention="model"):
    """Model version and slot of the feature vector, or raw column."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    model_version: Int32 | None = column(_MODEL)
    slot: str | None = column("name of the slot; null for the kind permutation, which is of raw columns")
    column_name: str | None = column("the raw column; null for a slot of several")
    kind: str | None = column("how the importance was computed: gain, coefficient or permutation")
    importance: float | None = column("the importance")
    rank: Int32 | None = column("rank of the slot, from 1")
    lower: float | None = column("lower end of the 95 % interval; null where the kind has none")
    upper: float | None = column("upper end of the 95 % interval; null where the kind has none")


@dataclass(frozen=True, kw_only=True)
class ContributionRow(OpsRow, table="ops.contributions", retention="model"):
    """Sampled test row and column: how the column moved the prediction away from the mean prediction."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    model_version: Int32 | None = column(_MODEL)
    row_key: str | None = column("the key of the row, as JSON")
    column_name: str | None = column("the raw column; null for the mean prediction that contributions add up from")
    column_value: str | None = column("the value of the column in this row, as text")
    contribution: float | None = column("the contribution; the contributions of a row add up to its prediction")
    class_index: Int32 | None = column("the class, of more than two; null otherwise")
    scale: str | None = column(
        "what the contributions add up to: value, probability, log-odds, or margin, a class's score before the softmax"
    )
    kind: str | None = column("how it was computed: tree, linear or sampled")


@dataclass(frozen=True, kw_only=True)
class MetricRow(OpsRow, table="ops.metrics", retention="model"):
    """Model version, split, slice and metric; version 0 is the baseline."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    model_version: Int32 | None = column("the model version; 0 is the constant baseline")
    split: str | None = column("train or test")
    slice: str | None = column("`column=value`; null for all rows")
    metric: str | None = column("the metric")
    value: float | None = column("its value")
    lower: float | None = column("lower end of the 95 % interval; null where there is none")
    upper: float | None = column("upper end of the 95 % interval; null where there is none")
    rows: int | None = column("rows that were measured")
    is_small: bool | None = column("whether a slice has fewer rows than `min_slice_rows`; null for all rows")
    error_bound: float | None = column("the greatest distance of the value from the exact one; 0 or null: exact")


@dataclass(frozen=True, kw_only=True)
class GateRow(OpsRow, table="ops.gates", retention="model"):
    """Evaluation and gate."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    model_version: Int32 | None = column(_MODEL)
    gate: str | None = column("the gate as the spec has it, or the default one")
    value: float | None = column("the left side; null where there was nothing to compare")
    bound: float | None = column("the right side; null where there was nothing to compare")
    passed: bool | None = column("whether it holds")
    compared: str | None = column("what was compared, as a sentence")


@dataclass(frozen=True, kw_only=True)
class CurveRow(OpsRow, table="ops.curves", retention="model"):
    """Model version, split, curve and point of it, 200 points at most."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    model_version: Int32 | None = column(_MODEL)
    split: str | None = column("train or test")
    curve: str | None = column("roc, pr, calibration, gain, lift, precision, recall, share_flagged, residuals or learning")
    x: float | None = column("the horizontal place")
    y: float | None = column("the vertical place")
    threshold: float | None = column("the score at this point; null where the curve has none")
    rows: int | None = column("rows behind the point; null where that is all rows")
    lower: float | None = column("lower end of the 95 % interval; null where the curve has none")
    upper: float | None = column("upper end of the 95 % interval; null where the curve has none")


@dataclass(frozen=True, kw_only=True)
class ConfusionRow(OpsRow, table="ops.confusion", retention="model"):
    """Model version, split, label and prediction."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    model_version: Int32 | None = column(_MODEL)
    split: str | None = column("train or test")
    label: str | None = column("the class; null for one that the model does not know")
    prediction: str | None = column("the predicted class")
    rows: float | None = column("rows, each with its weight")


@dataclass(frozen=True, kw_only=True)
class DeploymentRow(OpsRow, table="ops.deployments", stamps_after="actor", retention="forever"):
    """Change of state of a model version."""

    pipeline: str | None = column(_PIPELINE)
    model_version: Int32 | None = column(_MODEL)
    from_state: str | None = column("the state before; null for a new version")
    to_state: str | None = column("CANDIDATE, CHALLENGER, CHAMPION, RETIRED or REJECTED")
    actor: str | None = column("who made the change; `tidemill` for automatic changes")
    reason: str | None = column("why")
    evidence: str | None = column("what the decision rests on, as JSON")
    run_id: str | None = column(_RUN)


@dataclass(frozen=True, kw_only=True)
class DriftRow(OpsRow, table="ops.drift"):
    """Monitoring run and feature column."""

    pipeline: str | None = column(_PIPELINE)
    run_id: str | None = column(_RUN)
    model_version: Int32 | None = column(_MODEL)
    column_name: str | None = column("the feature column")
    method: str | None = column("the drift method")
    value: float | None = column("the distance")
    level: str | None = column("ok, warn or alert")
    rows_reference: int | None = column("rows of the training data")
    rows_scored: int | None = column("rows that were compared with them")


if __name__ == "__main__":
    sys.stdout.write(describe_tables())
