"""Reads hand-made files through a kind of source, as ingest does."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import functions as F
from tests.spark.sources.postgres import Postgres, binaries, server

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.columns import column
from tidemill.sources.files.damaged import find_empty_files, probe_files
from tidemill.sources.files.listing import list_files
from tidemill.sources.records import IS_PLAIN, RAW, REJECTED, RULES, STATUS, VALID, Records, add_status, count_by_file, select_rejected
from tidemill.sources.schema.types import parse_schema
from tidemill.spec.models import SOURCE_KINDS, Source


def judged(records: Records, schema) -> Any:
    """Return the records as ingest keeps them, but for the batch's stamps."""
    return add_status(records.frame, *schema.names, SOURCE_FILE, ROW_HASH, RESCUED)


def good_rows(frame) -> list:
    """Return the good ones of judged records: the schema's columns, file, hash and rescued fields."""
    return frame.where(frame[STATUS] == VALID).drop("_tidemill_raw", "_tidemill_rules", STATUS).collect()


def plain_rows(records: Records, schema) -> list:
    """Return the records that need no closer look, as ``good_rows`` does."""
    columns = [*map(column, schema.names), SOURCE_FILE, ROW_HASH, RESCUED]
    return [row for way in records.fast_paths for row in way.frame.where(F.col(IS_PLAIN)).select(*columns).collect()]


@pytest.fixture
def read(spark, tmp_path: Path) -> Callable[..., Any]:
    """Write files, read them, and return good rows, refused rows (raw → rules), counts by file name, bad files."""

    def _read(kind: str, files: dict[str, bytes], schema: str | None = None, **options: object) -> SimpleNamespace:
        folder = tmp_path / "in"
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        source = Source(format=kind, path=str(folder), options=options, schema=schema)
        listed = [file for file in list_files([str(folder)]) if file.size]
        reader = SOURCE_KINDS.get(kind)
        known = parse_schema(spark, schema) if schema else reader.infer(spark, source, listed)
        records = reader.read(spark, source, listed, known)
        found = SimpleNamespace(
            schema=known,
            bad={Path(path).name: why for path, why in records.bad_files.items()},
            notes=records.notes,
            differences=records.differences,
        )
        found.differing = {
            (each.kind, each.column, tuple(Path(path).name for path in each.files), each.actual, each.expected)
            for each in records.differences
        }
        found.good, found.refused, found.counts = [], {}, {}
        if records.frame is not None:
            frame = judged(records, known).persist()
            counts = count_by_file(frame)
            found.counts = {Path(path).name: (count.records, count.valid, count.rejected) for path, count in counts.items()}
            found.good = good_rows(frame)
            found.plain = plain_rows(records, known)
            # Whatever the quick look lets pass, the closer one finds good too, with the same values; and it counts every record.
            assert not Counter(map(repr, found.plain)) - Counter(map(repr, found.good))
            assert not records.fast_paths or sum(way.count_rows() for way in records.fast_paths) == frame.count()
            repeats = any(count.repeated_headers for count in counts.values())
            found.rows = select_rejected(frame, with_repeated_headers=repeats).collect()
            found.refused = {row["raw"]: row["rules"] for row in found.rows}
            frame.unpersist()
        return found

    return _read


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that runs for as long as the tests do."""
    programs = binaries()
    if programs is None:
        lack = "PostgreSQL is not installed (apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(lack)
        pytest.skip(lack)
    with server(programs) as running:
        yield running


@pytest.fixture
def extract(spark) -> Callable[..., Any]:
    """Read a source without files: the extract, its good rows by their first column, its refused rows (raw → rules)."""

    def _extract(since: str | None = None, folder: Path | None = None, **declared: object) -> SimpleNamespace:
        source = Source.model_validate(declared)
        kind: Any = SOURCE_KINDS.get(source.format, folder)
        schema = parse_schema(spark, source.schema_) if source.schema_ else kind.infer(spark, source)
        schema = kind.complete_schema(source, schema) if hasattr(kind, "complete_schema") else schema
        found = kind.extract(spark, source, schema, since)
        frame = judged(found.records, schema)
        good = sorted(good_rows(frame), key=lambda row: (row[0] is not None, row[0] if row[0] is not None else 0))
        refused = {row["raw"]: row["rules"] for row in select_rejected(frame, with_repeated_headers=False).collect()}
        return SimpleNamespace(extract=found, schema=schema, good=good, refused=refused, ids=[row[0] for row in good])

    return _extract


@pytest.fixture
def bad_files(spark, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Write files and try each alone, as ingest does where a read failed; return the reasons of the bad ones."""

    def _bad_files(kind: str, files: dict[str, bytes], schema: str | None = None, **options: object) -> dict[str, str]:
        for name, data in files.items():
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(data)
        source = Source(format=kind, path=str(tmp_path / "in"), options=options)
        known = parse_schema(spark, schema) if schema else None
        listed = list_files([str(tmp_path / "in")])
        unreadable = find_empty_files(listed)
        found = probe_files(spark, SOURCE_KINDS.get(kind), source, [file for file in listed if file.path not in unreadable], known)
        return {Path(path).name: why for path, why in (unreadable | found).items()}

    return _bad_files


@pytest.fixture
def read_pinned(spark, tmp_path: Path) -> Callable[..., Any]:
    """Read one file with a schema that was inferred before; return the values of its first column in good rows, and refused rows."""

    def _read(kind: str, schema: str, data: bytes, at: str = "i", **options: object) -> tuple[list, dict[str, list[str]]]:
        path = tmp_path / f"pinned.{kind}"
        path.write_bytes(data)
        source = Source(format=kind, path=str(path), options=options)
        records = SOURCE_KINDS.get(kind).read(spark, source, list_files([str(path)]), parse_schema(spark, schema))
        frame = add_status(records.frame, *parse_schema(spark, schema).names)
        rows = frame.where(frame[STATUS] == VALID).select(at).collect()
        refused = frame.where(frame[STATUS] == REJECTED).collect()
        return sorted(row[0] for row in rows), {row[RAW]: row[RULES] for row in refused}

    return _read
