"""The text form of a file: its encoding and line ends, detected from its first bytes."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tidemill.errors import SourceError, UsageError
from tidemill.sources.files.listing import SourceFile

_JAVA_NAMES = {
    **{f"cp{page}": f"windows-{page}" for page in range(1250, 1259)},
    **{f"iso8859-{part}": f"ISO-8859-{part}" for part in (*range(1, 10), 13, 15, 16)},
    **{"ascii": "US-ASCII", "utf-8": "UTF-8", "utf-8-sig": "UTF-8", "koi8-r": "KOI8-R", "koi8-u": "KOI8-U", "tis-620": "TIS-620"},
    **{"utf-16": "UTF-16", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE", "iso8859-11": "x-iso-8859-11"},
    **{"utf-32": "UTF-32", "utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE"},
    # Chinese, Japanese, Korean.
    **{"big5": "Big5", "big5hkscs": "Big5-HKSCS", "cp950": "x-windows-950", "gb2312": "GB2312", "gbk": "GBK", "gb18030": "GB18030"},
    **{"shift_jis": "Shift_JIS", "cp932": "windows-31j", "euc_jp": "EUC-JP", "iso2022_jp": "ISO-2022-JP"},
    **{"iso2022_jp_2": "ISO-2022-JP-2", "euc_kr": "EUC-KR", "cp949": "x-windows-949", "johab": "x-Johab", "iso2022_kr": "ISO-2022-KR"},
    # DOS, OS/2, mainframes.
    **{f"cp{page}": f"IBM{page}" for page in ("037", 273, 424, 437, 500, 775, 850, 852, 855, 857, *range(860, 867), 869, 1026)},
    **{f"cp{page}": f"x-IBM{page}" for page in (737, 856, 875, 1006)},
    **{"cp858": "IBM00858", "cp1140": "IBM01140", "cp874": "x-windows-874", "mac-latin2": "x-MacCentralEurope"},
    **{f"mac-{name.lower()}": f"x-Mac{name}" for name in ("Roman", "Croatian", "Cyrillic", "Greek", "Iceland", "Turkish", "Arabic")},
}
"""Java's names of Python's codecs, for encodings that both have."""

_CODECS_BY_JAVA_NAME = {java.lower(): codec for codec, java in _JAVA_NAMES.items() if codec != "utf-8-sig"} | {
    "ms932": "cp932",
    "ms949": "cp949",
}


class Charset(NamedTuple):
    """An encoding by Python's and by Java's name; the two implementations may differ in single characters."""

    codec: str
    java: str


@cache
def find_charset(name: str) -> Charset:
    """Return the encoding of a name in Python's or Java's spelling.

    Raises:
        UsageError: Python or Java does not know it.
    """
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        codec = _CODECS_BY_JAVA_NAME.get(name.lower(), "")
        if not codec:
            raise UsageError(
                f"options.encoding: {name} is not known; write one such as UTF-8, UTF-16LE, ISO-8859-1, windows-1252, Shift_JIS, GB18030"
            ) from None
    if codec not in _JAVA_NAMES:
        raise UsageError(f"options.encoding: Spark's Java has no {name}; recode the files, such as by `iconv -f {name} -t UTF-8`")
    return Charset("utf-8" if codec == "utf-8-sig" else codec, _JAVA_NAMES[codec])


_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
_OTHER_CODECS = (".zst", ".lz4", ".snappy", ".deflate", ".xz")
_BLOCK, _MAX_LINE_BYTES = 1 << 16, 1 << 24
_FIRST_LINES = 64
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip archive"}
# UTF-32's mark begins with UTF-16's, so it must be tried first.
_MARKS = {b"\xff\xfe\0\0": "UTF-32LE", b"\0\0\xfe\xff": "UTF-32BE", b"\xff\xfe": "UTF-16LE", b"\xfe\xff": "UTF-16BE"}
_WITHOUT_ORDER = ("UTF-16", "UTF-32")
_SEPARATOR_LINE = 64
_SEPARATOR = re.compile(r'(?P<line>"?sep=(?P<sep>\\t|[^\r\n\x85])"?)(?=[\r\n\x85]|$)', re.IGNORECASE)


@dataclass(frozen=True)
class TextForm:
    r"""The encoding of a file (``codec`` is its Python name), and the line end: ``\n`` (after ``\r`` too), ``\r``, or ``lineSep``."""

    encoding: str = "UTF-8"
    line_end: str = "\n"
    codec: str = "utf-8"

    @property
    def is_wide(self) -> bool:
        """True where each character takes two or more bytes."""
        return self.encoding.startswith(_WITHOUT_ORDER)

    @property
    def end_bytes(self) -> bytes:
        """The bytes of the line end."""
        return self.line_end.encode(self.codec)


def detect_text_form(start: bytes, options: Mapping[str, str]) -> TextForm:
    """Detect the text form of a file from its first bytes.

    A byte order mark of UTF-16 or UTF-32 takes precedence over a declared Unicode encoding. Lines end with a lone ``CR`` if the first
    bytes contain no other line end.

    Raises:
        SourceError: the byte order is unknown, or the bytes are UTF-16 without a declaration.
    """
    declared = find_charset(options.get("encoding", "UTF-8"))
    marked = detect_byte_order_mark(start)
    codec, encoding = find_charset(marked) if marked and declared.java.startswith("UTF") else declared
    if encoding in _WITHOUT_ORDER:
        raise SourceError(
            f"it has no byte order mark and `encoding: {encoding}` does not say the order; "
            f"set `options.encoding` to {encoding}LE (as Windows writes) or {encoding}BE"
        )
    unmarked = _guess_utf_16(start) if encoding == "UTF-8" else None
    if unmarked:
        raise SourceError(f"every other byte is NUL, as in {unmarked} without a byte order mark; set `options.encoding: {unmarked}`")
    given = options.get("lineSep")
    if given:
        return TextForm(encoding, given, codec)
    text = start.decode("latin-1" if "\r\n".encode(codec) == b"\r\n" else codec, errors="replace")
    # Mainframes end lines with "next line", which Python and Java decode differently.
    ends = ("\n", "\x85", "\r") if "\n".encode(codec) == b"\x25" else ("\n", "\r")
    return TextForm(encoding, next((end for end in ends if end in text), "\n"), codec)


def detect_byte_order_mark(start: bytes) -> str | None:
    """Return the encoding of a UTF-16 or UTF-32 byte order mark, None without one."""
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)


def group_by_text_form(
    spark: SparkSession,
    files: Sequence[SourceFile],
    options: Mapping[str, str],
    look: Callable[[SourceFile, TextForm], None] = lambda file, form: None,
) -> tuple[dict[TextForm, list[SourceFile]], dict[str, str]]:
    """Group the files by text form; return the groups, and the reason for each unreadable file.

    ``look`` checks a file further and raises SourceError if it cannot be read. Files on other file systems are taken as declared, because
    reading each would cost a Spark job.
    """
    groups: dict[TextForm, list[SourceFile]] = {}
    bad = {}
    for file in files:
        try:
            with open_start(spark, file) if file.is_local else io.BytesIO() as stream:
                form = detect_text_form(read_start(stream), options)
            look(file, form)
        except SourceError as error:
            bad[file.path] = str(error)
            continue
        groups.setdefault(form, []).append(file)
    return groups, bad


@contextmanager
def open_start(spark: SparkSession, file: SourceFile) -> Iterator[IO[bytes]]:
    """Open a file, decompressed, to read its first lines; Spark fetches them for files that Python cannot open.

    Raises:
        SourceError: it cannot be read, here or in the block.
    """
    try:
        if can_open(file):
            with open_unpacked(file.readable) as stream:
                yield stream
        else:
            rows = spark.read.option("lineSep", "\n").text(file.uri).select(F.col("value").cast("binary")).head(_FIRST_LINES)
            yield io.BytesIO(b"".join(bytes(row[0]) + b"\n" for row in rows))
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"it cannot be read: {error}") from error


def open_unpacked(path: str) -> IO[bytes]:
    """Open a local file for reading, decompressed according to its suffix."""
    stream: IO[bytes] = _OPENERS.get(Path(path).suffix, open)(path, "rb")
    return stream


def can_open(file: SourceFile) -> bool:
    """Return True for a file that Python can open and decompress."""
    return file.is_local and not file.path.endswith(_OTHER_CODECS)


def read_start(stream: IO[bytes]) -> bytes:
    """Read the start of a file, up to a line feed at least, unless the first line is very long.

    Raises:
        SourceError: the bytes are those of a compressed file.
    """
    start = stream.read(_BLOCK)
    reject_packed(start)
    blocks = [start]
    while b"\n" not in blocks[-1] and blocks[-1] and sum(map(len, blocks)) < _MAX_LINE_BYTES:
        blocks.append(stream.read(_BLOCK))
    return b"".join(blocks)


def reject_packed(start: bytes) -> None:
    """Check the first bytes of a file that should be text.

    Raises:
        SourceError: they are those of a compressed file.
    """
    packed = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if packed:
        raise SourceError(f"its bytes are {packed}, which its name does not say; unpack it, or end its name in .gz where that is so")


def iterate_lines(stream: IO[bytes], start: bytes, form: TextForm) -> Iterator[str]:
    """Yield the decoded lines of a file whose ``start`` has been read already, without the line end but with a ``CR`` before it.

    Raises:
        SourceError: a line is not valid in the encoding, or has no end.
    """
    end = form.end_bytes
    buffer, block = b"", start
    while block:
        *lines, buffer = (buffer + block).split(end)
        for line in lines:
            yield _decode(line, form)
        if len(buffer) > _MAX_LINE_BYTES:
            raise SourceError(f"its first line has no end within {_MAX_LINE_BYTES} bytes; is it text?")
        block = stream.read(_BLOCK)
    if buffer:
        yield _decode(buffer, form)


def _decode(line: bytes, form: TextForm) -> str:
    try:
        return line.decode(form.codec)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"its header is not valid {form.encoding}: {error.reason} at byte {error.start}; set `options.encoding`"
        ) from error


def find_separator_line(start: bytes, form: TextForm) -> tuple[str, str] | None:
    """Return the line ``sep=;`` that Excel writes before a header, and its separator; None without one."""
    text = start[:_SEPARATOR_LINE].decode(form.codec, errors="replace").lstrip("\ufeff").lstrip("\r\n")
    match = _SEPARATOR.match(text)
    return (match.group("line"), match.group("sep").replace("\\t", "\t")) if match else None


def _guess_utf_16(start: bytes) -> str | None:
    """Return UTF-16LE or UTF-16BE where every other byte is zero, else None: scattered zeros are damage of single lines."""
    sample = start[: 1 << 12]
    high, low = sample[0::2].count(0), sample[1::2].count(0)
    if not sample or max(high, low) * 8 < len(sample) or min(high, low) * 8 > max(high, low):
        return None
    return "UTF-16LE" if low > high else "UTF-16BE"
