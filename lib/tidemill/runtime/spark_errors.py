"""What Spark raises, as one sentence for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from tidemill.column_names import list_table_columns
from tidemill.errors import StepError
from tidemill.redaction import redact
from tidemill.runtime.machine_faults import describe_machine_fault
from tidemill.runtime.user_code import locate_user_code

SPARK_ERRORS = (PySparkException, Py4JJavaError)
"""The errors that Spark raises in Python."""

_CONDITION = re.compile(r"\[[A-Z][A-Z0-9_.]+\]\s*([^\n]+)")
_SUGGESTED = re.compile(r" Did you mean one of the following\? \[([^\]]*)\]\.?")
_UNKNOWN_COLUMN = re.compile(r"with name (?:`(?:[^`]|``)+`\.)*`((?:[^`]|``)+)` cannot be resolved")
_STATE = re.compile(r"\s*SQLSTATE: \w+;?\s*(\(?)")


_FRAME = re.compile(r'^ *File "([^"]+)", line (\d+), in (\S+)')


def format_spark_error(error: BaseException) -> str:
    """Return what went wrong without error class, SQL state, plan and stack: Spark's own sentence where it has one, else its first line.

    Of Python that failed in a worker it is what it raised, and the line of the user's code that did. Of a fault of the machine (no
    memory, no room, a worker that is lost) it says also what to do.
    """
    causes = [redact(text) for text in list_causes(error)]
    raised = next((line for text in reversed(causes) if (line := _find_python_error(text))), None)
    known = describe_machine_fault(raised or "\n".join(causes)) or raised
    if known:
        return known
    text = redact(_innermost_message(error))
    condition = _CONDITION.search(text)
    message = condition.group(1) if condition else next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return _STATE.sub(r" \1", _SUGGESTED.sub(_without_internal, message)).strip().rstrip(";").rstrip() + _name_in_table(message)


def _without_internal(suggested: re.Match[str]) -> str:
    """Return Spark's list of names without those that exist only while a step runs: they begin with _tidemill, or with a space."""
    names = [name for name in suggested[1].split(", ") if not name.rpartition(".")[2].startswith(("`_tidemill", "` "))]
    return f" Did you mean one of the following? [{', '.join(names)}]." if names else ""


def list_causes(error: BaseException) -> list[str]:
    """Return the texts of an error and of what caused it in Java, the outermost first."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if java is None:
        return [f"{type(error).__name__}: {error}" if isinstance(error, MemoryError) else str(error)]
    texts = []
    while java is not None:
        texts.append(str(java.toString()))
        java = java.getCause()
    return texts


def _find_python_error(text: str) -> str | None:
    """Return what Python raised in a worker and where, of a text that holds its traceback; None of any other."""
    lines = text.rpartition("Traceback (most recent call last):\n")[2].splitlines()
    frames = [(place, match) for place, line in enumerate(lines) if (match := _FRAME.match(line))]
    if not frames:
        return None
    raised = next((line for line in lines[frames[-1][0] + 1 :] if line and not line.startswith(" ")), "")
    kind, colon, message = raised.partition(": ")
    name = kind.rpartition(".")[2]
    place = locate_user_code([(match.group(1), int(match.group(2)), match.group(3)) for _, match in frames])
    if name == "SystemExit":
        return f"it called sys.exit({message}){place}; it must return, or raise an Exception that says what is wrong"
    return f"{name}{colon}{message}{place}"


def _name_in_table(line: str) -> str:
    """Return a remark where Spark does not know a column by its header, but a table would have it under another name."""
    unknown = _UNKNOWN_COLUMN.search(line)
    header = unknown.group(1).replace("``", "`") if unknown else ""
    [name] = list_table_columns([header or "_"])
    return f" ({header!r} is called {name} in tables)" if header and name != header and f"`{name}`" in line else ""


def _innermost_message(error: BaseException) -> str:
    """Return what was said first: on the way up Spark wraps it into sentences such as "Task failed while writing rows"."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if java is None:
        return str(error)
    while java.getCause() is not None:
        java = java.getCause()
    return str(java.getMessage() or java.toString())


@contextmanager
def raise_step_error(what: str) -> Iterator[None]:
    """Raise StepError ``what: <one sentence>`` for what Spark raises inside the block; the cause is kept."""
    try:
        yield
    except SPARK_ERRORS as error:
        raise StepError(f"{what}: {format_spark_error(error)}") from error
