"""Predictions for input rows without a run: nothing is written to the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.column_names import PROVENANCE
from tidemill.columns import column
from tidemill.errors import TableNotFound, UsageError
from tidemill.lake.repair import refuse_faults
from tidemill.model_registry import Manifest, load_model
from tidemill.model_registry.predict import OUTPUTS, predict
from tidemill.quality.expectations.row_rules import as_json
from tidemill.quality.expectations.rules import errors_count_as_violations
from tidemill.runtime.locks import scratch
from tidemill.runtime.session import child_session
from tidemill.runtime.spark_errors import raise_step_error
from tidemill.steps.contributions import CONTRIBUTIONS, explain_predictions
from tidemill.steps.dataset.history import add_history, point_in_time_join
from tidemill.steps.result import StepContext
from tidemill.steps.score.entry import Entry
from tidemill.steps.score.input import RECORD, WHY, InputRows, read_input_rows
from tidemill.steps.score.nodes import may_drop_rows, run_node
from tidemill.steps.score.routes import CARRIER, DATASET, SCORING, node_name
from tidemill.steps.train.feature_spec import check_same_features

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

    from tidemill.lake import Lake
    from tidemill.spec import Spec


EXPLANATION = "contributions"
_OWN = (CARRIER, WHY, RECORD)
_MAX_TEXT_LENGTH = 200


@dataclass(frozen=True)
class ScoredRows:
    """One row per record of the input, in its order, or several where a record gives several examples.

    Columns: the dataset's key where the rows have it (else all of their columns), ``prediction``, ``probability``, ``model_version``,
    ``score_error``: null where the row was scored, else the reason: its reader or an expectation rejects it, SQL drops it, or a value does
    not suit the model. ``notes`` are remarks for people.
    """

    frame: DataFrame
    notes: tuple[str, ...] = ()


@contextmanager
def name_input(lake: Lake, rows: DataFrame | pd.DataFrame | str | Path, start: Callable[[], SparkSession]) -> Iterator[tuple[str, bool]]:
    """Yield the name of an input and whether it is a frame: a path or a table as it is, a frame as Parquet files for the block.

    ``start`` gives the session in which a pandas frame becomes one of Spark.

    Raises:
        UsageError: a frame is given, and the lake is not on a file system.
    """
    if isinstance(rows, str | Path):
        yield str(rows), False
        return
    frame = rows if isinstance(rows, DataFrame) else start().createDataFrame(rows)
    with scratch(lake.engine_root) as folder:
        if not folder:
            raise UsageError(f"a frame can be scored where the lake is on a file system, not at {lake.root}; write it to files first")
        frame.write.parquet(f"{folder}/rows.parquet")
        yield f"{folder}/rows.parquet".removeprefix("file://"), True


@contextmanager
def score_input_rows(spark: SparkSession, spec: Spec, lake: Lake, entry: Entry, *, explains: bool = False) -> Iterator[ScoredRows]:
    """Yield the champion's predictions for the rows of an input, for the duration of the block.

    With ``explains``, they have the column ``contributions`` (a struct, see `explain_predictions`), null where the row was not scored.

    The rows are read by the reader of their source and pass the same SQL, functions, expectations, lookups and aggregates as in a run;
    other tables are read at their current versions. `find_entry` resolves where they enter.

    Raises:
        UsageError: the rows lack columns of the model, or a function needs several rows at once.
        SourceError: a file cannot be read.
        StepError: SQL or a function failed, or the model was trained with other features.
    """
    pipeline = spec.pipeline
    model, manifest = load_model(lake, pipeline.pipeline, entry.version)
    check_same_features(lake, pipeline.pipeline, pipeline.features, manifest)
    context = StepContext(child_session(spark), spec, lake, _pin_versions(spec, lake, entry), "score", "score")
    known_later = [name for name in (pipeline.dataset.label, *pipeline.dataset.exclude) if name is not None]
    with raise_step_error(f"--input {entry.given}"), ExitStack() as stack:
        if _has_rules(spec, entry):
            stack.enter_context(errors_count_as_violations(context.spark))
        input_rows = stack.enter_context(read_input_rows(context, entry, manifest, known_later))
        notes = _note_missing_columns(spec, entry, input_rows, manifest, known_later)
        unknown = [name for name in known_later if input_rows.missing and name not in input_rows.given]
        path = _ScoringPath(stack, context, entry, input_rows, unknown)
        rows = path.rows_for_model(manifest)
        scored = stack.enter_context(explain_predictions(model, manifest, lake, rows)) if explains else predict(model, manifest, rows)
        yield ScoredRows(path.add_lost_rows(scored), notes)


@dataclass
class _ScoringPath:
    """The nodes between the input and the model, and the rows that they lose (``CARRIER`` and ``WHY``)."""

    stack: ExitStack
    context: StepContext
    entry: Entry
    input_rows: InputRows
    unknown: Sequence[str]
    lost: list[DataFrame] = field(default_factory=list)

    def rows_for_model(self, manifest: Manifest) -> DataFrame:
        """Return the rows for the model: the columns of the dataset (or of ``scoring``), and ``CARRIER``."""
        rows, table = self._keep_passing(self.input_rows.frame), self.entry.place
        for node in self.entry.nodes:
            context = replace(self.context, node=f"prepare.{node.partition('.')[2]}")
            node_rows = self.stack.enter_context(run_node(context, node, table, rows, self.unknown))
            if may_drop_rows(context.spec, node):
                reason = f"{node_name(context.spec, node)} drops it: its WHERE or a join keeps no row of it"
                dropped = rows.select(CARRIER).join(node_rows.select(CARRIER), CARRIER, "left_anti")
                self.lost.append(dropped.withColumn(WHY, F.lit(reason)))
            rows, table = self._keep_passing(node_rows), node
        if self.entry.nodes and self.entry.goal == DATASET:
            return add_history(self.context, rows)
        rows = point_in_time_join(self.context, rows)
        absent = [name for name in manifest.feature_columns if name not in rows.columns] if self.input_rows.is_by_record else []
        return rows.withColumns({name: F.lit(None).cast(manifest.feature_columns[name]) for name in absent})

    def add_lost_rows(self, scored: DataFrame) -> DataFrame:
        """Add a row to the predictions for each lost record, in the order of the input."""
        key = list(self.context.spec.pipeline.dataset.key)
        explained = [name for name in (CONTRIBUTIONS,) if name in scored.columns]
        names = [name for name in scored.columns if name not in (*OUTPUTS, *explained, "model_version", CARRIER)]
        key_columns = key if set(key) <= set(names) else names
        version = F.lit(self.entry.version).cast("int").alias("model_version")
        predictions = scored.select(*map(column, key_columns), "prediction", "probability", version, "score_error", *explained, CARRIER)
        reasons = reduce(DataFrame.unionByName, self.lost).groupBy(CARRIER).agg(F.array_sort(F.collect_set(WHY)).alias(WHY))
        records = self.input_rows.frame.drop(WHY)
        refused = records.join(reasons, CARRIER).select(
            *[self._value_of(records, name, predictions) for name in key_columns],
            *[F.lit(None).cast(predictions.schema[name].dataType).alias(name) for name in ("prediction", "probability")],
            version,
            self._build_error(records, key_columns).alias("score_error"),
            *[F.lit(None).cast(predictions.schema[name].dataType).alias(name) for name in explained],
            CARRIER,
        )
        if explained and EXPLANATION in key_columns:
            raise UsageError(f"--explain adds a column {EXPLANATION!r}, which the rows have already; rename theirs")
        return predictions.unionByName(refused).orderBy(CARRIER).drop(CARRIER).withColumnsRenamed({CONTRIBUTIONS: EXPLANATION})

    def _keep_passing(self, rows: DataFrame) -> DataFrame:
        """Record the rejected rows, and return the others."""
        self.lost.append(rows.where(F.col(WHY).isNotNull()).select(CARRIER, WHY))
        return rows.where(F.col(WHY).isNull()).drop(WHY, RECORD)

    def _value_of(self, records: DataFrame, name: str, predictions: DataFrame) -> Column:
        kind = predictions.schema[name].dataType
        return (column(name).try_cast(kind) if name in records.columns else F.lit(None).cast(kind)).alias(name)

    def _build_error(self, records: DataFrame, key_columns: Sequence[str]) -> Column:
        """Return why a record was lost, with its text where it could not be read or its key is unknown."""
        whole = as_json([name for name in records.columns if name not in (*_OWN, *PROVENANCE)])
        is_named = set(key_columns) <= set(records.columns)
        text = F.col(RECORD) if is_named else F.coalesce(F.col(RECORD), whole)
        return F.concat_ws(": ", F.array_join(WHY, "; "), F.substring(text, 1, _MAX_TEXT_LENGTH))


def _has_rules(spec: Spec, entry: Entry) -> bool:
    tables = [spec.pipeline.tables.get(node.partition(".")[2]) for node in entry.nodes]
    source = spec.pipeline.sources.get(entry.source or "")
    return any(block is not None and block.expectations for block in (source, *tables))


def _pin_versions(spec: Spec, lake: Lake, entry: Entry) -> Mapping[str, int]:
    """Return the current versions of the tables that the nodes read.

    Raises:
        TableNotFound: one of them is not in the lake.
        LakeError: files of one of them, or of the table to score, are missing.
    """
    reads: dict[str, None] = dict.fromkeys(spec.pipeline.dataset.joined_tables)
    for node in entry.nodes:
        if node == SCORING:
            tables = spec.scoring_inputs()
        else:
            tables = spec.dataset_inputs() if node == DATASET else spec.table_inputs(node.partition(".")[2])
        reads |= dict.fromkeys(tables)
    computed_tables = {entry.place, *entry.nodes}
    refuse_faults(lake, dict.fromkeys((*reads, *([entry.table] if entry.table else []))))
    versions = {}
    for table in reads:
        version = lake.version(table)
        if version is not None:
            versions[table] = version
        elif table not in computed_tables:
            raise TableNotFound(f"{table} is read on the way to the model and is not in {lake.root}; run: tidemill run {spec.file}")
    return versions


def _note_missing_columns(
    spec: Spec, entry: Entry, input_rows: InputRows, manifest: Manifest, known_later: Sequence[str]
) -> tuple[str, ...]:
    """Return a note on the missing columns of the input, without those that are known only later.

    Raises:
        UsageError: one of them is a feature, and records of this format may not leave columns out.
    """
    missing = [name for name in input_rows.missing if name not in known_later]
    needed = [name for name in missing if name in manifest.feature_columns]
    source = spec.pipeline.sources.get(entry.source or "")
    if source is not None and source.on_missing_column == "fail" and missing:
        raise UsageError(f"--input {entry.given}: no column {', '.join(missing)}, and `on_missing_column: fail` is set; correct the file")
    if needed and not input_rows.is_by_record and entry.place != DATASET:
        raise UsageError(
            f"model {manifest.version} of {manifest.pipeline} needs the columns {', '.join(needed)}, which the rows to score lack; "
            f"they have {', '.join(input_rows.given)}"
        )
    return (f"the input has no column {', '.join(missing)}: null there",) if missing and entry.place != DATASET else ()
