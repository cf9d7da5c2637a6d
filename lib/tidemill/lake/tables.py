"""The tables of a lake: read at a version, committed once.

Every commit carries a JSON object in Delta's ``userMetadata`` with a ``commit_id``: that is how a commit is identified and how one
that Delta skipped silently is noticed.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from tidemill.errors import LakeError, TableNotFound
from tidemill.lake.delta_log import LOST, PADDED, DeltaLog, LogFault
from tidemill.lake.delta_tables import has_table, list_data_files, open_table, refuse_damage, translate_errors
from tidemill.lake.files import delete_file, file_hash, file_sizes, read_bytes, read_text, write_bytes, write_text
from tidemill.lake.lake_paths import engine_root, refuse_unreadable_path
from tidemill.lake.ledger import Ledger
from tidemill.lake.merge import IS_NEW, merge_into, select_changes
from tidemill.lake.repair import find_damaged_files, repair_table
from tidemill.lake.safety import parse_reading
from tidemill.lake.sql import replace_tables
from tidemill.lake.staging import Part, Stage, StagedRows, enable_table_features, open_stage, stage_rows
from tidemill.quoting import is_local, quote_name, split_name
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.locks import hold_lock

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import types as T


logger = logging.getLogger(__name__)

Meta = Mapping[str, object]
EMPTY: Mapping[str, str] = MappingProxyType({})


class Lake:
    """A Delta lake below one path; a table is at ``<root>/<layer>/<name>``."""

    def __init__(self, root: str) -> None:
        """Open the lake at ``root``; nothing is created before the first commit.

        Raises:
            UsageError: the path cannot hold a lake.
        """
        self.root = str(Path(root).resolve()) if is_local(root) else root.rstrip("/")
        refuse_unreadable_path(self.root)
        self.ledger = Ledger(self.root)

    @property
    def engine_root(self) -> str:
        """The lake's path as Spark and delta-rs are to be given it."""
        return engine_root(self.root)

    def path(self, table: str) -> str:
        """Return the path of ``layer.name`` in the form that Spark and delta-rs take."""
        layer, name = split_name(table)
        return f"{self.engine_root}/{layer}/{name}"

    def exists(self, table: str) -> bool:
        """Return True where the table has at least one commit, damaged or not."""
        return has_table(self.path(table))

    def open(self, table: str, version: int | None = None) -> DeltaTable:
        """Open the table at a version, by default the latest; starts no JVM.

        Raises:
            LakeError: the table is damaged; its log and the file are named.
        """
        return open_table(self.path(table), table, version)

    def version(self, table: str) -> int | None:
        """Return the latest version of the table, None where there is none; starts no JVM."""
        return int(self.open(table).version()) if self.exists(table) else None

    def rows(self, table: str, version: int) -> int | None:
        """Return the number of rows of the table at a version from the log, None where the log has no counts; starts no JVM."""
        with translate_errors(table, self.path(table)):
            counts = list_data_files(self.open(table, version))["num_records"].to_pylist()
        return None if None in counts else sum(counts)

    def damaged_files(self, table: str) -> list[LogFault]:
        """Return the data files of the latest version that are missing or truncated; always none for a lake that is not on this machine."""
        if not is_local(self.root) or not self.exists(table):
            return []
        refuse_damage(self.path(table), table)
        with translate_errors(table, self.path(table)):
            return find_damaged_files(self.path(table))

    def repair(self, table: str, floor: int = -1) -> list[LogFault]:
        """Make a damaged table readable and return the faults; its step must write again what it lost.

        ``floor`` is the greatest version that the table is known to have had.
        """
        if not is_local(self.root):
            return []
        with hold_lock(self.root, table):
            return repair_table(self.path(table), f"{self.root}/.damaged/{table}", floor)

    def is_lost_since(self, table: str, version: int) -> bool:
        """Return True where the table's commit of this version, or a later one, was lost."""
        return is_local(self.root) and DeltaLog(self.path(table)).is_lost_since(version)

    def pad(self, table: str, floor: int) -> int:
        """Raise the table's version beyond ``floor`` and return it: no version number may denote two states."""
        with hold_lock(self.root, table):
            log = DeltaLog(self.path(table))
            for version in range(log.latest + 1, floor + 2):
                log.add_marker(version, PADDED, "earlier versions of these numbers are lost")
        return max(log.latest, floor + 1)

    def txn_version(self, table: str, app: str) -> int | None:
        """Return the last number committed by ``append_once`` under ``app``, None where there is none; starts no JVM."""
        if not self.exists(table):
            return None
        number = self.open(table).transaction_version(app)
        return None if number is None else int(number)

    def history(self, table: str, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the commit info of the last commits (None: all in the log), with ``version``, the newest first; starts no JVM.

        A log on this machine is read directly: delta-rs finds no history where the path holds ``#`` or ``?``.
        """
        if not self.exists(table):
            return []
        if is_local(self.root):
            refuse_damage(self.path(table), table)
            return DeltaLog(self.path(table)).history(limit)
        with translate_errors(table, self.path(table)):
            return self.open(table).history(limit)

    def metadata(self, table: str, limit: int | None = 50) -> list[dict[str, object]]:
        """Return the ``userMetadata`` of the last commits (None: of all) that carry some, with ``version``, the newest first; no JVM."""
        commits = []
        for entry in self.history(table, limit):
            try:
                meta = json.loads(str(entry.get("userMetadata", "")))
            except ValueError:
                continue
            if isinstance(meta, dict):
                commits.append({**meta, "version": int(entry["version"])})
        return commits

    def read(self, spark: SparkSession, table: str, version: int | None = None) -> DataFrame:
        """Return the table at ``version``; None is the latest.

        Raises:
            TableNotFound: the table or the version is not there.
        """
        latest = self.version(table)
        if latest is None or (version is not None and version > latest):
            state = "it does not exist" if latest is None else f"its latest version is {latest}"
            raise TableNotFound(f"{table} at {self.root}: {state}; run the step that writes it first")
        # Only the step that writes the lost rows again reads the latest version.
        if version is not None and version < latest and is_local(self.root) and DeltaLog(self.path(table)).operation(version) == LOST:
            raise TableNotFound(f"{table}: version {version} was lost with a damaged file of its log; run the step that writes it again")
        reader = spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return reader.load(self.path(table))

    def sql(
        self, spark: SparkSession, text: str, inputs: Mapping[str, int], views: Mapping[str, str] = EMPTY, *, trust: bool = False
    ) -> DataFrame:
        """Return what the query gives with each ``layer.name`` read at the version that ``inputs`` pins.

        ``views`` maps tables to temporary views of the session, which are read in their place.

        Raises:
            TableNotFound: the query names a table that ``inputs`` does not pin.
            UsageError: it does more than read these tables with Spark's own functions, and is not trusted.
        """

        def place(table: str) -> str:
            if table in views:
                return quote_name(views[table])
            if table not in inputs:
                raise TableNotFound(
                    f"{table} is read by the SQL but is no input of this step; known here: {', '.join(sorted(inputs)) or 'none'}"
                )
            return f"delta.{quote_name(self.path(table))} VERSION AS OF {int(inputs[table])}"

        query = replace_tables(text, place)
        if not trust:
            parse_reading(
                spark, query, [self.path(table) for table in inputs if not table.startswith("models.")]
            )  # of a model no SQL reads
        return spark.sql(query)

    @contextmanager
    def stage_rows(self, rows: DataFrame, table: str, by: str, varied: Sequence[str] = ()) -> Iterator[StagedRows]:
        """Keep rows for the duration of the block: they are inspected, and then those with one value of ``by`` are written.

        ``varied`` are columns with few repeated values.
        On a local lake they are written once, below the table, whose commit then takes their files in; elsewhere they are persisted.
        """
        if is_local(self.root):
            with stage_rows(self.path(table), rows, by, varied) as stage:
                yield StagedRows(stage.rows(rows.sparkSession), stage)
        else:
            with cache_frame(rows) as frame:
                yield StagedRows(frame, None)

    @contextmanager
    def open_stage(self, table: str, schema: T.StructType, by: str) -> Iterator[Stage | None]:
        """Open a stage for rows of the table, partitioned by ``by``, for the duration of the block; None where the lake is remote."""
        if is_local(self.root):
            with open_stage(self.path(table), schema, by) as stage:
                yield stage
        else:
            yield None

    def replace(self, df: DataFrame, table: str, *, meta: Meta, part: Part | None = None) -> int:
        """Replace all rows and the schema of the table by ``df`` in one commit; return the version.

        ``part`` are the same rows in a stage, with at least these columns.
        """
        return self._commit(df, table, "overwrite", {"overwriteSchema": "true"}, meta, part)

    def replace_where(self, df: DataFrame, table: str, *, where: str, meta: Meta) -> int:
        """Replace the rows that match the SQL condition ``where`` by ``df``, in one commit; return the version."""
        if not self.exists(table):
            return self._commit(df, table, "append", {}, meta)
        return self._commit(df, table, "overwrite", {"replaceWhere": where, "mergeSchema": "true"}, meta)

    def append_once(self, df: DataFrame, table: str, *, app: str, n: int, meta: Meta, part: Part | None = None) -> int:
        """Append ``df`` as the ``n``-th batch of ``app``; return the version. ``part`` is as for ``replace``.

        Raises:
            LakeError: batch ``n`` of ``app`` is in the table already, so that Delta skipped this one.
        """
        return self._commit(df, table, "append", {"txnAppId": app, "txnVersion": str(n), "mergeSchema": "true"}, meta, part)

    def replace_where_once(self, df: DataFrame, table: str, *, where: str, app: str, n: int, meta: Meta) -> int:
        """Replace the rows that match ``where`` by ``df``, in one commit that is the ``n``-th batch of ``app``; return the version."""
        options = {"replaceWhere": where, "mergeSchema": "true", "txnAppId": app, "txnVersion": str(n)}
        return self._commit(df, table, "overwrite", options, meta)

    def recast(self, spark: SparkSession, table: str, kinds: Mapping[str, T.DataType], meta: Meta) -> int:
        """Rewrite the table with wider types for some columns, in one commit; return the version.

        Delta could widen the types alone, but readers other than Spark do not open a table that uses that feature.
        """
        from pyspark.sql import functions as F

        rows = self.read(spark, table)
        columns = [F.col(quote_name(part.name)).cast(kinds.get(part.name, part.dataType)).alias(part.name) for part in rows.schema.fields]
        return self.replace(rows.select(*columns), table, meta=meta)

    def merge(
        self,
        df: DataFrame,
        table: str,
        *,
        keys: Sequence[str],
        update_if_changed: Sequence[str],
        meta: Meta,
        batch: tuple[str, int] | None = None,
    ) -> int:
        """Upsert ``df``, which is unique and not null in ``keys``; return the version.

        A row whose ``update_if_changed`` columns all equal the table's is left as it is, so that a repeated merge commits nothing.
        Only inserts are an append, which costs a fraction of a MERGE. ``batch`` is an app and its number, as for ``append_once``.
        """
        txn = {} if batch is None else {"txnAppId": batch[0], "txnVersion": str(batch[1])}
        latest = self.version(table)
        if latest is None:
            return self._commit(df, table, "append", txn, meta)
        changes = select_changes(df, self.read(df.sparkSession, table, latest), keys, update_if_changed)
        with cache_frame(changes):
            kinds = {row[IS_NEW] for row in changes.select(IS_NEW).distinct().collect()}
            rows = changes.drop(IS_NEW)
            if not kinds:
                return latest
            if kinds == {True}:
                return self._commit(rows, table, "append", {"mergeSchema": "true", **txn}, meta)
            path = self.path(table)
            return self._commit_and_find(table, meta, lambda user_metadata: merge_into(path, rows, keys, user_metadata, batch))

    def read_text(self, relative: str) -> str:
        """Return the text of a small file below the lake."""
        return read_text(self.root, relative)

    def write_text(self, relative: str, text: str) -> None:
        """Write a small file below the lake; readers see the old one or the new one, never a part."""
        write_text(self.root, relative, text)

    def read_bytes(self, relative: str) -> bytes:
        """Return the content of a small file below the lake."""
        return read_bytes(self.root, relative)

    def write_bytes(self, relative: str, content: bytes) -> None:
        """Write a small file below the lake, as ``write_text`` does."""
        write_bytes(self.root, relative, content)

    def delete_file(self, relative: str) -> None:
        """Remove a small file below the lake, where there is one."""
        delete_file(self.root, relative)

    def file_sizes(self, relative: str) -> dict[str, int]:
        """Return the files in and below a folder of the lake, as relative path → size."""
        return file_sizes(self.root, relative)

    def file_hash(self, relative: str) -> str:
        """Return the SHA-256 of a file below the lake."""
        return file_hash(self.root, relative)

    def _commit(self, df: DataFrame, table: str, mode: str, options: Mapping[str, str], meta: Meta, part: Part | None = None) -> int:
        txn = (options["txnAppId"], int(options["txnVersion"])) if "txnAppId" in options else None

        def write(user_metadata: str) -> None:
            enable_table_features(self.path(table), df.schema)
            if part is not None and part.commit(df.schema, replace=mode == "overwrite", meta=user_metadata, txn=txn):
                return
            writer = df.write.format("delta").mode(mode).option("userMetadata", user_metadata)
            writer.options(**options).save(self.path(table))

        return self._commit_and_find(table, meta, write)

    def _commit_and_find(self, table: str, meta: Meta, write: Callable[[str], None]) -> int:
        """Run ``write`` with the metadata of one commit and return the version it became."""
        commit_id = uuid.uuid4().hex
        with hold_lock(self.root, table):
            with translate_errors(table, self.path(table)):
                write(json.dumps({**meta, "commit_id": commit_id}, default=str))
            history = self.history(table, 20)
        for entry in history:
            if commit_id in str(entry.get("userMetadata", "")):
                logger.info("%s: version %d is committed: by %s", table, int(entry["version"]), meta.get("node", "no step"))
                return int(entry["version"])
        raise LakeError(f"{table}: Delta skipped the commit, another one with the same batch number is there; run again to go on from it")
