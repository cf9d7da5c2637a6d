"""The user's own Python, called so that it cannot end the process that runs it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.errors import StepError

_PACKAGE = str(Path(__file__).parents[1])
_NOT_THE_USERS = ("site-packages", "dist-packages", "/pyspark/", "/lib/python3", _PACKAGE)


@contextmanager
def contain_exit(name: str) -> Iterator[None]:
    """Raise StepError for a `sys.exit()` in the block, and for what else is no Exception, of the user's code that ``name`` names.

    An interrupt (Ctrl-C) stays one.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise StepError(f"{name} {said_of_exit(error)}") from error


def said_of_exit(error: BaseException) -> str:
    """Return what is to be said of user code that raised ``error``, which is no Exception: ``called sys.exit(0) (file, line, in f); …``."""
    frames = [(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    place = place_of_user_code(frames)
    if isinstance(error, SystemExit):
        status = "" if error.code is None else repr(error.code)
        return f"called sys.exit({status}){place}; it must return, or raise an Exception that says what is wrong"
    said = str(error).strip().partition("\n")[0]
    raised = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"raised {raised}{place}, which is no Exception; it must return, or raise an Exception"


def place_of_user_code(frames: list[tuple[str, int, str]]) -> str:
    """Return `` (functions.py, line 3, in clean)``, the last frame (file, line, function) that is no library's; empty where none is."""
    own = [frame for frame in frames if not any(part in frame[0] for part in _NOT_THE_USERS)]
    if not own:
        return ""
    file, number, name = own[-1]
    return f" ({Path(file).name}, line {number}, in {name})"
