"""Cut XML into its records, the outermost elements of one name, byte by byte and without parsing their content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tidemill.errors import SourceError
from tidemill.sources.files.lines import MAX_LINE_BYTES, MAX_RECORD_OPTION

_NAME = rb"""[^\s<>/="'!?]++"""
ATTRIBUTES = rb"""(?:\s+[^\s<>/="']++\s*=\s*(?:"[^"]*"|'[^']*'))*+\s*"""
COMMENT = rb"<!--.*?-->"
DOCTYPE = re.compile(
    rb"""<!DOCTYPE(?:[^\[<>"']|"[^"]*"|'[^']*')*+"""
    rb"""(?:\[(?P<inner>(?:[^\]<]|<!--.*?-->|<\?.*?\?>|<!(?!--)(?:[^"'>]|"[^"]*"|'[^']*')*+>)*+)\]\s*)?>""",
    re.DOTALL,
)
TAG = re.compile(rb"</?" + _NAME + ATTRIBUTES + rb"/?>")
BROKEN_TAG = re.compile(rb"<[^<>]*+>?")
"""A tag up to its end or the next ``<``, whatever it contains."""
ENTITY = re.compile(rb"<!ENTITY\s")
_ANY_TAG = re.compile(rb"<(" + _NAME + rb")")
SPANS = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}


def list_start_tags(head: bytes) -> list[bytes]:
    """Return the names of the start tags, in order."""
    plain = re.sub(COMMENT + rb"|<!\[CDATA\[.*?\]\]>|<\?.*?\?>", b"", head, flags=re.DOTALL)
    return [match.group(1) for match in _ANY_TAG.finditer(DOCTYPE.sub(b"", plain))]


_MAX_ENVELOPE = 1 << 24
_MAX_TAG, _MAX_INNER_TAG = 1 << 24, 1 << 16
_HEAD = 1 << 16
_MAX_PREFIX = 256
_MAX_LOOK_BACK = 16


class RawRecord(NamedTuple):
    """A record's bytes, the line where it begins (from 1), and whether its start or end tag is missing."""

    text: bytes
    line: int
    is_broken: bool = False


class RecordScanner:
    """Cuts the UTF-8 bytes of one file into records; content outside of them (the root, other elements) is ignored.

    Tags inside comments, CDATA, processing instructions and quoted attributes do not count. An element of the row tag inside a record
    belongs to it. Unbalanced tags give one broken record, so that nothing is lost: from an end tag without a start back to the record
    before, from a start tag without an end to the end of the file. If the root is closed and no record contained another before, a
    record without an end tag ends where the next one begins.
    """

    def __init__(self, row_tag: str, *, with_any_prefix: bool = False, longest: int = MAX_LINE_BYTES) -> None:
        """Take the row tag; ``with_any_prefix`` accepts any namespace prefix, ``longest`` is the maximum number of bytes of a record."""
        self.row_tag, self._longest = row_tag, longest
        row = (rb"(?:[^\s<>/:]+:)?" if with_any_prefix else b"") + re.escape(row_tag.encode())
        self._mark = re.compile(rb"<(?:!(?:--|\[CDATA\[|DOCTYPE)|\?|(/?)" + row + rb"(?=[\s/>]))")
        self._start_tag_pattern = re.compile(rb"<" + row + ATTRIBUTES + rb"(/?)>")
        self._longest_mark = len(row) + _MAX_PREFIX
        self._buffer = bytearray()
        self._position = 0  # scanned up to here
        self._start = 0  # start of the open record, or end of the last one
        self._span_end = 0
        self._depth = 0
        self._is_final = False
        self._is_flat = False
        self._flat = self._nesting = 0
        self._holds_another = False
        self._line, self._counted, self._line_end = 1, 0, b"\n"
        self._head = b""

    def records(self, blocks: Iterable[bytes]) -> Iterator[RawRecord]:
        """Yield the records of a file.

        Raises:
            SourceError: it is not XML, declares entities, has no element of the row tag, or a record is too long.
        """
        rest = iter(blocks)
        count = 0
        self._read_head(rest)
        while True:
            for cut in self._scan_buffer():
                count += 1
                yield cut
            if self._is_final:
                break
            self._read(rest)
        if not count:
            self._raise_without_records()

    def _read_head(self, rest: Iterator[bytes]) -> None:
        while not self._is_final and (len(self._buffer) < _HEAD or not self._buffer.strip()):
            self._read(rest)
        start = bytes(self._buffer).lstrip()
        if start and not start.startswith(b"<"):
            raise SourceError("it does not begin as XML does, with <")
        if b"\r" in self._buffer and b"\n" not in self._buffer:
            self._line_end = b"\r"
        self._head = bytes(self._buffer[:_HEAD])

    def _read(self, rest: Iterator[bytes]) -> None:
        """Drop what is done and read on, as many bytes as the buffer holds, so that a long record is not copied too often."""
        if not self._depth and self._position - self._start > _MAX_ENVELOPE:
            self._start = self._position
        line = self._line_at(self._start)
        if len(self._buffer) - self._start > self._longest:
            raise SourceError(
                f"what begins at line {line} has no end within {self._longest} bytes; check `options.rowTag`, "
                f"or raise `options.{MAX_RECORD_OPTION}`"
            )
        del self._buffer[: self._start]
        self._position, self._counted, self._span_end = (place - self._start for place in (self._position, self._counted, self._span_end))
        self._start = 0
        wanted = 2 * len(self._buffer) + 1
        while len(self._buffer) < wanted and not self._is_final:
            block = next(rest, None)
            self._is_final = block is None
            self._buffer += block or b""

    def _scan_buffer(self) -> Iterator[RawRecord]:
        """Yield the records that end in the buffer."""
        while True:
            while (raw_records := self._scan_mark()) is not None:
                yield from raw_records
            if not self._is_final or not self._depth:
                return
            if not self._may_resync():
                self._depth = 0
                yield self._take_record(len(self._buffer), is_broken=True)
                return
            self._is_flat, self._depth, self._position, self._span_end = True, 0, self._start, 0

    def _scan_mark(self) -> tuple[RawRecord, ...] | None:
        """Move behind the next tag or span and return the records that end there; None where the buffer ends before it."""
        buffer = self._buffer
        mark = self._mark.search(buffer, self._position)
        if mark is None:
            self._position = len(buffer) if self._is_final else max(self._position, len(buffer) - self._longest_mark)
            return self._end_of_file() if self._is_final else None
        at = self._position = mark.start()
        around = self._tag_around(at)
        if around is None:
            return None
        if around > at:
            self._position = around
            return ()
        opening = mark.group()
        if opening in SPANS:
            end = buffer.find(SPANS[opening], mark.end())
            if end < 0:
                return self._take_open_end()
            self._position = self._span_end = end + len(SPANS[opening])
            return ()
        if mark.group(1) is not None:
            return self._scan_end_tag(at) if mark.group(1) else self._scan_start_tag(at)
        if not self._depth:
            return self._scan_doctype(at)
        self._position = mark.end()
        return ()

    def _tag_around(self, at: int) -> int | None:
        """Return the end of the tag whose quoted attribute contains this ``<``, ``at`` where there is none, None where more must be read.

        XML allows no ``<`` in attributes, so this is checked only for what looks like a mark.
        """
        place, first = at, max(self._start, self._span_end)
        for _ in range(_MAX_LOOK_BACK):
            place = self._buffer.rfind(b"<", first, place)
            if place < 0:
                break
            tag = TAG.match(self._buffer, place)
            if tag:
                return max(tag.end(), at)
            if not self._is_final and len(self._buffer) - at < _MAX_INNER_TAG:
                return None
        return at

    def _scan_start_tag(self, at: int) -> tuple[RawRecord, ...] | None:
        tag = self._start_tag_pattern.match(self._buffer, at)
        if tag is None:
            if not self._is_final and len(self._buffer) - at < _MAX_TAG:
                return None
            tag = BROKEN_TAG.match(self._buffer, at)
            assert tag is not None
        is_whole = tag.group().endswith(b"/>")
        before: tuple[RawRecord, ...] = ()
        if self._depth and self._is_flat:
            before, self._depth = (self._take_record(at, is_broken=True),), 0
        self._position = tag.end()
        if self._depth:
            self._holds_another = True
            self._depth += 0 if is_whole else 1
            return ()
        self._start, self._holds_another = at, False
        if is_whole:
            return (*before, self._take_record(self._position))
        self._depth = 1
        return before

    def _scan_end_tag(self, at: int) -> tuple[RawRecord, ...] | None:
        tag = BROKEN_TAG.match(self._buffer, at)
        assert tag is not None
        if tag.end() == len(self._buffer) and not self._is_final:
            return None
        self._position = tag.end()
        if self._depth > 1:
            self._depth -= 1
            return ()
        has_start, self._depth = bool(self._depth), 0
        return (self._take_record(self._position, is_broken=not has_start),)

    def _take_record(self, end: int, *, is_broken: bool = False) -> RawRecord:
        """Return the open record up to ``end``, a broken one without white space around it."""
        text = bytes(self._buffer[self._start : end])
        if is_broken:
            self._start += len(text) - len(text.lstrip())
            text = text.strip()
        elif self._holds_another:
            self._nesting += 1
        else:
            self._flat += 1
        cut = RawRecord(text, self._line_at(self._start), is_broken)
        self._start = end
        return cut

    def _take_open_end(self) -> tuple[RawRecord, ...] | None:
        """Return a span without an end as a broken record, at the end of the file; inside a record it belongs to that record."""
        if not self._is_final or self._depth:
            return None
        self._start, self._position = self._position, len(self._buffer)
        return (self._take_record(self._position, is_broken=True),)

    def _end_of_file(self) -> tuple[RawRecord, ...] | None:
        """Return a tag outside of records that the end of the file cuts off."""
        last = self._buffer.rfind(b"<", self._start)
        if self._depth or last < 0 or self._buffer.find(b">", last) >= 0:
            return None
        self._position = last
        return self._take_open_end()

    def _scan_doctype(self, at: int) -> tuple[RawRecord, ...] | None:
        match = DOCTYPE.match(self._buffer, at)
        if match is None:
            return self._take_open_end()
        if ENTITY.search(re.sub(COMMENT, b"", match.group("inner") or b"", flags=re.DOTALL)):
            raise SourceError("it declares entities (<!ENTITY …>), which are not expanded; write their text in their place")
        self._position = self._span_end = match.end()
        return ()

    def _may_resync(self) -> bool:
        """Return True where the open record certainly lacks its end tag: the root is closed, and no record contained another."""
        root = next(iter(list_start_tags(self._head)), b"")
        if self._is_flat or self._nesting or not self._flat or self._mark.match(b"<" + root + b">"):
            return False
        return re.search(rb"</" + re.escape(root) + rb"\s*>\s*(?:" + COMMENT + rb"\s*)*\Z", self._buffer, re.DOTALL) is not None

    def _line_at(self, place: int) -> int:
        """Return the line of a place; calls must go forward."""
        self._line += self._buffer.count(self._line_end, self._counted, place)
        self._counted = max(place, self._counted)
        return self._line

    def _raise_without_records(self) -> None:
        names = list_start_tags(self._head)
        if not names:
            raise SourceError("it holds no element")
        inner = list(dict.fromkeys(name for name in names if name != names[0]))
        if inner:
            shown = ", ".join(f"<{name.decode('utf-8', 'replace')}>" for name in inner[:5])
            raise SourceError(f"it has no <{self.row_tag}>, but {shown}; `options.rowTag` names the element that is a record")
