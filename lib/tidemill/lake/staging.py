"""Rows written once, looked at, and then taken into a table without being written again: stage, decide, commit.

A stage is a folder of Parquet files below the table that it is for, parted by what is to become of the rows. Taking a part of it in is one
commit of delta-rs that names its files, with the statistics of their footers: no row moves. Until that commit, and for ever where it
never comes, no reader of the table sees them.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, TableFeatures, Transaction
from deltalake.transaction import AddAction, create_table_with_add_actions

from tidemill.errors import LakeError
from tidemill.lake.delta_tables import has_table, open_table
from tidemill.quoting import is_local
from tidemill.runtime.session import LOG_RETENTION_INTERVAL

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import types as T


# Tables with other properties or features (generated columns, file layout, reader features) are written by Spark.
_HARMLESS = {"delta.checkpointInterval", "delta.logRetentionDuration", "delta.deletedFileRetentionDuration"}
_FEATURES = {"timestampNtz"}
LOG_RETENTION = {"delta.logRetentionDuration": LOG_RETENTION_INTERVAL}
"""Without it Delta removes entries of the log after 30 days, and with them the versions that a model or a run is pinned to."""
_PLAIN = {"boolean", "byte", "short", "integer", "long", "float", "double", "string", "binary", "date", "timestamp", "timestamp_ntz"}


def is_plain(kind: str | Mapping[str, Any]) -> bool:
    """Return True for a type that any writer of the table's protocol knows."""
    if isinstance(kind, str):
        return kind in _PLAIN or kind.startswith("decimal(")
    if kind["type"] == "struct":
        return all(is_plain(field["type"]) for field in kind["fields"])
    inner = [kind["elementType"]] if kind["type"] == "array" else [kind["keyType"], kind["valueType"]]
    return all(is_plain(each) for each in inner)


def is_plain_table(table: DeltaTable) -> bool:
    """Return True for a table that takes files from any writer: it requires nothing of them but the schema."""
    protocol, metadata = table.protocol(), table.metadata()
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    is_old = protocol.min_reader_version == 1 and protocol.min_writer_version <= 2
    return (is_old or features <= _FEATURES) and not metadata.partition_columns and set(metadata.configuration) <= _HARMLESS


def enable_table_features(path: str, schema: T.StructType) -> None:
    """Enable the table features that columns of ``schema`` need, where the table exists: TIMESTAMP_NTZ is one."""
    if '"timestamp_ntz"' not in schema.json() or not has_table(path):
        return
    table = open_table(path, path)
    if "timestampNtz" not in (table.protocol().writer_features or ()):
        table.alter.add_feature([TableFeatures.TimestampWithoutTimezone], allow_protocol_versions_increase=True)


def make_nullable(kind: Any) -> Any:
    """Return a type, as JSON, in which everything may be null and nothing is remarked, as Spark writes the schema of a table."""
    if isinstance(kind, list):
        return [make_nullable(each) for each in kind]
    if not isinstance(kind, dict):
        return kind
    free = {"nullable": True, "containsNull": True, "valueContainsNull": True, "metadata": {}}
    return {name: free.get(name, make_nullable(value)) for name, value in kind.items()}


_MOST_COLUMNS = 32
"""So many columns of a table have statistics, the first ones, as Delta has it."""
_LONGEST = 64
"""A text that is longer has no place in a log."""


def file_statistics(path: str, columns: Collection[str]) -> dict[str, object]:
    """Return number of rows, and by column smallest and greatest value and number of nulls, for those of ``columns`` that are not nested.

    They come from the file's footer, so no value is read. What has no order, or none that all readers agree on, has no bounds.

    Source: Delta's protocol, "Per-file Statistics".
    """
    footer = pq.read_metadata(path)
    least: dict[str, object] = {}
    greatest: dict[str, object] = {}
    nulls: dict[str, int] = {}
    wanted = set(columns)
    places = [place for place in range(footer.num_columns) if footer.schema.column(place).path in wanted]
    for place in places[:_MOST_COLUMNS]:
        name = footer.schema.column(place).path
        chunks = [footer.row_group(group).column(place).statistics for group in range(footer.num_row_groups)]
        if any(chunk is None or not chunk.has_null_count for chunk in chunks):
            continue
        nulls[name] = sum(chunk.null_count for chunk in chunks)
        bounded = [chunk for chunk in chunks if chunk.has_min_max]
        has_bounds = all(chunk.has_min_max or chunk.num_values == 0 for chunk in chunks)
        if bounded and has_bounds:
            low, high = min(chunk.min for chunk in bounded), max(chunk.max for chunk in bounded)
            bounds = _format_bound(low), _format_bound(high, is_greatest=True)
            if None not in bounds:
                least[name], greatest[name] = bounds
    return {"numRecords": footer.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _format_bound(value: object, *, is_greatest: bool = False) -> object:
    """Return a bound as a JSON value, None where it cannot be represented exactly enough; instants are widened to milliseconds."""
    if isinstance(value, bool | bytes):
        return None
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Decimal):
        return float(value) if Decimal(repr(float(value))) == value else None
    if isinstance(value, datetime):
        rest = timedelta(microseconds=value.microsecond % 1000)
        value = value - rest + (timedelta(milliseconds=1) if is_greatest and rest else timedelta())
        local = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return local.isoformat(timespec="milliseconds") + ("Z" if value.tzinfo else "")
    return value.isoformat() if isinstance(value, date) else None


PART = "tidemill-part"
"""The column of a stage that says what is to become of a row. Its folders must not begin with ``_``: VACUUM passes those over."""

_SPECIAL = re.compile(r"[\\*?\[\]{}]")
"""What Hadoop takes for a pattern in a path."""

_PREFIX, _MARK = "stage-", "_unfinished"
_CONCURRENT = "spark.sql.maxConcurrentOutputFileWriters"
_UNMARKED = {"mapreduce.fileoutputcommitter.marksuccessfuljobs": "false"}


@dataclass(frozen=True)
class Stage:
    """Rows in files in the sub-folder ``folder`` of ``home``, the folder of the table that they will be committed to.

    ``schema`` are their columns, among them ``PART``, the value of ``by``.
    """

    home: str
    folder: str
    by: str
    schema: T.StructType

    @property
    def path(self) -> str:
        """The folder of the stage."""
        return f"{self.home}/{self.folder}"

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return all rows, with the column ``by`` that they were parted by."""
        return spark.read.schema(self.schema).parquet(_SPECIAL.sub(r"\\\g<0>", self.path)).withColumnRenamed(PART, self.by)

    def files(self, part: str = "*") -> list[Path]:
        """Return the files, those of one part or all."""
        return sorted(Path(self.path).glob(f"{PART}={part}/*.parquet"))

    def write(self, rows: DataFrame, part: str | None = None, varied: Sequence[str] = ()) -> int:
        """Write rows to the stage and return how many: all to one part, or each to the one that its column ``by`` names.

        ``varied`` are columns whose values hardly repeat, so that a dictionary of them would be as long as they are.
        """
        options = {f"parquet.enable.dictionary#{name}": "false" for name in varied} | _UNMARKED
        before = set(self.files())
        if part is None:
            parted = rows.withColumnRenamed(self.by, PART)
            with _write_unsorted(rows.sparkSession):
                parted.write.options(**options).mode("append").partitionBy(PART).parquet(self.path)
        else:
            rows.write.options(**options).mode("append").parquet(f"{self.path}/{PART}={part}")
        return sum(int(pq.read_metadata(path).num_rows) for path in self.files() if path not in before)

    def additions(self, part: str, columns: Sequence[str]) -> list[AddAction]:
        """Return the files of one part, as a commit to the table that they are for names them; ``columns`` are those that it shows."""
        return [
            AddAction(
                path=str(path.relative_to(self.home)),
                size=path.stat().st_size,
                partition_values={},
                modification_time=path.stat().st_mtime_ns // 1_000_000,
                data_change=True,
                stats=json.dumps(file_statistics(str(path), columns)),
            )
            for path in self.files(part)
        ]


@dataclass(frozen=True)
class Part:
    """The rows of a stage that have one fate."""

    stage: Stage
    name: str

    def commit(self, schema: T.StructType, *, replace: bool, meta: str, txn: tuple[str, int] | None = None) -> bool:
        """Commit the rows to their table: in place of all its rows (``replace``) or appended.

        ``schema`` are the columns that the table gets of them, ``meta`` is the commit's ``userMetadata``, ``txn`` an app and its number.
        Returns False, and does nothing, where the table is not a plain one or would need a change of its schema: its rows are to be
        written by Spark then.

        Raises:
            LakeError: this number of the app, or a later one, is in the table already.
        """
        home, kinds = self.stage.home, make_nullable(json.loads(schema.json()))
        if not all(is_plain(field["type"]) for field in kinds["fields"]):
            return False
        files = self.stage.additions(self.name, schema.names)
        commit = CommitProperties(
            custom_metadata={"userMetadata": meta, "operationMetrics": _metrics(files)},
            app_transactions=[Transaction(*txn)] if txn else None,
        )
        columns = Schema.from_json(json.dumps(kinds))
        if not has_table(home):
            create_table_with_add_actions(home, columns, files, mode="error", configuration=LOG_RETENTION, commit_properties=commit)
            return True
        table = open_table(home, home)
        if not is_plain_table(table) or not (replace or make_nullable(json.loads(table.schema().to_json())) == kinds):
            return False
        if txn and (table.transaction_version(txn[0]) or -1) >= txn[1]:
            raise LakeError(f"{home}: batch {txn[1]} of {txn[0]} is in the table already; run again to go on from it")
        table.create_write_transaction([*files], "overwrite" if replace else "append", columns, commit_properties=commit)
        return True


@dataclass(frozen=True)
class StagedRows:
    """Rows that can be read again and again: ``frame``, and the stage that holds them, None where they are persisted instead."""

    frame: DataFrame
    stage: Stage | None

    def part(self, fate: str) -> Part | None:
        """Return the rows with this fate, to be taken into the table."""
        return None if self.stage is None else Part(self.stage, fate)


@contextmanager
def open_stage(home: str, schema: T.StructType, by: str) -> Iterator[Stage]:
    """Have a stage below the table at ``home`` for rows of this schema, parted by its STRING column ``by``, for the length of the block.

    Behind the block what was not taken into the table is gone; what dead processes left there goes first.
    """
    from pyspark.sql import types as T

    remove_dead_stages(home)
    fields = [T.StructField(PART, part.dataType) if part.name == by else part for part in schema.fields]
    stage = Stage(home, f"{_PREFIX}{uuid.uuid4().hex[:12]}", by, T.StructType(fields))
    with _hold_mark(stage.path):
        try:
            yield stage
        finally:
            _remove_stage(home, stage.folder)


@contextmanager
def stage_rows(home: str, rows: DataFrame, by: str, varied: Sequence[str] = ()) -> Iterator[Stage]:
    """Write the rows to a stage, as ``open_stage`` and ``Stage.write`` do.

    Raises:
        LakeError: fewer rows were written than read.
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    observed = Observation()
    with open_stage(home, rows.schema, by) as stage:
        written = stage.write(rows.observe(observed, F.count(F.lit(1)).alias("rows")), varied=varied)
        if written != observed.get["rows"]:
            raise LakeError(f"{home}: {observed.get['rows']} rows were read, but {written} written; run again")
        yield stage


def remove_dead_stages(home: str) -> None:
    """Remove the stages that dead processes left below the table at ``home``, but for what they had taken into it."""
    for mark in Path(home).glob(f"{_PREFIX}*/{_MARK}") if is_local(home) else ():
        with mark.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _remove_stage(home, mark.parent.name)


def is_unfinished(home: str, path: str) -> bool:
    """Return True for a file, as its path below the table at ``home``, of a stage that is being filled."""
    folder = path.partition("/")[0]
    return folder.startswith(_PREFIX) and is_local(home) and (Path(home) / folder / _MARK).exists()


def _metrics(files: Sequence[AddAction]) -> dict[str, str]:
    rows = sum(int(json.loads(file.stats)["numRecords"]) for file in files)
    return {"numFiles": str(len(files)), "numOutputRows": str(rows), "numOutputBytes": str(sum(file.size for file in files))}


@contextmanager
def _hold_mark(path: str) -> Iterator[None]:
    """Hold a mark in the stage's folder, so that it is not removed as one of a dead process."""
    mark = Path(path) / _MARK
    mark.parent.mkdir(parents=True, exist_ok=True)
    with mark.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _remove_stage(home: str, folder: str) -> None:
    """Remove a stage, but for the files that the table at ``home`` holds."""
    held, stage = set(), Path(home) / folder
    if has_table(home):
        held = {path.rpartition("/")[0].rpartition("/")[2] for path in open_table(home, home).file_uris() if f"/{folder}/" in path}
    for entry in stage.iterdir() if held else ():
        if entry.is_dir() and entry.name not in held:
            shutil.rmtree(entry)
    if held:
        (stage / _MARK).unlink()
    else:
        shutil.rmtree(stage, ignore_errors=True)
        with suppress(OSError):  # the table's own folder goes too where it holds nothing else
            Path(home).rmdir()


@contextmanager
def _write_unsorted(spark: SparkSession) -> Iterator[None]:
    """Let a task keep a file of each part open, where Spark would sort the rows by it first."""
    before = spark.conf.get(_CONCURRENT)
    spark.conf.set(_CONCURRENT, "8")
    try:
        yield
    finally:
        spark.conf.set(_CONCURRENT, str(before))
