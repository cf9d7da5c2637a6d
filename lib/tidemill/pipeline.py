"""The Python interface: one pipeline and its lake, as an object.

    import tidemill as tm

    pipeline = tm.load("conf/flight_delays/pipeline.yml")
    pipeline.run()
    pipeline.trials().head()
    pipeline.sql("SELECT count(*) FROM gold.flight_delays_predictions")

The commands use the same methods. Importing this module imports neither Spark nor pandas; a method starts Spark only where its docstring
says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from tidemill.errors import SpecError, UsageError, did_you_mean
from tidemill.extensions import search_beside
from tidemill.lake import Lake
from tidemill.model_registry import Deployments
from tidemill.spec import Spec, load_spec
from tidemill.spec.models import Features
from tidemill.workflow import LazySpark, Node, Runner, RunOutcome, build_graph
from tidemill.workflow.outcome import build_leaderboard, list_feature_choices, list_models, sort_key
from tidemill.workflow.reprocess import list_quarantined, map_tables_to_nodes
from tidemill.workflow.runner import list_decisions
from tidemill.workflow.states import RunStatus, run_status

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.steps.score.rows import ScoredRows
    from tidemill.workflow.progress import Progress

Row: TypeAlias = dict[str, object]
TableFormat = Literal["pandas", "rows"]


@dataclass(frozen=True)
class CheckResult:
    """What `Pipeline.check` found: the nodes in the order of their dependencies, and remarks for people."""

    nodes: tuple[str, ...]
    notes: tuple[str, ...]


def load(
    spec: str | Path, *, env: str | None = None, set: Mapping[str, object] | None = None, spark: SparkSession | None = None
) -> Pipeline:
    """Load a spec and all that it names; nothing is written, and Spark is not started.

    Args:
        spec: the file ``pipeline.yml``, or its folder.
        env: an overlay, ``env/E.yml`` beside the spec, then ``conf/env/E.yml``.
        set: keys of the spec with their values, as ``--set`` takes them: ``{"training.folds": 5, "vars.DATA": "/data"}``.
        spark: a session to use; by default tidemill makes one when it is first needed.

    Raises:
        SpecError: the spec has faults; all of them are named, with file and line.
    """
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (set or {}).items()}
    return Pipeline(load_spec(Path(spec), env=env, set_values=values), spark)


class Pipeline:
    """One pipeline and the lake that it writes.

    Methods that list something return a pandas frame, or a list of dicts with ``as_="rows"``.
    """

    def __init__(self, spec: Spec, spark: SparkSession | None = None) -> None:
        """Take a loaded spec; `load` is the usual way to make one."""
        self.spec = spec
        self.lake = Lake(spec.pipeline.lake)
        self.lazy_spark = LazySpark(lambda: spark if spark is not None else self._start_spark())

    def __repr__(self) -> str:
        """Return the name of the pipeline and its lake."""
        return f"Pipeline({self.name!r}, lake={self.lake.root!r})"

    @property
    def name(self) -> str:
        """The name that the spec gives the pipeline."""
        return self.spec.pipeline.pipeline

    @property
    def spark(self) -> SparkSession:
        """The session of this pipeline, started when it is first asked for, with the jars that the sources need."""
        return self.lazy_spark.get()

    def _start_spark(self) -> SparkSession:
        from tidemill.runtime.session import get_spark
        from tidemill.sources.kinds import needed_connectors

        return get_spark(connectors=needed_connectors(self.spec.pipeline.sources.values(), self.spec.folder))

    # --- doing something -------------------------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        start: str | None = None,
        end: str | None = None,
        only: str | None = None,
        force: bool = False,
        replay: str | None = None,
        run_id: str | None = None,
        progress: Progress | None = None,
        debug: bool = False,
    ) -> RunOutcome:
        """Run the pipeline, or a part of it; what is up to date is skipped, and Spark starts only where a step has to run.

        Args:
            start: the first step or node, such as ``prepare`` or ``prepare.flights``.
            end: the last step or node.
            only: the only step or node.
            force: run also what is up to date.
            replay: with ``only="ingest.SOURCE"``: load the source anew, from ``all``, a batch's number or a time on.
            run_id: lets steps in separate processes be one run.
            progress: follows the run; by default one line per node is written to standard error.
            debug: write stack traces of failed steps to standard error.

        Returns:
            The outcome: state, nodes, champion and exit code. A failed step is told there and raises nothing.

        Raises:
            UsageError: no step or node has such a name, or another run of the pipeline is going on.
            SpecError: a column or a parameter that the spec names does not exist.
        """
        runner, nodes = self.prepare_run(start=start, end=end, only=only, force=force, replay=replay, run_id=run_id, debug=debug)
        return runner.run(nodes, progress)

    def prepare_run(
        self,
        *,
        start: str | None = None,
        end: str | None = None,
        only: str | None = None,
        force: bool = False,
        replay: str | None = None,
        run_id: str | None = None,
        debug: bool = False,
    ) -> tuple[Runner, Sequence[Node]]:
        """Return a run that has not begun, and its nodes; see `run`."""
        if replay is not None and not (only or "").startswith("ingest."):
            raise UsageError("--replay loads one source anew: give --only ingest.SOURCE with it")
        runner = Runner(self.spec, self.lazy_spark, run_id=run_id, force=force, replay=replay, debug=debug)
        return runner, runner.graph.select(start=start, end=end, only=only)

    def check(self) -> CheckResult:
        """Check all that the spec names, columns with their types and parameters of families too; starts no Spark, writes nothing.

        Raises:
            SpecError: something does not exist or does not fit; every fault has file, line and column.
        """
        from tidemill.preflight import refuse_unknown_columns
        from tidemill.steps.train.feature_variants import resolve_declared_spaces

        refuse_unknown_columns(self.spec, self.lake)
        resolve_declared_spaces(self.spec, needs_libraries=False)  # a spec may be checked where nothing is trained
        notes = (self.spec.pipeline.dataset.positive_rule(),) if self.spec.pipeline.has_positive_class else ()
        return CheckResult(tuple(node.name for node in build_graph(self.spec).nodes), notes)

    @overload
    def score(
        self,
        rows: DataFrame | pd.DataFrame | str | Path,
        *,
        source: str | None = ...,
        at: str | None = ...,
        as_: Literal["pandas"] = ...,
    ) -> pd.DataFrame: ...

    @overload
    def score(
        self, rows: DataFrame | pd.DataFrame | str | Path, *, source: str | None = ..., at: str | None = ..., as_: Literal["arrow"]
    ) -> pa.Table: ...

    def score(
        self,
        rows: DataFrame | pd.DataFrame | str | Path,
        *,
        source: str | None = None,
        at: str | None = None,
        as_: Literal["pandas", "arrow"] = "pandas",
    ) -> pd.DataFrame | pa.Table:
        """Score rows with the champion, without a run; nothing is written to the lake. Starts Spark.

        Args:
            rows: a file, folder or glob of records, a table of the lake (``silver.upcoming``), or a Spark or pandas frame.
            source: the source whose records a file holds, where several have the same columns.
            at: where the rows enter: ``bronze``, ``silver.TABLE`` or ``dataset``. A frame enters at ``dataset`` by default: it has the
                columns of the dataset that the model reads.
            as_: the kind of table to return; it is held in memory, so score large inputs in a run.

        Returns:
            A row for each record, in the order of the input: the dataset's key where the rows have it (else all of their columns),
            ``prediction``, ``probability``, ``model_version``, ``score_error`` (null where the row was scored).

        Raises:
            UsageError: there is no champion, the input does not exist, or its columns do not fit the model.
        """
        from tidemill.lake.catalog import read_batches

        with self.score_input_rows(rows, source=source, at=at) as scored:
            table = read_batches(scored.frame).read_all()
        return table if as_ == "arrow" else table.to_pandas()

    @contextmanager
    def score_input_rows(
        self, rows: DataFrame | pd.DataFrame | str | Path, *, source: str | None = None, at: str | None = None
    ) -> Iterator[ScoredRows]:
        """Give the predictions of `score` as a Spark frame of any size, for the length of a ``with`` block, with remarks for people."""
        from tidemill.steps.score.entry import find_entry
        from tidemill.steps.score.rows import name_input, score_input_rows

        with name_input(self.lake, rows, self.lazy_spark.get) as (name, is_frame):
            entry = find_entry(self.spec, self.lake, name, source=source, at="dataset" if is_frame and at is None else at)
            with score_input_rows(self.spark, self.spec, self.lake, entry) as scored:
                yield scored

    # --- looking -----------------------------------------------------------------------------------------------------------------------

    def explain(self, *, start: str | None = None, end: str | None = None, only: str | None = None, as_: TableFormat = "pandas") -> Any:
        """Return for each node whether a run would run it, and why.

        Returns:
            Columns: ``node``, ``would`` (run, skip, or fail where a run could not succeed), ``why``, ``exit_code`` (0 but for fail).
        """
        runner, nodes = self.prepare_run(start=start, end=end, only=only)
        return _table(list_decisions(runner, [node.name for node in nodes]), as_)

    def status(self, run_id: str | None = None) -> RunStatus:
        """Return the state of a run and of its steps; starts no Spark.

        Raises:
            UsageError: there is no such run, or none at all.
        """
        return run_status(self.lake, pipeline=self.name, run_id=run_id)

    def trials(self, *, as_: TableFormat = "pandas") -> Any:
        """Return the trials of the latest search, best first; starts no Spark.

        Returns:
            Columns: ``trial``, ``family``, ``metric``, ``value`` (the mean over the folds; null where a fold failed or it was stopped
            early), ``folds``, ``seconds``, ``state``, ``engine``, ``library``, ``params``, ``error``.
        """
        with search_beside(self.spec.folder):  # a custom metric says which direction is better
            return _table(sorted(build_leaderboard(self.lake.ledger, self.name), key=sort_key), as_)

    def models(self, *, as_: TableFormat = "pandas") -> Any:
        """Return each model version with its state and its metrics on the test rows; version 0 is the constant baseline. Starts no Spark.

        Returns:
            Columns: ``model_version``, ``state``, and one per metric.
        """
        return _table(list_models(self.lake.ledger, self.name), as_)

    def champion(self) -> int | None:
        """Return the version of the reigning champion, None where there is none; starts no Spark."""
        return Deployments(self.lake.ledger, self.name).champion()

    def deployments(self, *, as_: TableFormat = "pandas") -> Any:
        """Return every change of state of every model version, in the order of the commits; starts no Spark.

        Returns:
            The columns of ``ops.deployments``, with ``evidence`` as an object.
        """
        rows = self.lake.ledger.rows("ops.deployments", pipeline=self.name)
        return _table([{**row, "evidence": json.loads(str(row["evidence"] or "null"))} for row in rows], as_)

    def features(self, run_id: str | None = None, *, as_: TableFormat = "pandas") -> Any:
        """Return what ``features: auto`` chose for each column, and why, in the latest run or the one that is named; starts no Spark.

        Returns:
            The columns of ``ops.features``, with ``settings`` and ``figures`` as objects.

        Raises:
            UsageError: the spec declares its features itself, or no run has chosen any.
        """
        choices = list_feature_choices(self.lake.ledger, self.name, run_id)
        declared = self.spec.pipeline.features
        if not choices and run_id is None and isinstance(declared, Features) and not declared.is_auto:
            raise UsageError(f"{self.spec.file} declares its features itself; leave the column groups out, and `auto` chooses")
        if not choices:
            where = f"run {run_id}" if run_id else self.name
            raise UsageError(
                f"{where} has chosen no features; a run does with `features: auto`, in its step train: tidemill run {self.spec.file}"
            )
        return _table(choices, as_)

    def quarantine(self, node: str | None = None, *, as_: TableFormat = "pandas") -> Any:
        """Return what is in quarantine, by table and rule; a record that breaks several rules counts for each. Starts no Spark.

        Args:
            node: only this source or table: ``ingest.NAME`` or ``prepare.NAME``.
            as_: the kind of table to return.

        Returns:
            Columns: ``table``, ``rule``, ``records``, ``since``, ``sample`` (one record), ``place`` (where that record came from).
        """
        node_of = map_tables_to_nodes(self.spec)
        if node is not None and node not in node_of.values():
            known_nodes = list(node_of.values())
            raise UsageError(f"--only {node}: no such source or table{did_you_mean(node, known_nodes)}; known: {', '.join(known_nodes)}")
        rows = [refused.row() for refused in list_quarantined(self.spec, self.lake)]
        return _table([row for row in rows if node in (None, node_of[str(row["table"])])], as_)

    def sql(self, query: str, *, as_: Literal["pandas", "arrow", "spark"] = "pandas", trust: bool = False) -> Any:
        """Answer one SQL statement over all tables of the lake; starts Spark.

        Args:
            query: ``SELECT …``, ``WITH``, ``SHOW``, ``DESCRIBE`` or ``EXPLAIN``; tables are ``layer.name``, such as ``ops.trials``.
            as_: ``pandas`` and ``arrow`` hold the result in memory; ``spark`` gives a frame of any size.
            trust: let the statement do all that Spark can: run programs, call Java, read paths, write.

        Raises:
            UsageError: the statement is wrong, does more than read, or names a table that does not exist.
        """
        from tidemill.lake.catalog import as_usage_errors, query_lake, read_batches

        frame = query_lake(self.lake, query, self.lazy_spark.get, trust=trust)
        if as_ == "spark":
            return frame
        with as_usage_errors():
            table = read_batches(frame).read_all()
        return table if as_ == "arrow" else table.to_pandas()


def _table(rows: list[Row], as_: TableFormat) -> Any:
    if as_ == "rows":
        return rows
    import pandas as pd

    columns = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame(rows, columns=columns or None)


__all__ = ["CheckResult", "Pipeline", "RunOutcome", "RunStatus", "SpecError", "load"]
