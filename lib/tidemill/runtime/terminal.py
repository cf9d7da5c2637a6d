"""Output for a terminal: text with escaped control characters, and the log records of tidemill."""

from __future__ import annotations

import logging
import os
import sys

from tidemill.errors import UsageError
from tidemill.redaction import redact

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_CELL = {code: _NAMED.get(chr(code)) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}") for code in _CONTROLS}
_CELL |= {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}  # halves of characters, which no output can encode
_LINES = {code: text for code, text in _CELL.items() if chr(code) not in "\n\t"}


def escape_controls(text: str) -> str:
    """Return ``text`` with its control characters escaped, line ends and tabs too, so that it stays on one line."""
    return text.translate(_CELL)


def escape_controls_in_lines(text: str) -> str:
    """Return ``text`` with its control characters escaped, except line ends and tabs, which messages contain."""
    return text.translate(_LINES)


LOG_LEVELS = ("debug", "info", "warning", "error")


class _SafeFormatter(logging.Formatter):
    """Formats a record free of secrets and of control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and its stack trace where it has one."""
        return escape_controls_in_lines(redact(super().format(record)))


def configure_logging(level: str | None = None) -> None:
    """Show the log records of tidemill on standard error, from ``level``, else ``TIDEMILL_LOG``, else ``warning`` on.

    Raises:
        UsageError: there is no such level.
    """
    chosen = (os.environ.get("TIDEMILL_LOG") or "warning" if level is None else level).lower()
    if chosen not in LOG_LEVELS:
        source = f"--log-level {level}" if level is not None else f"TIDEMILL_LOG={chosen}"
        raise UsageError(f"{source}: expected one of {', '.join(LOG_LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("tidemill")
    log.handlers, log.propagate = [handler], False
    log.setLevel(chosen.upper())
