"""Formats any error as one sentence."""

from __future__ import annotations

import re

from tidemill.errors import TidemillError
from tidemill.lake.lake_paths import restore_paths
from tidemill.redaction import redact
from tidemill.runtime.machine_faults import describe_machine_fault

_DELTA_RS = ("_internal", "deltalake._internal", "pyo3_runtime", "deltalake.exceptions")
_SECRET = re.compile(r"(?i)(password|secret|token|pwd)(\s*[=:]\s*)(\S+)")


def format_error(error: BaseException) -> str:
    """Return what went wrong without a stack trace: a tidemill error as it is, Spark's own message cut to its first lines."""
    if isinstance(error, TidemillError):
        return restore_paths(str(error))
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    message, is_whole = _describe(error)
    message = restore_paths(message)
    return _SECRET.sub(r"\1\2***", message if is_whole else f"{type(error).__name__}: {message}")


def _describe(error: BaseException) -> tuple[str, bool]:
    """Return the message of an error, and whether it is clear without the error's type."""
    if hasattr(error, "java_exception") or hasattr(error, "_origin"):
        from tidemill.runtime.spark_errors import format_spark_error  # loads Spark, which has raised this and so is there

        return format_spark_error(error)[:600], True
    fault = describe_machine_fault(f"{type(error).__name__}: {error}")
    if fault:
        return redact(fault), True
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    if type(error).__module__ in _DELTA_RS:  # the lines after the first are its stack
        lines = lines[:1]
    return " ".join(lines[:3])[:600] or type(error).__name__, isinstance(error, (OSError, ValueError))
