"""The bytes of an XML file as blocks of UTF-8: unpacked, and decoded as its byte order mark, the options or its own first line say."""

from __future__ import annotations

import bz2
import codecs
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tidemill.errors import SourceError
from tidemill.sources.files.encodings import marked_encoding, refuse_packed

BLOCK = 1 << 20
INVALID = "\udcff".encode("utf-8", "surrogatepass")
"""What stands for bytes that are not valid in an encoding other than UTF-8; it is not valid UTF-8 itself."""

_MARKED = "tidemill.invalid_bytes"
_HEAD = 1 << 12
_PACKED_PIECE = 1 << 14
_UTF_8_MARK = codecs.BOM_UTF8
_DECLARED = re.compile(rb"""^\s*<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z][\w.:-]*)["']""")
_UNMARKED = {b"<\0": "UTF-16LE", b"\0<": "UTF-16BE"}
_UNPACKERS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    ".deflate": zlib.decompressobj,
    ".bz2": bz2.BZ2Decompressor,
}

codecs.register_error(_MARKED, lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]


def file_blocks(path: str) -> Iterator[bytes]:
    """Yield the bytes of a local file, unpacked as its name says.

    Raises:
        SourceError: they cannot be unpacked to their end.
    """
    try:
        with Path(path).open("rb") as stream:
            yield from unpacked(iter(lambda: stream.read(BLOCK), b""), Path(path).suffix)
    except OSError as error:
        raise SourceError(str(error)) from error


def unpacked(blocks: Iterable[bytes], suffix: str) -> Iterator[bytes]:
    """Yield the bytes that are packed in the blocks, in one member or several, each checked against its own checksum.

    Raises:
        SourceError: they are damaged, or end before a member does.
    """
    if suffix == ".zst":
        yield from _unpacked_zst(blocks)
        return
    new = _UNPACKERS.get(suffix)
    if new is None:
        yield from blocks
        return
    member = None
    try:
        for block in blocks:
            for start in range(0, len(block), _PACKED_PIECE):
                rest = block[start : start + _PACKED_PIECE]
                while rest:
                    if member is None:
                        # Tapes and some writers fill up with zeros, with which no member begins.
                        rest = rest.lstrip(b"\0")
                        member = new() if rest else None
                        continue
                    yield member.decompress(rest)
                    rest, member = (member.unused_data, None) if member.eof else (b"", member)
    except (OSError, zlib.error) as error:
        raise SourceError(f"its packed data ({suffix}) is damaged: {error}") from error
    if member is not None:
        raise SourceError(f"its packed data ({suffix}) is cut off")


def utf_8(blocks: Iterable[bytes], declared: str | None) -> tuple[str, Iterator[bytes]]:
    """Return the encoding of a file, and its bytes in UTF-8 without a byte order mark; bytes that are not valid stay not valid.

    Raises:
        SourceError: its first bytes are those of a packed file, or of an encoding that is not known.
    """
    rest = iter(blocks)
    head = b""
    for block in rest:
        head += block
        if len(head) >= _HEAD:
            break
    refuse_packed(head)
    encoding = _encoding(head, declared)
    found = _all(head, rest)
    return encoding, _without_mark(found if encoding == "UTF-8" else _recoded(found, encoding))


def known_encoding(name: str) -> bool:
    """Return True for an encoding of text that Python can decode."""
    try:
        b"    ".decode(name, "replace")  # what is empty is decoded without a look at the name
    except (LookupError, UnicodeError):
        return False
    return True


def _encoding(head: bytes, declared: str | None) -> str:
    """Return the encoding in upper case: by the mark, by ``declared`` (what the options say), by the first bytes."""
    marked = marked_encoding(head)
    if marked and (declared is None or declared.startswith("UTF")):
        return marked
    unmarked = next((name for start, name in _UNMARKED.items() if head.startswith(start)), None)
    if declared in ("UTF-16", "UTF-32") and not unmarked:
        raise SourceError(f"it has no byte order mark and `encoding: {declared}` does not say the order; set {declared}LE or {declared}BE")
    if declared is not None and declared != "UTF-16":
        return declared
    if unmarked:
        return unmarked
    found = _DECLARED.match(head.removeprefix(_UTF_8_MARK))
    name = found.group(1).decode().upper() if found else "UTF-8"
    if name == "UTF8" or name.startswith(("UTF-16", "UTF-32")) or head.startswith(_UTF_8_MARK):
        return "UTF-8"  # a declaration that can be read byte by byte is not in two of them
    if not known_encoding(name):
        raise SourceError(f"its first line says encoding {name!r}, which is not known; set `options.encoding`")
    return name


def _all(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _recoded(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors=_MARKED)
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")


def _without_mark(blocks: Iterable[bytes]) -> Iterator[bytes]:
    is_first = True
    for block in blocks:
        yield block.removeprefix(_UTF_8_MARK) if is_first else block
        is_first = is_first and not block


def _unpacked_zst(blocks: Iterable[bytes]) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.PythonFile(_Blocks(blocks), mode="r"), "zstd") as found:
            while block := found.read(BLOCK):
                yield block
    except OSError as error:
        raise SourceError(f"its packed data (.zst) is damaged or cut off: {error}") from error


class _Blocks(io.RawIOBase):
    """Blocks as a file that can be read."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        """Begin at the first."""
        self._blocks, self._block = iter(blocks), memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return some bytes, none at the end."""
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._block = memoryview(block)
        taken, self._block = self._block[:size], self._block[size:]
        return bytes(taken)
