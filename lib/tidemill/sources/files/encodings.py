"""How the bytes of a text file are text: its encoding and its line ends, as its own first bytes tell."""

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

_IBM = ("037", 273, 424, 437, 500, 775, 850, 852, 855, 857, 860, 861, 862, 863, 864, 865, 866, 869, 1026)
_OTHERS = {
    **{"ascii": "US-ASCII", "utf-8": "UTF-8", "utf-8-sig": "UTF-8", "koi8-r": "KOI8-R", "koi8-u": "KOI8-U", "tis-620": "TIS-620"},
    **{"utf-16": "UTF-16", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE"},
    **{"utf-32": "UTF-32", "utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE"},
    # Chinese, Japanese, Korean.
    **{"big5": "Big5", "big5hkscs": "Big5-HKSCS", "cp950": "x-windows-950", "gb2312": "GB2312", "gbk": "GBK", "gb18030": "GB18030"},
    **{"shift_jis": "Shift_JIS", "cp932": "windows-31j", "euc_jp": "EUC-JP", "iso2022_jp": "ISO-2022-JP"},
    **{"iso2022_jp_2": "ISO-2022-JP-2", "euc_kr": "EUC-KR", "cp949": "x-windows-949", "johab": "x-Johab", "iso2022_kr": "ISO-2022-KR"},
    # DOS, OS/2, mainframes.
    **{
        f"cp{page}": f"IBM{page}"
        for page in (
            "037",
            *[
                "273",
                "424",
                "437",
                "500",
                "775",
                "850",
                "852",
                "855",
                "857",
                "860",
                "861",
                "862",
                "863",
                "864",
                "865",
                "866",
                "869",
                "1026",
            ],
        )
    },
    **{f"cp{page}": f"x-IBM{page}" for page in (737, 856, 875, 1006)},
    **{"cp858": "IBM00858", "cp1140": "IBM01140", "cp874": "x-windows-874"},
    **{f"mac-{name.lower()}": f"x-Mac{name}" for name in ["Roman", "Croatian", "Cyrillic", "Greek", "Iceland", "Turkish", "Arabic"]},
    "mac-latin2": "x-MacCentralEurope",
    "iso8859-11": "x-iso-8859-11",
}
_JAVA = {
    **{f"cp{page}": f"windows-{page}" for page in range(1250, 1259)},
    **{f"iso8859-{part}": f"ISO-8859-{part}" for part in (*range(1, 10), 13, 15, 16)},
    **_OTHERS,
}
"""The name that Java gives to a codec of Python's, for those that both have."""

_SPELLED_BY_JAVA = {java.lower(): codec for codec, java in _JAVA.items() if codec != "utf-8-sig"} | {"ms932": "cp932", "ms949": "cp949"}


class Charset(NamedTuple):
    """An encoding: the name of Python's codec, and Java's name, in which the two may differ in single characters."""

    codec: str
    java: str


@cache
def charset(name: str) -> Charset:
    """Return the encoding of this name, spelled as Python or Java may spell it.

    Raises:
        UsageError: none of the two knows it, or only one does.
    """
    try:
        codec = codecs.lookup(name).name
    except LookupError:
        codec = _SPELLED_BY_JAVA.get(name.lower(), "")
        if not codec:
            raise UsageError(
                f"options.encoding: {name} is not known; write one such as UTF-8, UTF-16LE, ISO-8859-1, windows-1252, Shift_JIS, GB18030"
            ) from None
    if codec not in _JAVA:
        raise UsageError(f"options.encoding: Spark's Java has no {name}; recode the files, such as by `iconv -f {name} -t UTF-8`")
    return Charset("utf-8" if codec == "utf-8-sig" else codec, _JAVA[codec])


_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
_OTHER_CODECS = (".zst", ".lz4", ".snappy", ".deflate", ".xz")
_BLOCK, _LONGEST = 1 << 16, 1 << 24
_FIRST_LINES = 64
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip archive"}
# UTF-32's mark begins with UTF-16's, so it comes first.
_MARKS = {b"\xff\xfe\0\0": "UTF-32LE", b"\0\0\xfe\xff": "UTF-32BE", b"\xff\xfe": "UTF-16LE", b"\xfe\xff": "UTF-16BE"}
_WITHOUT_ORDER = ("UTF-16", "UTF-32")
_SEPARATOR_LINE = 64
_SEPARATOR = re.compile(r'(?P<line>"?sep=(?P<sep>\\t|[^\r\n\x85])"?)(?=[\r\n\x85]|$)', re.IGNORECASE)


@dataclass(frozen=True)
class TextForm:
    r"""The encoding of a file, and what ends its lines: ``\n`` (a ``\r`` before it does not count), ``\r``, or ``lineSep``.

    ``encoding`` is Java's name, ``codec`` Python's.
    """

    encoding: str = "UTF-8"
    line_end: str = "\n"
    codec: str = "utf-8"

    @property
    def is_wide(self) -> bool:
        """True where a character takes two bytes or more, the line end too."""
        return self.encoding.startswith(_WITHOUT_ORDER)

    @property
    def end_bytes(self) -> bytes:
        """What ends a line, in the file."""
        return self.line_end.encode(self.codec)


def text_form(start: bytes, options: Mapping[str, str]) -> TextForm:
    """Return the form of a file that starts with these bytes.

    A byte order mark of UTF-16 or UTF-32 wins over any encoding of Unicode that is declared. Line ends that are ``CR`` alone are
    found where there is no other in the first bytes.

    Raises:
        SourceError: the byte order is not told, or the bytes are UTF-16 and nothing says so.
    """
    declared = charset(options.get("encoding", "UTF-8"))
    marked = marked_encoding(start)
    codec, encoding = charset(marked) if marked and declared.java.startswith("UTF") else declared
    if encoding in _WITHOUT_ORDER:
        raise SourceError(
            f"it has no byte order mark and `encoding: {encoding}` does not say the order; "
            f"set `options.encoding` to {encoding}LE (as Windows writes) or {encoding}BE"
        )
    unmarked = _unmarked_utf_16(start) if encoding == "UTF-8" else None
    if unmarked:
        raise SourceError(f"every other byte is NUL, as in {unmarked} without a byte order mark; set `options.encoding: {unmarked}`")
    given = options.get("lineSep")
    if given:
        return TextForm(encoding, given, codec)
    text = start.decode("latin-1" if "\r\n".encode(codec) == b"\r\n" else codec, errors="replace")
    # Mainframes end lines with "next line", which Python and Java take for another character each.
    ends = ("\n", "\x85", "\r") if "\n".encode(codec) == b"\x25" else ("\n", "\r")
    return TextForm(encoding, next((end for end in ends if end in text), "\n"), codec)


def marked_encoding(start: bytes) -> str | None:
    """Return the encoding that a byte order mark of UTF-16 or UTF-32 tells, None where there is none."""
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)


def files_by_form(
    spark: SparkSession,
    files: Sequence[SourceFile],
    options: Mapping[str, str],
    look: Callable[[SourceFile, TextForm], None] = lambda file, form: None,
) -> tuple[dict[TextForm, list[SourceFile]], dict[str, str]]:
    """Return the files grouped by their form, and the reason for each file that cannot be read.

    ``look`` raises SourceError for a file that cannot be read for another reason. Files on another file system are taken as declared:
    looking at each would cost a Spark job.
    """
    groups: dict[TextForm, list[SourceFile]] = {}
    bad = {}
    for file in files:
        try:
            with opened(spark, file) if file.is_local else io.BytesIO() as stream:
                form = text_form(first_bytes(stream), options)
            look(file, form)
        except SourceError as error:
            bad[file.path] = str(error)
            continue
        groups.setdefault(form, []).append(file)
    return groups, bad


@contextmanager
def opened(spark: SparkSession, file: SourceFile) -> Iterator[IO[bytes]]:
    """Open a file for its first lines, unpacked; of one that Python cannot open, Spark fetches them.

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
    """Open a local file for reading, unpacked as its name says."""
    stream: IO[bytes] = _OPENERS.get(Path(path).suffix, open)(path, "rb")
    return stream


def can_open(file: SourceFile) -> bool:
    """Return True for a file that Python can open and unpack itself."""
    return file.is_local and not file.path.endswith(_OTHER_CODECS)


def first_bytes(stream: IO[bytes]) -> bytes:
    """Return the bytes of the file's start: enough to hold a line feed, unless the first line is very long.

    Raises:
        SourceError: they are those of a packed file.
    """
    start = stream.read(_BLOCK)
    refuse_packed(start)
    blocks = [start]
    while b"\n" not in blocks[-1] and blocks[-1] and sum(map(len, blocks)) < _LONGEST:
        blocks.append(stream.read(_BLOCK))
    return b"".join(blocks)


def refuse_packed(start: bytes) -> None:
    """Take the first bytes of a file that should be text.

    Raises:
        SourceError: they are those of a packed file.
    """
    packed = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if packed:
        raise SourceError(f"its bytes are {packed}, which its name does not say; unpack it, or end its name in .gz where that is so")


def physical_lines(stream: IO[bytes], start: bytes, form: TextForm) -> Iterator[str]:
    """Return the decoded lines of a file of which ``start`` has been read already, each with its ``CR`` but not its line end.

    Raises:
        SourceError: a line is not valid in the encoding, or has no end.
    """
    end = form.end_bytes
    buffer, block = b"", start
    while block:
        *lines, buffer = (buffer + block).split(end)
        for line in lines:
            yield _decoded(line, form)
        if len(buffer) > _LONGEST:
            raise SourceError(f"its first line has no end within {_LONGEST} bytes; is it text?")
        block = stream.read(_BLOCK)
    if buffer:
        yield _decoded(buffer, form)


def _decoded(line: bytes, form: TextForm) -> str:
    try:
        return line.decode(form.codec)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"its header is not valid {form.encoding}: {error.reason} at byte {error.start}; set `options.encoding`"
        ) from error


def separator_line(start: bytes, form: TextForm) -> tuple[str, str] | None:
    """Return the line ``sep=;`` that Excel puts before a header, as it is written, and the separator it names; None where there is none."""
    text = start[:_SEPARATOR_LINE].decode(form.codec, errors="replace").lstrip("\ufeff").lstrip("\r\n")
    found = _SEPARATOR.match(text)
    return (found.group("line"), found.group("sep").replace("\\t", "\t")) if found else None


def _unmarked_utf_16(start: bytes) -> str | None:
    """Return the encoding that zero bytes at every other place speak for; scattered ones are damage of single lines."""
    sample = start[: 1 << 12]
    high, low = sample[0::2].count(0), sample[1::2].count(0)
    if not sample or max(high, low) * 8 < len(sample) or min(high, low) * 8 > max(high, low):
        return None
    return "UTF-16LE" if low > high else "UTF-16BE"
