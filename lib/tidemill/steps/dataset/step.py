"""The step dataset: the examples with label, split and fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.dataset.splits import split_faults, split_rows
from tidemill.errors import ExpectationRefused, Fault, SpecError, StepError, did_you_mean
from tidemill.features.checks import run_feature_checks
from tidemill.features.checks.findings import format_notes, format_refusal
from tidemill.lake.ops import CheckRow
from tidemill.quoting import quote_name
from tidemill.runtime.spark_errors import raise_step_error
from tidemill.spec.models import Training
from tidemill.steps.dataset.history import with_history
from tidemill.steps.dataset.labels import check_labels, check_weights, find_weight_faults
from tidemill.steps.result import StepContext, StepResult, suggest_key_remedy
from tidemill.tasks import Task

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.spec.models import Dataset, Training


def check_features(context: StepContext, marked: DataFrame) -> tuple[str, ...]:
    """Check the feature columns of ``marked``, write ``ops.checks`` and return notes.

    Raises:
        ExpectationRefused: the label leaks into a column, and ``features.checks.leakage`` is ``block``.
    """
    pipeline = context.spec.pipeline
    if pipeline.task_kind.recommends:
        return ()  # no feature columns
    findings = run_feature_checks(marked, pipeline.dataset, pipeline.task_kind, pipeline.features)
    rows = [CheckRow(**context.run_columns, table_name=pipeline.dataset_table, **finding.row()) for finding in findings]
    context.lake.ledger.put(CheckRow, rows, where=context.run_columns)
    message = format_refusal(findings)
    if message is not None:
        raise ExpectationRefused(message)
    return format_notes(findings)


_NO_ID = (T.ArrayType, T.MapType, T.StructType, T.NullType, T.VariantType)


def find_id_faults(schema: T.StructType, training: Training) -> list[Fault]:
    """Return a fault for each of ``training.user`` and ``training.item`` that is missing, or whose type cannot be an id."""
    faults = []
    for key, name in (("user", training.user), ("item", training.item)):
        if name is None:
            continue
        if name not in schema.names:
            message = f"column {name!r} is not in the dataset{did_you_mean(name, schema.names)}"
        elif isinstance(schema[name].dataType, _NO_ID):
            message = f"{name} is of type {schema[name].dataType.simpleString()}, expected an id: a string, a number, a date"
        else:
            continue
        faults.append(Fault("pipeline.yml", None, f"training.{key}", message))
    return faults


_MAX_SAMPLES = 5


def dataset(context: StepContext) -> StepResult:
    """Write ``gold.<pipeline>_dataset``: every row of the dataset's SQL, with ``split`` and ``fold``.

    Columns: those of the SQL, and those that lookups and aggregates add.

    The findings of feature checks are written to ``ops.checks``, also where they refuse.

    Grain: one row per key. Rows without a label, or without a match in a lookup, stay.

    Raises:
        SpecError: a declared column is missing or of an unsupported type.
        ExpectationRefused: the key is null or not unique, the labels do not suit the task, a side of the split would be empty, or the
            label leaks into a feature column.
        StepError: the SQL fails.
    """
    pipeline = context.spec.pipeline
    declared, task = pipeline.dataset, pipeline.task
    name = declared.from_ or "dataset.sql"
    with _name_file_in_faults(str(context.spec.file)), raise_step_error(name):
        frame = _read(context)
        _check_names(frame)
        with with_history(context, frame) as (known, remarks):
            _check_columns(known, declared, pipeline.training)
            rows = _check_key(known, declared.key, suggest_key_remedy(context, declared.from_, declared.sql))
            marked, split_notes = split_rows(known, declared, pipeline.training.folds)
            check_weights(marked, declared)
            notes = (*remarks, *split_notes, *check_labels(marked, declared, task), *check_features(context, marked))
            version = context.lake.replace(marked, pipeline.dataset_table, meta=context.meta(rows=rows))
    return StepResult(outputs={pipeline.dataset_table: version}, rows_in=rows, rows_out=rows, notes=notes)


def _read(context: StepContext) -> DataFrame:
    declared = context.spec.pipeline.dataset
    if declared.from_ is not None:
        return context.lake.read(context.spark, declared.from_, context.inputs[declared.from_])
    return context.lake.sql(context.spark, context.spec.sql_text(str(declared.sql)), context.inputs, trust=context.spec.pipeline.trust)


def _check_names(frame: DataFrame) -> None:
    """Refuse duplicate column names."""
    columns = frame.columns
    duplicates = sorted({name for name in columns if [other.lower() for other in columns].count(name.lower()) > 1})
    if duplicates:
        raise StepError(f"dataset: the SQL returns more than one column named {', '.join(duplicates)}; give each a name of its own with AS")


def _check_columns(frame: DataFrame, declared: Dataset, training: Training) -> None:
    """Refuse missing columns and columns that tidemill adds; one error names all."""
    columns = frame.columns
    label = [("label", declared.label)] if declared.label else []
    named_columns = [*(("key", name) for name in declared.key), *label, *(("exclude", name) for name in declared.exclude)]
    named_columns += [("weight", declared.weight)] if declared.weight else []
    faults = [_missing_column(key, name, columns) for key, name in named_columns if name not in columns] + split_faults(columns, declared)
    faults += find_weight_faults(frame, declared)
    own = declared.split_rule().column
    added = [name for name in columns if name.lower() in ("split", "fold") and name != own]
    faults += [_fault("sql" if declared.sql else "from", f"has a column {name!r}, which tidemill adds itself; rename it") for name in added]
    if declared.label is not None and declared.label in columns:
        faults += _find_label_faults(frame.schema[declared.label].dataType, declared.label, training.task_definition)
    faults += find_id_faults(frame.schema, training)
    if faults:
        raise SpecError(faults)


def _find_label_faults(kind: T.DataType, label: str, task: Task) -> list[Fault]:
    """Return a fault where the type does not suit a label of the task."""
    if task.kind.has_numeric_label and not isinstance(kind, T.NumericType):
        message = f"{label} is of type {kind.simpleString()}; `task: {task.name}` expects a number: CAST it, or choose another task"
        return [_fault("label", message)]
    if isinstance(kind, T.ArrayType | T.MapType | T.StructType | T.BinaryType | T.NullType):
        return [_fault("label", f"{label} is of type {kind.simpleString()}; `task: {task.name}` expects a string, a number or a boolean")]
    return []


def _check_key(frame: DataFrame, key: Sequence[str], remedy: str) -> int:
    """Refuse null and repeated keys, the latter with samples and a ``remedy``; return the number of rows."""
    names = [F.col(quote_name(name)) for name in key]
    has_null = F.greatest(*[name.isNull() for name in names], F.lit(False))
    keys = frame.groupBy(*names).agg(F.count("*").alias("_tidemill_rows")).withColumn("_tidemill_has_null", has_null)
    is_repeated = (F.col("_tidemill_rows") > 1) & ~F.col("_tidemill_has_null")
    counts = keys.agg(
        F.sum("_tidemill_rows").alias("rows"),
        F.sum(F.when(F.col("_tidemill_has_null"), F.col("_tidemill_rows"))).alias("null"),
        F.count_if(is_repeated).alias("repeated"),
    ).collect()[0]
    rows = counts["rows"] or 0
    if not rows:
        raise ExpectationRefused("dataset: the result has no rows; check the filters and joins of its SQL, and the tables that it reads")
    shown = ", ".join(key)
    if counts["null"]:
        raise ExpectationRefused(
            f"dataset: the key ({shown}) is null in {counts['null']:,} of {rows:,} rows; filter them out or fill it in the SQL"
        )
    if counts["repeated"]:
        repeated_keys = keys.where(is_repeated).orderBy(F.desc("_tidemill_rows"), *names).limit(_MAX_SAMPLES).collect()
        samples = "; ".join(f"({', '.join(str(row[name]) for name in key)}) in {row['_tidemill_rows']:,} rows" for row in repeated_keys)
        raise ExpectationRefused(
            f"dataset: the key ({shown}) is not unique: {counts['repeated']:,} keys are in more than one row, such as {samples}; {remedy}"
        )
    return int(rows)


def _missing_column(key: str, name: str, columns: Sequence[str]) -> Fault:
    return _fault(key, f"column {name!r} is not in the dataset{did_you_mean(name, columns)}")


def _fault(key: str, message: str) -> Fault:
    return Fault("pipeline.yml", None, f"dataset.{key}", message)


@contextmanager
def _name_file_in_faults(file: str) -> Iterator[None]:
    """Set the path of the spec in faults of the block."""
    try:
        yield
    except SpecError as error:
        raise SpecError([dataclasses.replace(fault, file=file) for fault in error.faults]) from error
