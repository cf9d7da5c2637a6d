"""Rows written once, looked at, and then taken into a table without being written again: stage, decide, commit.

A stage is a Delta table in a folder of its own below the table that it is for, partitioned by what is to become of the rows. Taking a part
of it in is one commit of delta-rs that names its files, with the statistics that Spark wrote: no row moves. Until that commit, and for
ever where it never comes, no reader of the table sees them.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.transaction import AddAction, create_table_with_add_actions

from tidemill.errors import LakeError
from tidemill.lake.names import is_local
from tidemill.lake.plain import is_plain, is_plain_table, nullable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import types as T

PART = "tidemill-part"
"""The column of a stage that says what is to become of a row. Its folders must not begin with ``_``: VACUUM passes those over."""

_PREFIX, _MARK = "stage-", "_unfinished"
_CONCURRENT = "spark.sql.maxConcurrentOutputFileWriters"
_DICTIONARY = "parquet.enable.dictionary#"
_MOST_STATISTICS = 32
"""So many columns have statistics in a Delta table, the first ones."""


@dataclass(frozen=True)
class Additions:
    """Columns that are added to rows on their way, in which nothing is looked for: statistics of each value would cost more than they save.

    ``constant`` are the columns with one integer in all rows, whose statistics are known without looking; ``varied`` those whose values
    hardly repeat, so that a dictionary of them would be as long as they are; ``others`` the rest.
    """

    constant: Mapping[str, int] = field(default_factory=dict)
    varied: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.constant, *self.varied, *self.others)


@dataclass(frozen=True)
class Stage:
    """Rows that lie in files below ``home``, the folder of the table that they are for, in its sub-folder ``folder``."""

    home: str
    folder: str
    by: str
    additions: Additions

    @property
    def path(self) -> str:
        """Where the stage lies."""
        return f"{self.home}/{self.folder}"

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return all rows, with the column ``by`` that they were parted by."""
        return spark.read.format("delta").load(self.path).withColumnRenamed(PART, self.by)

    def files(self, part: str) -> list[AddAction]:
        """Return the files of one part, as a commit to the table that they are for names them."""
        return [
            AddAction(
                path=f"{self.folder}/{action['path']}",
                size=int(action["size"]),
                partition_values={},
                modification_time=int(action["modificationTime"]),
                data_change=True,
                stats=self._statistics(str(action["stats"])),
            )
            for action in _adds(self.path)
            if action["partitionValues"][PART] == part
        ]

    def _statistics(self, written: str) -> str:
        """Return a file's statistics, those of the constant columns among them."""
        found = json.loads(written)
        for name, value in self.additions.constant.items():
            for kind, known in (("minValues", value), ("maxValues", value), ("nullCount", 0)):
                found.setdefault(kind, {})[name] = known
        return json.dumps(found)


@dataclass(frozen=True)
class Part:
    """The rows of a stage that have one fate."""

    stage: Stage
    name: str

    def is_taken_in(self, schema: T.StructType, *, replace: bool, meta: str, txn: tuple[str, int] | None = None) -> bool:
        """Commit the rows to the table that they are for, in place of all its rows (``replace``) or behind them.

        ``schema`` are the columns that the table gets of them, ``meta`` is the commit's ``userMetadata``, ``txn`` an app and its number.
        Returns False, and does nothing, where the table is not a plain one or would need a change of its schema: its rows are to be
        written by Spark then.

        Raises:
            LakeError: this number of the app, or a later one, is in the table already.
        """
        home, kinds = self.stage.home, nullable(json.loads(schema.json()))
        if not all(is_plain(field["type"]) for field in kinds["fields"]):
            return False
        files = self.stage.files(self.name)
        commit = CommitProperties(
            custom_metadata={"userMetadata": meta, "operationMetrics": _metrics(files)},
            app_transactions=[Transaction(*txn)] if txn else None,
        )
        columns = Schema.from_json(json.dumps(kinds))
        if not DeltaTable.is_deltatable(home):
            create_table_with_add_actions(home, columns, files, mode="error", commit_properties=commit)
            return True
        table = DeltaTable(home)
        if not is_plain_table(table) or not (replace or nullable(json.loads(table.schema().to_json())) == kinds):
            return False
        if txn and (table.transaction_version(txn[0]) or -1) >= txn[1]:
            raise LakeError(f"{home}: batch {txn[1]} of {txn[0]} is in the table already; run again to go on from it")
        table.create_write_transaction([*files], "overwrite" if replace else "append", columns, commit_properties=commit)
        return True


@dataclass(frozen=True)
class Staged:
    """Rows that can be read again and again: ``frame``, and the stage that holds them, None where they are persisted instead."""

    frame: DataFrame
    stage: Stage | None

    def part(self, fate: str) -> Part | None:
        """Return the rows with this fate, to be taken into the table."""
        return None if self.stage is None else Part(self.stage, fate)


@contextmanager
def staged(home: str, rows: DataFrame, by: str, additions: Additions) -> Iterator[Stage]:
    """Write the rows below the table at ``home``, parted by the STRING column ``by``, for the length of the block.

    ``additions`` are their last columns. Behind the block what was not taken into the table is gone; what dead processes left there goes
    first.

    Raises:
        LakeError: fewer rows were written than read.
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    sweep(home)
    stage = Stage(home, f"{_PREFIX}{uuid.uuid4().hex[:12]}", by, additions)
    columns = [part.dataType for part in rows.schema.fields if part.name not in (*additions.names, by)]
    judged = min(_MOST_STATISTICS, sum(_leaves(kind) for kind in columns))
    with _marked(stage):
        try:
            observed = Observation()
            parted = rows.observe(observed, F.count(F.lit(1)).alias("rows")).withColumnRenamed(by, PART)
            with _written_plainly(rows.sparkSession, additions.varied):
                parted.write.format("delta").option("delta.dataSkippingNumIndexedCols", judged).partitionBy(PART).save(stage.path)
            written = sum(json.loads(action["stats"])["numRecords"] for action in _adds(stage.path))
            if written != observed.get["rows"]:
                raise LakeError(f"{home}: {observed.get['rows']} rows were read, but {written} written; run again")
            yield stage
        finally:
            _tidy(stage)


def sweep(home: str) -> None:
    """Remove the stages that dead processes left below the table at ``home``, but for what they had taken into it."""
    for mark in Path(home).glob(f"{_PREFIX}*/{_MARK}") if is_local(home) else ():
        with mark.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _tidy(Stage(home, mark.parent.name, PART, Additions()))


def _metrics(files: Sequence[AddAction]) -> dict[str, str]:
    rows = sum(int(json.loads(file.stats)["numRecords"]) for file in files)
    return {"numFiles": str(len(files)), "numOutputRows": str(rows), "numOutputBytes": str(sum(file.size for file in files))}


def _adds(path: str) -> list[dict[str, Any]]:
    """Return the files that the first commit of a table added, as its log tells."""
    log = Path(path) / "_delta_log" / f"{0:020}.json"
    return [entry["add"] for line in log.read_text(encoding="utf-8").splitlines() if "add" in (entry := json.loads(line))]


@contextmanager
def _marked(stage: Stage) -> Iterator[None]:
    """Hold a mark in the stage's folder, so that nobody takes it for one that a dead process left."""
    mark = Path(stage.path) / _MARK
    mark.parent.mkdir(parents=True, exist_ok=True)
    with mark.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _tidy(stage: Stage) -> None:
    """Remove the stage, but for the files that the table holds."""
    held = set()
    if DeltaTable.is_deltatable(stage.home):
        inside = f"/{stage.folder}/"
        held = {path.rpartition("/")[0].rpartition("/")[2] for path in DeltaTable(stage.home).file_uris() if inside in path}
    for entry in Path(stage.path).iterdir() if held else ():
        if entry.is_dir() and entry.name not in held:
            shutil.rmtree(entry)
    if held:
        (Path(stage.path) / _MARK).unlink()
    else:
        shutil.rmtree(stage.path, ignore_errors=True)
        with suppress(OSError):  # the table's own folder goes too where it holds nothing else
            Path(stage.home).rmdir()


@contextmanager
def _written_plainly(spark: SparkSession, varied: Sequence[str]) -> Iterator[None]:
    """Let a task keep a file of each part open, where Spark would sort the rows by it first; make no dictionary of varied values."""
    before = spark.conf.get(_CONCURRENT)
    spark.conf.set(_CONCURRENT, "8")
    for name in varied:
        spark.conf.set(_DICTIONARY + name, "false")
    try:
        yield
    finally:
        spark.conf.set(_CONCURRENT, str(before))
        for name in varied:
            spark.conf.unset(_DICTIONARY + name)


def _leaves(kind: T.DataType) -> int:
    """Return how many columns of numbers and texts a column is, as Delta counts them."""
    return sum(_leaves(part.dataType) for part in kind.fields) if hasattr(kind, "fields") else 1
