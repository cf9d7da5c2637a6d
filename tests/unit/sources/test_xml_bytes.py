"""A file's bytes come unpacked and as UTF-8, or the file is refused for what is wrong with it."""

from __future__ import annotations

import bz2
import gzip
import shutil
import subprocess
import zlib
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from tidemill.errors import SourceError
from tidemill.sources.files.xml.bytes import INVALID, read_blocks, recode_to_utf_8

# Incompressible enough that damage in the middle is damage of data.
TEXT = b"<rows>" + b"".join(b"<row>%s</row>" % Random(number).randbytes(9).hex().encode() for number in range(20_000)) + b"</rows>"


def zst(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


PACKERS = {"x.gz": gzip.compress, "x.bz2": bz2.compress, "x.zst": zst, "x.deflate": zlib.compress}


def whole(path: Path, data: bytes) -> bytes:
    path.write_bytes(data)
    return b"".join(read_blocks(str(path)))


@pytest.mark.parametrize("name", PACKERS)
def test_packed_files_are_whole_or_refused(tmp_path: Path, name: str) -> None:
    pack, path = PACKERS[name], tmp_path / name
    packed = pack(TEXT)
    assert whole(path, packed) == TEXT
    assert whole(path, pack(TEXT[:1000]) + pack(b"") + pack(TEXT[1000:])) == TEXT
    damaged = {
        "cut": packed[: len(packed) // 2],
        "cut at the end": packed[:-1],
        "cut in the second": packed + packed[:20],
        "more behind": packed + b"rubbish",
        "not packed": TEXT,
    }
    if name != "x.zst":  # pyarrow writes no checksum there
        middle = len(packed) // 2
        damaged["flipped"] = packed[:middle] + bytes([packed[middle] ^ 0x10]) + packed[middle + 1 :]
    for what, data in damaged.items():
        with pytest.raises(SourceError, match=r"its packed data \(.*\) is (damaged|cut off)"):
            whole(path, data)
            pytest.fail(what)


def test_checksums_are_checked(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT)
    flipped = packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]
    with pytest.raises(SourceError, match="incorrect data check"):
        whole(tmp_path / "x.gz", flipped)
    assert whole(tmp_path / "padded.gz", packed + b"\0" * 40_000) == TEXT
    if shutil.which("zstd"):
        packed = subprocess.run(["zstd", "-c"], input=TEXT, stdout=subprocess.PIPE, check=True).stdout
        assert whole(tmp_path / "x.zst", packed) == TEXT
        with pytest.raises(SourceError, match="checksum"):
            whole(tmp_path / "x.zst", packed[:-1] + bytes([packed[-1] ^ 1]))


ENCODED = {
    "plain": ("<r>\u017e</r>".encode(), None, "UTF-8", "<r>\u017e</r>"),
    "a mark": (b"\xef\xbb\xbf<r>\xc5\xbe</r>", None, "UTF-8", "<r>\u017e</r>"),
    "UTF-16 with a mark": ("<r>\u017e\U0001f986</r>".encode("utf-16"), None, "UTF-16LE", "<r>\u017e\U0001f986</r>"),
    "the mark wins": ("<r>\u017e</r>".encode("utf-16"), "UTF-8", "UTF-16LE", "<r>\u017e</r>"),
    "UTF-16 without a mark": ("<r>\u017e</r>".encode("utf-16-be"), None, "UTF-16BE", "<r>\u017e</r>"),
    "the first line": (b'<?xml version="1.0" encoding="windows-1252"?><r>\x80</r>', None, "WINDOWS-1252", "<r>\u20ac</r>"),
    "the option wins": (b"<?xml version='1.0' encoding='UTF-8'?><r>\xbe</r>", "ISO-8859-2", "ISO-8859-2", "<r>\u017e</r>"),
    "cannot be": (b'<?xml version="1.0" encoding="utf-16"?><r>\xc5\xbe</r>', None, "UTF-8", "<r>\u017e</r>"),
    "invalid": (b"<r>\xff\xc5</r>", None, "UTF-8", "<r>\udcff\udcc5</r>"),
}


@pytest.mark.parametrize("case", ENCODED)
def test_encodings(case: str) -> None:
    data, declared, expected, text = ENCODED[case]
    for size in (1, 3, 1 << 16):
        encoding, blocks = recode_to_utf_8((data[start : start + size] for start in range(0, len(data), size)), declared)
        found = b"".join(blocks).decode("utf-8", "surrogateescape")
        assert (encoding, found[found.index("<r>") :]) == (expected, text)
        assert not found.startswith("\ufeff")


def test_what_is_not_valid_stays_so() -> None:
    lone = "<r>".encode("utf-16-le") + b"\x00\xd8" + "</r>".encode("utf-16-le")
    assert b"".join(recode_to_utf_8([lone], None)[1]) == b"<r>" + INVALID + b"</r>"
    assert b"".join(recode_to_utf_8([b"<r>\x81</r>"], "CP1252")[1]) == b"<r>" + INVALID + b"</r>"
    with pytest.raises(UnicodeDecodeError):
        INVALID.decode()


def test_files_whose_text_cannot_be_told() -> None:
    for data, declared, message in (
        (gzip.compress(b"<r/>"), None, "its bytes are gzip, which its name does not say"),
        (b'<?xml version="1.0" encoding="klingon"?><r/>', None, "its first line says encoding 'KLINGON', which is not known"),
        (b"<r/>", "UTF-16", "it has no byte order mark and `encoding: UTF-16` does not say the order; set UTF-16LE or UTF-16BE"),
    ):
        with pytest.raises(SourceError) as caught:
            recode_to_utf_8([data], declared)
        assert message in str(caught.value)
