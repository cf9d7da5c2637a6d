"""Text made safe for a terminal: what would move its cursor, set its title or turn the reading direction is shown, not obeyed."""

from __future__ import annotations

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_CELL = {code: _NAMED.get(chr(code)) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}") for code in _CONTROLS}
_CELL |= {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}  # halves of characters, which no output can encode
_LINES = {code: text for code, text in _CELL.items() if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """Return ``text`` with its control characters escaped, line ends and tabs too, so that it stays on one line."""
    return text.translate(_CELL)


def visible_lines(text: str) -> str:
    """Return ``text`` with its control characters escaped, except for line ends and tabs, which messages have of their own."""
    return text.translate(_LINES)
