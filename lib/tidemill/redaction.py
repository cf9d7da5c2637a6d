"""The secrets that this process has looked up, and their removal from everything that it prints and writes.

Error messages, notes, free text in ops tables and log records go through ``redact``. Code that looks up a secret registers it.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import traceback

MASK = "***"
_LONG = 8
"""From this length on a secret is found inside words too; a shorter one, which may be part of any word, only between them."""
_LINE = 12
"""From this length on a line of a secret of many lines, such as a private key, counts as a secret itself."""


class Redactor:
    """Redacts registered secrets in texts, in every spelling that a program may write: plain, URL-encoded, in JSON or XML."""

    def __init__(self) -> None:
        """Start without secrets."""
        self._secrets: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """True while no secret is known."""
        return self._pattern is None

    def register(self, secret: str) -> None:
        """Register a secret; an empty text is none."""
        lines = secret.splitlines()
        parts = [secret, *(line.strip() for line in (lines if len(lines) > 1 else ()) if len(line.strip()) >= _LINE)]
        with self._lock:
            new = {part: _any_spelling(part) for part in parts if part.strip() and part not in self._secrets}
            if new:
                self._secrets |= new
                longest_first = sorted(self._secrets, key=len, reverse=True)
                self._pattern = re.compile("|".join(self._secrets[known] for known in longest_first))

    def redact(self, text: str) -> str:
        """Return the text with ``***`` for each secret in it."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _any_spelling(secret: str) -> str:
    """Return a pattern for the secret whatever of its characters are escaped."""
    spelt = "".join(_spellings(character) for character in secret)
    return spelt if len(secret) >= _LONG else rf"(?<![A-Za-z0-9]){spelt}(?![A-Za-z0-9])"


def _spellings(character: str) -> str:
    """Return a pattern for one character: itself, URL-encoded, and escaped as in JSON, Python or XML, several times over where need be."""
    if character.isascii() and character.isalnum():
        return character
    encoded = "".join(f"%(?:25)*{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
    units = json.dumps(character)[1:-1]
    spelt = [rf"\\*{re.escape(character)}", f"(?i:{encoded})", f"&#{ord(character)};", f"(?i:&#x{ord(character):x};)"]
    if units.startswith("\\u"):
        spelt.append("(?i:" + units.replace("\\", r"\\+") + ")")
    elif units.startswith("\\") and character not in '\\"':
        spelt.append(r"\\+" + units[1:])
    spelt += {" ": [r"\+"], "&": ["&amp;"], "<": ["&lt;"], ">": ["&gt;"], '"': ["&quot;"], "'": ["&apos;"]}.get(character, [])
    if character == "\\":
        spelt[0] = r"\\+"
    return f"(?:{'|'.join(spelt)})"


_REDACTOR = Redactor()


def register_secret(secret: str) -> None:
    """Redact a secret in everything that this process prints or writes from now on, its logs too."""
    if _REDACTOR.is_empty and secret.strip():
        _redact_logs()
    _REDACTOR.register(secret)


def redact(text: str) -> str:
    """Return the text with ``***`` for each secret that this process has looked up."""
    return _REDACTOR.redact(text)


def redact_trace(error: BaseException) -> str:
    """Return the stack trace of an error without secrets."""
    return redact("".join(traceback.format_exception(error)))


def _redact_logs() -> None:
    """Redact the records of every logger: py4j's, for example, hold what is sent to Java, passwords too."""
    make = logging.getLogRecordFactory()

    def make_redacted(*args: object, **named: object) -> logging.LogRecord:
        record = make(*args, **named)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not fit the message; logging reports that itself
            return record
        redacted = redact(message)
        if redacted != message:
            record.msg, record.args = redacted, ()
        if record.exc_info and record.exc_info[1] is not None:
            trace = "".join(traceback.format_exception(record.exc_info[1]))
            if redact(trace) != trace:
                # A formatter may ask the exception itself, as PySpark's does: its trace becomes part of the message instead.
                record.msg, record.args, record.exc_info = f"{redacted}\n{redact(trace)}", (), None
        return record

    logging.setLogRecordFactory(make_redacted)
