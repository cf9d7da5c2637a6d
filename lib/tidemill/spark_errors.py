"""What Spark raises, as one sentence for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from tidemill.errors import StepError
from tidemill.redaction import redact

_CONDITION = re.compile(r"\[[A-Z][A-Z0-9_.]+\]\s*([^\n]+)")
_SUGGESTED = re.compile(r" Did you mean one of the following\? \[([^\]]*)\]\.?")
_STATE = re.compile(r"\s*SQLSTATE: \w+;?\s*(\(?)")


def sentence(error: BaseException) -> str:
    """Return what went wrong without error class, SQL state, plan and stack: Spark's own sentence where it has one, else its first line."""
    text = redact(_innermost(error))
    found = _CONDITION.search(text)
    line = found.group(1) if found else next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return _STATE.sub(r" \1", _SUGGESTED.sub(_without_internal, line)).strip().rstrip(";").rstrip()


def _without_internal(suggested: re.Match[str]) -> str:
    """Return Spark's list of names without those that exist only while a step runs: they begin with _tidemill, or with a space."""
    names = [name for name in suggested[1].split(", ") if not name.rpartition(".")[2].startswith(("`_tidemill", "` "))]
    return f" Did you mean one of the following? [{', '.join(names)}]." if names else ""


def _innermost(error: BaseException) -> str:
    """Return what was said first: on the way up Spark wraps it into sentences such as "Task failed while writing rows"."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if java is None:
        return str(error)
    while java.getCause() is not None:
        java = java.getCause()
    return str(java.getMessage() or java.toString())


@contextmanager
def as_step_error(what: str) -> Iterator[None]:
    """Raise StepError ``what: <one sentence>`` for what Spark raises inside the block; the cause is kept."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise StepError(f"{what}: {sentence(error)}") from error
