"""XML cut into its records, the outermost elements of one name, without parsing what lies in them: to the byte, good or not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tidemill.errors import SourceError
from tidemill.sources.files.lines import LONGEST_LINE, OPTION

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
"""A tag as far as it goes, whatever stands in it."""
ENTITY = re.compile(rb"<!ENTITY\s")
_ANY_TAG = re.compile(rb"<(" + _NAME + rb")")
SPANS = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}


def tags(head: bytes) -> list[bytes]:
    """Return the names of the start tags, in order."""
    plain = re.sub(COMMENT + rb"|<!\[CDATA\[.*?\]\]>|<\?.*?\?>", b"", head, flags=re.DOTALL)
    return [found.group(1) for found in _ANY_TAG.finditer(DOCTYPE.sub(b"", plain))]


_LONGEST_ENVELOPE = 1 << 24
_LONGEST_TAG, _LONGEST_INNER_TAG = 1 << 24, 1 << 16
_HEAD = 1 << 16
_LONGEST_PREFIX = 256
_LOOKS_BACK = 16


class Cut(NamedTuple):
    """A record's bytes, the line where it begins (from 1), and whether it has no beginning or end of its own."""

    text: bytes
    line: int
    is_broken: bool = False


class RecordScanner:
    """Cuts the UTF-8 bytes of one file into records; what stands outside of them (the root, other elements) is none.

    A tag inside a comment, CDATA, a processing instruction or a quoted attribute is no tag. An element of the records' name inside a
    record belongs to it. What cannot be told apart is one broken record, so that nothing is lost: from an end tag without a start
    back to the record before, from a start tag without an end to the end of the file. Where the file is closed and no record before
    had one inside it, one without an end ends where the next begins.
    """

    def __init__(self, row_tag: str, *, with_any_prefix: bool = False, longest: int = LONGEST_LINE) -> None:
        """Take the name of the elements that are records; ``with_any_prefix`` finds it behind any namespace prefix too.

        ``longest`` is how many bytes a record may have.
        """
        self.row_tag, self._longest = row_tag, longest
        row = (rb"(?:[^\s<>/:]+:)?" if with_any_prefix else b"") + re.escape(row_tag.encode())
        self._mark = re.compile(rb"<(?:!(?:--|\[CDATA\[|DOCTYPE)|\?|(/?)" + row + rb"(?=[\s/>]))")
        self._start = re.compile(rb"<" + row + ATTRIBUTES + rb"(/?)>")
        self._longest_mark = len(row) + _LONGEST_PREFIX
        self._buffer = bytearray()
        self._at = 0  # what lies before is scanned
        self._kept = 0  # where the open record begins, or what lies behind the last one
        self._span_end = 0
        self._depth = 0
        self._is_final = False
        self._is_flat = False
        self._flat = self._nesting = 0
        self._holds_another = False
        self._line, self._counted, self._line_end = 1, 0, b"\n"
        self._head = b""

    def records(self, blocks: Iterable[bytes]) -> Iterator[Cut]:
        """Yield the records of a file.

        Raises:
            SourceError: it is not XML, declares entities, has no such element but others, or a record has no end within reach.
        """
        rest = iter(blocks)
        count = 0
        self._begin(rest)
        while True:
            for cut in self._cut():
                count += 1
                yield cut
            if self._is_final:
                break
            self._read(rest)
        if not count:
            self._refuse_without_records()

    def _begin(self, rest: Iterator[bytes]) -> None:
        while not self._is_final and (len(self._buffer) < _HEAD or not self._buffer.strip()):
            self._read(rest)
        start = bytes(self._buffer).lstrip()
        if start and not start.startswith(b"<"):
            raise SourceError("it does not begin as XML does, with <")
        if b"\r" in self._buffer and b"\n" not in self._buffer:
            self._line_end = b"\r"
        self._head = bytes(self._buffer[:_HEAD])

    def _read(self, rest: Iterator[bytes]) -> None:
        """Forget what is behind and take a block more; as much again as there is, so that a long record is not moved too often."""
        if not self._depth and self._at - self._kept > _LONGEST_ENVELOPE:
            self._kept = self._at
        line = self._line_at(self._kept)
        if len(self._buffer) - self._kept > self._longest:
            raise SourceError(
                f"what begins at line {line} has no end within {self._longest} bytes; check `options.rowTag`, or raise `options.{OPTION}`"
            )
        del self._buffer[: self._kept]
        self._at, self._counted, self._span_end = (place - self._kept for place in (self._at, self._counted, self._span_end))
        self._kept = 0
        wanted = 2 * len(self._buffer) + 1
        while len(self._buffer) < wanted and not self._is_final:
            block = next(rest, None)
            self._is_final = block is None
            self._buffer += block or b""

    def _cut(self) -> Iterator[Cut]:
        """Yield the records whose end is in the buffer."""
        while True:
            while (found := self._next()) is not None:
                yield from found
            if not self._is_final or not self._depth:
                return
            if not self._may_resync():
                self._depth = 0
                yield self._taken(len(self._buffer), is_broken=True)
                return
            self._is_flat, self._depth, self._at, self._span_end = True, 0, self._kept, 0

    def _next(self) -> tuple[Cut, ...] | None:
        """Move on behind the next tag or span and return the records that end there; None where the buffer does not hold it."""
        buffer = self._buffer
        mark = self._mark.search(buffer, self._at)
        if mark is None:
            self._at = len(buffer) if self._is_final else max(self._at, len(buffer) - self._longest_mark)
            return self._end_of_file() if self._is_final else None
        at = self._at = mark.start()
        around = self._tag_around(at)
        if around is None:
            return None
        if around > at:
            self._at = around
            return ()
        opening = mark.group()
        if opening in SPANS:
            end = buffer.find(SPANS[opening], mark.end())
            if end < 0:
                return self._without_end()
            self._at = self._span_end = end + len(SPANS[opening])
            return ()
        if mark.group(1) is not None:
            return self._end_tag(at) if mark.group(1) else self._start_tag(at)
        if not self._depth:
            return self._doctype(at)
        self._at = mark.end()
        return ()

    def _tag_around(self, at: int) -> int | None:
        """Return the end of the tag in whose quotes a ``<`` stands, ``at`` itself where it stands in none, None where more must be seen.

        XML allows no ``<`` there, so this is asked only of what looks like a mark; the tag before it tells.
        """
        before, first = at, max(self._kept, self._span_end)
        for _ in range(_LOOKS_BACK):
            before = self._buffer.rfind(b"<", first, before)
            if before < 0:
                break
            tag = TAG.match(self._buffer, before)
            if tag:
                return max(tag.end(), at)
            if not self._is_final and len(self._buffer) - at < _LONGEST_INNER_TAG:
                return None
        return at

    def _start_tag(self, at: int) -> tuple[Cut, ...] | None:
        tag = self._start.match(self._buffer, at)
        if tag is None:
            if not self._is_final and len(self._buffer) - at < _LONGEST_TAG:
                return None
            tag = BROKEN_TAG.match(self._buffer, at)
            assert tag is not None
        is_whole = tag.group().endswith(b"/>")
        before: tuple[Cut, ...] = ()
        if self._depth and self._is_flat:
            before, self._depth = (self._taken(at, is_broken=True),), 0
        self._at = tag.end()
        if self._depth:
            self._holds_another = True
            self._depth += 0 if is_whole else 1
            return ()
        self._kept, self._holds_another = at, False
        if is_whole:
            return (*before, self._taken(self._at))
        self._depth = 1
        return before

    def _end_tag(self, at: int) -> tuple[Cut, ...] | None:
        tag = BROKEN_TAG.match(self._buffer, at)
        assert tag is not None
        if tag.end() == len(self._buffer) and not self._is_final:
            return None
        self._at = tag.end()
        if self._depth > 1:
            self._depth -= 1
            return ()
        has_start, self._depth = bool(self._depth), 0
        return (self._taken(self._at, is_broken=not has_start),)

    def _taken(self, end: int, *, is_broken: bool = False) -> Cut:
        """Return what was kept up to ``end`` as a record, without the white space before it."""
        text = bytes(self._buffer[self._kept : end])
        if is_broken:
            self._kept += len(text) - len(text.lstrip())
            text = text.strip()
        elif self._holds_another:
            self._nesting += 1
        else:
            self._flat += 1
        cut = Cut(text, self._line_at(self._kept), is_broken)
        self._kept = end
        return cut

    def _without_end(self) -> tuple[Cut, ...] | None:
        """Return what begins here and has no end, where that is sure, as a broken record; inside of one it belongs to that."""
        if not self._is_final or self._depth:
            return None
        self._kept, self._at = self._at, len(self._buffer)
        return (self._taken(self._at, is_broken=True),)

    def _end_of_file(self) -> tuple[Cut, ...] | None:
        """Return the tag that the end of the file cuts off outside of records."""
        last = self._buffer.rfind(b"<", self._kept)
        if self._depth or last < 0 or self._buffer.find(b">", last) >= 0:
            return None
        self._at = last
        return self._without_end()

    def _doctype(self, at: int) -> tuple[Cut, ...] | None:
        found = DOCTYPE.match(self._buffer, at)
        if found is None:
            return self._without_end()
        if ENTITY.search(re.sub(COMMENT, b"", found.group("inner") or b"", flags=re.DOTALL)):
            raise SourceError("it declares entities (<!ENTITY …>), which are not expanded; write their text in their place")
        self._at = self._span_end = found.end()
        return ()

    def _may_resync(self) -> bool:
        """Return True where the open record surely lacks its end tag: the file is whole, and records hold none of their kind."""
        root = next(iter(tags(self._head)), b"")
        if self._is_flat or self._nesting or not self._flat or self._mark.match(b"<" + root + b">"):
            return False
        return re.search(rb"</" + re.escape(root) + rb"\s*>\s*(?:" + COMMENT + rb"\s*)*\Z", self._buffer, re.DOTALL) is not None

    def _line_at(self, place: int) -> int:
        """Return the line of a place that is not before the one asked last."""
        self._line += self._buffer.count(self._line_end, self._counted, place)
        self._counted = max(place, self._counted)
        return self._line

    def _refuse_without_records(self) -> None:
        names = tags(self._head)
        if not names:
            raise SourceError("it holds no element")
        inner = list(dict.fromkeys(name for name in names if name != names[0]))
        if inner:
            told = ", ".join(f"<{name.decode('utf-8', 'replace')}>" for name in inner[:5])
            raise SourceError(f"it has no <{self.row_tag}>, but {told}; `options.rowTag` names the element that is a record")
