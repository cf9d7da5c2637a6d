"""Turns whatever was raised into one clear sentence for people."""

from __future__ import annotations

import re

from tidemill.errors import TidemillError

_SECRET = re.compile(r"(?i)(password|secret|token|pwd)(\s*[=:]\s*)(\S+)")


def in_one_sentence(error: BaseException) -> str:
    """Return what went wrong without a stack trace: a tidemill error as it is, Spark's own message cut to its first lines."""
    if isinstance(error, TidemillError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = _spark_message(error) or str(error) or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("at ", "\tat ", "Caused by", "== SQL", "JVM stacktrace", "---"))]
    told = " ".join(kept[:3])[:600]
    return _SECRET.sub(r"\1\2***", told if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {told}")


def _spark_message(error: BaseException) -> str | None:
    """Return the message of a Spark exception, which a Py4J error hides behind its Java stack trace."""
    java = getattr(error, "java_exception", None)
    if java is None:
        return None
    cause = java
    while cause.getCause() is not None:
        cause = cause.getCause()
    return str(cause.getMessage() or cause.toString())
