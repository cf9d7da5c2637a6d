"""One pipeline: what it does, and what the next run would do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from tidemill.errors import UsageError
from tidemill.pipeline.lifecycle import PipelineLifecycle
from tidemill.pipeline.lists import PipelineLists
from tidemill.pipeline.opened import TableFormat, to_table
from tidemill.spec import load_spec
from tidemill.workflow import Node, Runner, RunOutcome, build_graph
from tidemill.workflow.runner import list_decisions

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.steps.score.rows import ScoredRows
    from tidemill.workflow.progress import Progress


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


class Pipeline(PipelineLists, PipelineLifecycle):
    """One pipeline and the lake that it writes.

    Methods that list something return a pandas frame, or a list of dicts with ``as_="rows"``.
    """

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
        explain: bool = False,
        as_: Literal["pandas", "arrow"] = "pandas",
    ) -> pd.DataFrame | pa.Table:
        """Score rows with the champion, without a run; nothing is written to the lake. Starts Spark.

        Args:
            rows: a file, folder or glob of records, a table of the lake (``silver.upcoming``), or a Spark or pandas frame.
            source: the source whose records a file holds, where several have the same columns.
            at: where the rows enter: ``bronze``, ``silver.TABLE`` or ``dataset``. A frame enters at ``dataset`` by default: it has the
                columns of the dataset that the model reads.
            explain: add ``contributions``, how much each column of the features moved the prediction.
            as_: the kind of table to return; it is held in memory, so score large inputs in a run.

        Returns:
            A row for each record, in the order of the input: the dataset's key where the rows have it (else all of their columns),
            ``prediction``, ``probability``, ``model_version``, ``score_error`` (null where the row was scored).

        Raises:
            UsageError: there is no champion, the input does not exist, or its columns do not fit the model.
        """
        from tidemill.lake.catalog import read_batches

        with self.score_input_rows(rows, source=source, at=at, explains=explain) as scored:
            table = read_batches(scored.frame).read_all()
        return table if as_ == "arrow" else table.to_pandas()

    @contextmanager
    def score_input_rows(
        self, rows: DataFrame | pd.DataFrame | str | Path, *, source: str | None = None, at: str | None = None, explains: bool = False
    ) -> Iterator[ScoredRows]:
        """Give the predictions of `score` as a Spark frame of any size, for the length of a ``with`` block, with remarks for people."""
        from tidemill.steps.score.entry import find_entry
        from tidemill.steps.score.rows import name_input, score_input_rows

        with name_input(self.lake, rows, self.lazy_spark.get) as (name, is_frame):
            entry = find_entry(self.spec, self.lake, name, source=source, at="dataset" if is_frame and at is None else at)
            with score_input_rows(self.spark, self.spec, self.lake, entry, explains=explains) as scored:
                yield scored

    # --- looking -----------------------------------------------------------------------------------------------------------------------

    def explain(self, *, start: str | None = None, end: str | None = None, only: str | None = None, as_: TableFormat = "pandas") -> Any:
        """Return for each node whether a run would run it, and why.

        Returns:
            Columns: ``node``, ``would`` (run, skip, or fail where a run could not succeed), ``why``, ``exit_code`` (0 but for fail).
        """
        runner, nodes = self.prepare_run(start=start, end=end, only=only)
        return to_table(list_decisions(runner, [node.name for node in nodes]), as_)
