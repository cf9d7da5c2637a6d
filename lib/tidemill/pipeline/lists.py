"""What a pipeline and its lake hold, as tables: runs, trials, models, deployments, features, quarantine, and any SQL."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from tidemill.errors import UsageError, did_you_mean
from tidemill.extensions import search_beside
from tidemill.model_registry import Deployments
from tidemill.model_registry.model_card import build_card
from tidemill.model_registry.reigns import list_reigns
from tidemill.pipeline.opened import OpenedPipeline, TableFormat, to_table
from tidemill.spec.models import Features
from tidemill.workflow.outcome import build_leaderboard, list_feature_choices, list_models, sort_key
from tidemill.workflow.reprocess import list_quarantined, map_tables_to_nodes
from tidemill.workflow.states import RunStatus, run_status


class PipelineLists(OpenedPipeline):
    """Methods that only read; those that list something return a pandas frame, or a list of dicts with ``as_="rows"``."""

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
            return to_table(sorted(build_leaderboard(self.lake.ledger, self.name), key=sort_key), as_)

    def models(self, *, as_: TableFormat = "pandas") -> Any:
        """Return each model version with its state and its metrics on the test rows; version 0 is the constant baseline. Starts no Spark.

        Returns:
            Columns: ``model_version``, ``state``, and one per metric.
        """
        return to_table(list_models(self.lake.ledger, self.name), as_)

    def card(self, version: int | None = None) -> dict[str, Any]:
        """Return the model card of a version, by default of the champion, as plain values; starts no Spark.

        Raises:
            UsageError: there is no champion.
            StepError: there is no such version, or its files were damaged.
        """
        chosen = self.champion() if version is None else version
        if chosen is None:
            raise UsageError(f"{self.name} has no champion; name a version")
        return build_card(self.lake, self.name, chosen)

    def champion(self) -> int | None:
        """Return the version of the reigning champion, None where there is none; starts no Spark."""
        return Deployments(self.lake.ledger, self.name).champion()

    def deployments(self, *, as_: TableFormat = "pandas") -> Any:
        """Return every change of state of every model version, in the order of the commits; starts no Spark.

        Returns:
            The columns of ``ops.deployments``, with ``evidence`` as an object.
        """
        rows = self.lake.ledger.rows("ops.deployments", pipeline=self.name)
        return to_table([{**row, "evidence": json.loads(str(row["evidence"] or "null"))} for row in rows], as_)

    def champions(self, at: str | datetime | None = None, *, as_: TableFormat = "pandas") -> Any:
        """Return who was champion when, earliest first, or the one champion of a moment; starts no Spark.

        Args:
            at: a moment, such as ``2013-06-01T12:00``; UTC where it has no zone.
            as_: the kind of table to return.

        Returns:
            The columns of the view ``ops.champion_at``, with ``evidence`` as an object; ``valid_to`` is null for the reigning champion.

        Raises:
            UsageError: ``at`` is no moment.
        """
        moment = _parse_moment(at) if isinstance(at, str) else at
        reigns = list_reigns(Deployments(self.lake.ledger, self.name).rows())
        of_moment = [reign for reign in reigns if moment is None or reign.includes(moment if moment.tzinfo else moment.replace(tzinfo=UTC))]
        return to_table([{**asdict(reign), "evidence": json.loads(reign.evidence or "null")} for reign in of_moment], as_)

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
        return to_table(choices, as_)

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
        return to_table([row for row in rows if node in (None, node_of[str(row["table"])])], as_)

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


def _parse_moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no moment; write one as 2013-06-01 or 2013-06-01T12:00:00, in UTC unless it names a zone") from error
