"""Avro's container: a header, then blocks of records, each with its count, its size and the file's sync marker behind it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any, BinaryIO

from tidemill.errors import SetupError

MAGIC = b"Obj\x01"
_SYNC = 16
_LONG_BYTES = 10


class Damaged(ValueError):
    """The file is not whole; the message says what is wrong."""


@dataclass(frozen=True)
class Header:
    """What the file says about itself."""

    schema: Any
    codec: str
    sync: bytes


@dataclass(frozen=True)
class Block:
    """Where a block's data lies, and how many records are in it."""

    count: int
    start: int
    size: int


def fastavro() -> Any:
    """Return the library that decodes records.

    Raises:
        SetupError: it is not installed.
    """
    try:
        return import_module("fastavro")
    except ImportError as error:
        raise SetupError("Avro files need the package fastavro; install it: pip install 'tidemill[avro]'") from error


def header(stream: BinaryIO) -> Header:
    """Return the header, and leave the stream behind it."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise Damaged("it does not begin as Avro files do")
    entries: dict[bytes, bytes] = {}
    while count := _long(stream):
        if count < 0:
            count = -count
            _long(stream)
        for _ in range(count):
            name = _exactly(stream, _long(stream))
            entries[name] = _exactly(stream, _long(stream))
    try:
        schema = json.loads(entries.get(b"avro.schema", b""))
    except ValueError as error:
        raise Damaged("the schema in its header is not JSON") from error
    codec = entries.get(b"avro.codec", b"null").decode("latin-1")
    if codec not in _CODECS:
        raise Damaged(f"its codec is {codec!r}, which is not read; write it with one of {', '.join(_CODECS)}")
    if codec == "snappy" and find_spec("cramjam") is None:
        raise Damaged("it is compressed with snappy; install cramjam (pip install cramjam), or write it with codec deflate")
    return Header(schema, codec, _exactly(stream, _SYNC))


def blocks(stream: BinaryIO, size: int, sync: bytes) -> Iterator[Block]:
    """Yield the blocks from where the stream stands to the end of the file, which must be the end of a block."""
    while (at := stream.tell()) < size:
        count, length = _long(stream), _long(stream)
        block = Block(count, stream.tell(), length)
        if count < 0 or length < 0 or block.start + length + _SYNC > size:
            raise Damaged(f"the block at byte {at} is cut off or damaged")
        stream.seek(length, 1)
        if _exactly(stream, _SYNC) != sync:
            raise Damaged(f"the block at byte {at} does not end with the file's sync marker")
        yield block


def records(stream: BinaryIO, block: Block, codec: str, schema: Any) -> list[Any]:
    """Return the records of a block, whose bytes must be theirs to the last one; ``schema`` is a parsed one of an array of them."""
    back = stream.tell()
    stream.seek(block.start)
    try:
        data = _CODECS[codec](_exactly(stream, block.size))
        # A block is stored as an array is, but for the count before it and the zero behind it.
        array = BytesIO((_written(block.count) + data if block.count else data) + b"\0")
        found: list[Any] = fastavro().schemaless_reader(array, schema, None)
        if len(found) != block.count or array.read(1):
            raise Damaged("more bytes than records")
    # What the library raises for damaged bytes is of many types: the bytes decide.
    except Exception as error:
        raise Damaged(f"the records of the block at byte {block.start} cannot be read ({error or type(error).__name__})") from error
    stream.seek(back)
    return found


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size) if size >= 0 else b""
    if size < 0 or len(data) < size:
        raise Damaged("it is cut off or damaged")
    return data


def _long(stream: BinaryIO) -> int:
    number = 0
    for place in range(_LONG_BYTES):
        byte = _exactly(stream, 1)[0]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)
    raise Damaged("a number in it has no end")


def _written(count: int) -> bytes:
    number, data = count << 1, bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    found = stream.decompress(data) + stream.flush()
    # Some writers, fastavro among them, leave the first bytes of zlib's checksum behind the data.
    if not stream.eof or not zlib.adler32(found).to_bytes(4, "big").startswith(stream.unused_data):
        raise Damaged("compressed data that does not end where it should, or has another checksum")
    return found


def _unsnapped(data: bytes) -> bytes:
    found = bytes(import_module("cramjam").snappy.decompress_raw(data[:-4]))
    if zlib.crc32(found) != int.from_bytes(data[-4:], "big"):
        raise Damaged("another checksum than the one stored")
    return found


_CODECS: dict[str, Callable[[bytes], bytes]] = {"null": bytes, "deflate": _inflated, "snappy": _unsnapped}
