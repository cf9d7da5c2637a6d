import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidemill.errors import SourceError, UsageError
from tidemill.sources.files.encodings import TextForm
from tidemill.sources.files.lines import max_record_bytes, reject_long_records
from tidemill.sources.files.listing import SourceFile

LIMIT = {"maxRecordBytes": "3000000"}


def file_of(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    return SourceFile(str(path), path.stat().st_size, datetime.now(UTC))


@pytest.mark.parametrize(
    ("lines", "long"),
    [
        ([3_000_000], None),
        ([3_000_001], 1),
        ([1, 2_999_999, 3], None),
        ([1, 5, 3_000_001, 2], 3),
        ([2_999_999] * 4, None),
        ([0, 9_000_000], 2),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_line_that_is_too_long(tmp_path: Path, lines: list[int], long: int | None, end: str, suffix: str) -> None:
    data = b"".join(b"x" * length + end.encode() for length in lines)
    file = file_of(tmp_path / f"a{suffix}", gzip.compress(data, 1) if suffix.endswith("gz") else data)
    if long is None:
        reject_long_records(file, TextForm(line_end=end), LIMIT)
    else:
        with pytest.raises(SourceError, match=rf"line {long} has more than 3000000 bytes, .*`options\.maxRecordBytes`"):
            reject_long_records(file, TextForm(line_end=end), LIMIT)


def test_limits_below_a_block_and_wide_encodings(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.csv", "ab\nabcdef\nab\n".encode("utf-16-le"))
    with pytest.raises(SourceError, match="line 2 has more than 10 bytes"):
        reject_long_records(file, TextForm("UTF-16LE", "\n", "utf-16-le"), {"maxRecordBytes": "10"})


def test_documents_and_damaged_files(tmp_path: Path) -> None:
    packed = gzip.compress(b"[1,\n2]\n" * 1_000_000, 1)
    with pytest.raises(SourceError, match="unpacked it has more than 3000000 bytes"):
        reject_long_records(file_of(tmp_path / "a.json.gz", packed), TextForm(), LIMIT, whole=True)
    reject_long_records(file_of(tmp_path / "b.json.gz", packed), TextForm(), LIMIT)
    reject_long_records(file_of(tmp_path / "cut.json.gz", packed[:1000]), TextForm(), LIMIT)


def test_the_option() -> None:
    assert max_record_bytes({}, 5) == 5
    for wrong in ("0", "64MB", "-1"):
        with pytest.raises(UsageError, match=r"options\.maxRecordBytes: expected a number of bytes, such as 5"):
            max_record_bytes({"maxRecordBytes": wrong}, 5)
