"""Decompress XML files and recode them to UTF-8, by their byte order mark, the option ``encoding``, or their XML declaration."""

from __future__ import annotations

import bz2
import codecs
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tidemill.errors import SourceError
from tidemill.sources.files.encodings import detect_byte_order_mark, reject_packed

BLOCK = 1 << 20
INVALID = "\udcff".encode("utf-8", "surrogatepass")
"""Marks bytes that are invalid in an encoding other than UTF-8; the mark itself is invalid UTF-8."""

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


def read_blocks(path: str) -> Iterator[bytes]:
    """Yield the bytes of a local file, decompressed according to its suffix.

    Raises:
        SourceError: the file cannot be decompressed to its end.
    """
    try:
        with Path(path).open("rb") as stream:
            yield from unpack(stream, Path(path).suffix)
    except OSError as error:
        raise SourceError(str(error)) from error


def unpack(stream: IO[bytes], suffix: str) -> Iterator[bytes]:
    """Yield the decompressed bytes of one or several members, each verified by its checksum.

    Python's own gzip and bz2 files ignore some kinds of damage behind a member.

    Raises:
        SourceError: a member is damaged or cut off.
    """
    if suffix == ".zst":
        yield from _unpack_zst(stream)
        return
    new_member = _UNPACKERS.get(suffix)
    if new_member is None:
        yield from iter(lambda: stream.read(BLOCK), b"")
        return
    member = None
    try:
        while piece := stream.read(_PACKED_PIECE):
            while piece:
                if member is None:
                    # Tapes and some writers pad files with zeros; no member begins with one.
                    piece = piece.lstrip(b"\0")
                    member = new_member() if piece else None
                    continue
                yield member.decompress(piece)
                piece, member = (member.unused_data, None) if member.eof else (b"", member)
    except (OSError, zlib.error) as error:
        raise SourceError(f"its packed data ({suffix}) is damaged: {error}") from error
    if member is not None:
        raise SourceError(f"its packed data ({suffix}) is cut off")


def _unpack_zst(stream: IO[bytes]) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd") as unpack:
            while block := unpack.read(BLOCK):
                yield block
    except OSError as error:
        raise SourceError(f"its packed data (.zst) is damaged or cut off: {error}") from error


def recode_to_utf_8(blocks: Iterable[bytes], declared: str | None) -> tuple[str, Iterator[bytes]]:
    """Return the encoding of a file, and its bytes in UTF-8 without a byte order mark; invalid bytes stay invalid.

    Raises:
        SourceError: the file is compressed, or its encoding is unknown.
    """
    rest = iter(blocks)
    head = b""
    for block in rest:
        head += block
        if len(head) >= _HEAD:
            break
    reject_packed(head)
    encoding = _detect_encoding(head, declared)
    text = chain([head], rest)
    return encoding, _drop_mark(text if encoding == "UTF-8" else _recode(text, encoding))


def is_known_encoding(name: str) -> bool:
    """Return True for a text encoding that Python can decode."""
    try:
        b"    ".decode(name, "replace")  # decoding empty bytes would not look up the name
    except (LookupError, UnicodeError):
        return False
    return True


def _detect_encoding(head: bytes, declared: str | None) -> str:
    """Return the encoding in upper case: by the byte order mark, the options (``declared``), or the first bytes."""
    marked = detect_byte_order_mark(head)
    if marked and (declared is None or declared.startswith("UTF")):
        return marked
    unmarked = next((name for start, name in _UNMARKED.items() if head.startswith(start)), None)
    if declared in ("UTF-16", "UTF-32") and not unmarked:
        raise SourceError(f"it has no byte order mark and `encoding: {declared}` does not say the order; set {declared}LE or {declared}BE")
    if declared is not None and declared != "UTF-16":
        return declared
    if unmarked:
        return unmarked
    match = _DECLARED.match(head.removeprefix(_UTF_8_MARK))
    name = match.group(1).decode().upper() if match else "UTF-8"
    if name == "UTF8" or name.startswith(("UTF-16", "UTF-32")) or head.startswith(_UTF_8_MARK):
        return "UTF-8"  # a declaration that can be read byte by byte is not UTF-16 or UTF-32
    if not is_known_encoding(name):
        raise SourceError(f"its first line says encoding {name!r}, which is not known; set `options.encoding`")
    return name


@cache
def _register_invalid_mark() -> str:
    """Register, once per process, the codec error handler that replaces invalid bytes by ``INVALID``; return its name."""
    name = "tidemill.invalid_bytes"
    codecs.register_error(name, lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]
    return name


def _recode(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors=_register_invalid_mark())
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")


def _drop_mark(blocks: Iterable[bytes]) -> Iterator[bytes]:
    is_first = True
    for block in blocks:
        yield block.removeprefix(_UTF_8_MARK) if is_first else block
        is_first = is_first and not block
