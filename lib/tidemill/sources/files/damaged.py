"""Find files that cannot be read: by cheap checks first, and one by one after a read has failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.runtime.spark_errors import SPARK_ERRORS, format_spark_error
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.schema.types import NothingToInfer
from tidemill.spec.models import Source
from tidemill.spec.models.source_kinds import FileKind

READ_FAILURES = (*SPARK_ERRORS, SourceError)
"""The errors that reading a damaged file raises."""

_LOSSY = frozenset({".lz4", ".snappy", ".xz"})
# Errors of tidemill's own readers inside Spark's Python workers, in the last line of a stack trace.
_RAISED = re.compile(r"^tidemill\.[\w.]+: (?:\[[A-Z_]+\] )?([^\n]+)$", re.MULTILINE)
_CAUSE = re.compile(r"^Caused by: ([\w.$]+): ([^\n]+)$", re.MULTILINE)


def find_empty_files(files: Sequence[SourceFile]) -> dict[str, str]:
    """Return the files without a byte, which Spark would silently read as no rows."""
    return {file.path: "it is empty (0 bytes)" for file in files if file.size == 0}


def find_lossy_compression(files: Sequence[SourceFile]) -> dict[str, str]:
    """Return the text files with a compression that Spark reads with silent losses: no rows, or some of them if the file is cut."""
    bad = {}
    for file in files:
        suffix = Path(file.path).suffix
        if suffix in _LOSSY:
            bad[file.path] = f"Spark reads a {suffix} file of text with silent losses; pack it as .gz, .bz2 or .zst"
        elif suffix == ".bz2" and file.is_local and file.size and not _starts_with(file.readable, b"BZh"):
            bad[file.path] = "it is not packed as its name says (.bz2); correct the name"
    return bad


def find_changed_files(before: Sequence[SourceFile], now: Sequence[SourceFile]) -> dict[str, str]:
    """Return the files that a second listing lacks or shows as changed: what was read of them may mix two versions."""
    listed = {file.path: file for file in now}
    bad = {}
    for file in before:
        current = listed.get(file.path)
        if current is None:
            bad[file.path] = "it vanished while it was read; bring it back, and the next run takes it"
        elif current != file:
            bad[file.path] = f"it changed while it was read ({file.size} bytes, then {current.size}); the next run takes it as it is then"
    return bad


def _starts_with(path: str, magic: bytes) -> bool:
    try:
        with Path(path).open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError:
        return True  # the reader will report the error


def probe_files(
    spark: SparkSession, kind: FileKind, source: Source, files: Sequence[SourceFile], schema: T.StructType | None
) -> dict[str, str]:
    """Read each file alone to its end; return the reason for each that cannot be read."""
    bad: dict[str, str] = {}
    for file in files:
        try:
            records = kind.read(spark, source, [file], schema or kind.infer(spark, source, [file]))
            bad.update(records.bad_files)
            if records.frame is not None:
                # A count would read no column, and so miss a damaged page.
                records.frame.write.format("noop").mode("overwrite").save()
        except NothingToInfer:
            continue  # it was read to its end
        except READ_FAILURES as error:
            bad[file.path] = format_reason(error)
    return bad


def format_reason(error: BaseException) -> str:
    """Return why a file could not be read: the innermost cause, which is more specific than Spark's message."""
    if isinstance(error, SourceError):
        return str(error)
    raised = _RAISED.search(str(error))
    if raised:
        return f"it cannot be read: {raised.group(1).strip()}"
    causes = _CAUSE.findall(str(error))
    return f"it cannot be read: {causes[-1][1].strip()}" if causes else f"it cannot be read: {format_spark_error(error)}"
