"""What Spark raises, as one sentence for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from tidemill.errors import StepError

_CONDITION = re.compile(r"\[[A-Z][A-Z0-9_.]+\]\s*([^\n]+)")
_STATE = re.compile(r"\s*SQLSTATE: \w+;?\s*(\(?)")


def sentence(error: BaseException) -> str:
    """Return what went wrong without error class, SQL state, plan and stack: Spark's own sentence where it has one, else its first line."""
    text = str(error)
    found = _CONDITION.search(text)
    line = found.group(1) if found else next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return _STATE.sub(r" \1", line).strip().rstrip(";").rstrip()


@contextmanager
def as_step_error(what: str) -> Iterator[None]:
    """Raise StepError ``what: <one sentence>`` for what Spark raises inside the block; the cause is kept."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise StepError(f"{what}: {sentence(error)}") from error
