"""Reads hand-made files through a kind of source, as ingest does."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidemill.sources.files import list_files
from tidemill.sources.records import good_records, refused_records, survey
from tidemill.sources.registry import source_kind
from tidemill.sources.schemas import parsed_schema
from tidemill.spec.models import Source


@pytest.fixture
def read(spark, tmp_path: Path) -> Callable[..., Any]:
    """Write files, read them, and return good rows, refused rows (raw → rules), counts by file name, bad files."""

    def _read(kind: str, files: dict[str, bytes], schema: str | None = None, **options: object) -> SimpleNamespace:
        folder = tmp_path / "in"
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        source = Source(format=kind, path=str(folder), options=options)
        listed = [file for file in list_files([str(folder)]) if file.size]
        reader = source_kind(kind)
        known = parsed_schema(spark, schema) if schema else reader.infer(spark, source, listed)
        records = reader.read(spark, source, listed, known)
        found = SimpleNamespace(
            schema=known,
            bad={Path(path).name: why for path, why in records.bad_files.items()},
            notes=records.notes,
            differences=records.differences,
        )
        found.good, found.refused, found.counts = [], {}, {}
        if records.frame is not None:
            frame = records.frame.persist()
            counts = survey(frame)
            found.counts = {Path(path).name: (count.records, count.good, count.refused) for path, count in counts.items()}
            found.good = good_records(frame, known).collect()
            repeats = any(count.repeated_headers for count in counts.values())
            found.rows = refused_records(frame, with_repeated_headers=repeats).collect()
            found.refused = {row["raw"]: row["rules"] for row in found.rows}
            frame.unpersist()
        return found

    return _read
