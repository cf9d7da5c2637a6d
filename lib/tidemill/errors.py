"""The errors tidemill raises, one tree, each with the exit code it ends a command with.

::

    TidemillError                       exit code 1: the run failed
     ├── SpecError (ValueError)         2: the spec is wrong; carries every fault found
     ├── UsageError (ValueError)        2: the command is wrong
     ├── SetupError (RuntimeError)      2: Java, jars or an optional package are missing or wrong
     ├── TableNotFound (LookupError)    1: a table or a version of it is not in the lake
     ├── SourceError (ValueError)       1: raw data that cannot be read at all
     ├── StepError (RuntimeError)       1: a step could not do its work
     │    └── ChangedMeanwhile          another process changed what a decision rests on
     ├── LakeError (RuntimeError)       1: a commit did not happen, or not as expected
     └── RefusedError (ValueError)      3: a rule said no
          ├── ExpectationRefused        a data expectation, a key, or the dataset's contract
          ├── GateRefused               an evaluation gate
          ├── ApprovalRequired          a person has to approve the model first, or this person may not
          └── DriftRefused              a drift rule with `on_alert: fail`
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tidemill.column_names import list_table_columns
from tidemill.redaction import redact


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known word, or an empty string.

    The header of a column is told the name that a table gives it.
    """
    names = {str(name) for name in known}
    [in_table] = list_table_columns([str(word)])
    if in_table != str(word) and in_table in names:
        return f"; a table calls it {in_table!r}, as it takes no {_refused_in(str(word))} in a name"
    nearest = difflib.get_close_matches(str(word), sorted(names), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def _refused_in(header: str) -> str:
    words = {" ": "space", "\t": "tab", "\n": "line end"}
    return ", ".join(words.get(sign, sign) for sign in dict.fromkeys(header) if list_table_columns([sign]) != [sign])


class TidemillError(Exception):
    """Anything tidemill says no to; ``exit_code`` is what a command ends with."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message without secrets."""
        return redact(super().__str__())


@dataclass(frozen=True)
class Fault:
    """One fault of a spec: where it stands and what is wrong there.

    ``key`` is the dotted path (``sources.flights.format``); ``line`` and ``column`` count from 1, None where a fault has none.
    """

    file: str
    line: int | None
    key: str
    message: str
    column: int | None = None

    def __str__(self) -> str:
        """Return ``file:line: key: message``, with ``:column`` behind the line where it is known."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column if self.line is not None else None) if part is not None)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class SpecError(TidemillError, ValueError):
    """A spec that cannot be used; ``faults`` holds all that was found, in the order of the file."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Keep the faults and join them into the message, one a line."""
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class UsageError(TidemillError, ValueError):
    """A command with arguments that do not fit."""

    exit_code = 2


class SetupError(TidemillError, RuntimeError):
    """The machine lacks something tidemill needs: Java, Delta's jars, an optional package."""

    exit_code = 2


class TableNotFound(TidemillError, LookupError):
    """A table, or a version of it, that the lake does not hold."""


class SourceError(TidemillError, ValueError):
    """A source that cannot be read at all."""


class StepError(TidemillError, RuntimeError):
    """A step that could not do its work."""


class ChangedMeanwhile(StepError):
    """A change that was not made, since another process has changed what it rests on."""


class LakeError(TidemillError, RuntimeError):
    """A commit that did not happen, or not as it was meant."""


class RefusedError(TidemillError, ValueError):
    """A quality, gate or drift rule said no."""

    exit_code = 3


class ExpectationRefused(RefusedError):
    """An expectation, a key or the dataset's contract does not hold."""


class GateRefused(RefusedError):
    """A candidate did not pass a gate."""


class ApprovalRequired(RefusedError):
    """A model that may not become champion before somebody who may has approved it.

    ``digest`` names the evidence that was to be approved, empty where the error is about something else.
    """

    def __init__(self, message: str, digest: str = "") -> None:
        """Keep the digest."""
        super().__init__(message)
        self.digest = digest


class DriftRefused(RefusedError):
    """Drift passed the alert level and the spec says that this fails the run."""
