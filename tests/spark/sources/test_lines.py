"""A refused record is found at the line where it begins, however the file is cut, packed or encoded."""

import csv
import gzip
import io
import random
from pathlib import Path

import pytest
from tests.spark.sources.conftest import good_rows, judged

from tidemill.sources.files.listing import list_files
from tidemill.sources.records import count_by_file, select_rejected
from tidemill.sources.schema.types import parse_schema
from tidemill.spec.models import SOURCE_KINDS, Source


@pytest.fixture
def places(spark, tmp_path: Path):
    """Write files, read them, and return (file, line, raw, rules) of the refused records, sorted, the good ones, and the bad files."""

    def _places(kind: str, files: dict[str, bytes], schema: str, **options: object) -> tuple[list, list, dict]:
        folder = tmp_path / "in"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        source, known = Source(format=kind, path=str(folder), options=options), parse_schema(spark, schema)
        records = SOURCE_KINDS.get(kind).read(spark, source, list_files([str(folder)]), known)
        frame = judged(records, known)
        counts = count_by_file(frame)
        repeats = any(count.repeated_headers for count in counts.values())
        refused = records.locate(select_rejected(frame, with_repeated_headers=repeats)).collect()
        assert len(refused) == sum(count.rejected for count in counts.values())
        found = sorted((Path(row["_source_file"]).name, row["_source_line"], row["raw"], tuple(row["rules"])) for row in refused)
        good = sorted((Path(row["_source_file"]).name, *row[: len(known)]) for row in good_rows(frame))
        return found, good, {Path(path).name: why for path, why in records.bad_files.items()}

    return _places


@pytest.mark.long("reads nine layouts of CSV")
def test_lines_are_physical_ones(spark, places) -> None:
    long = b"id\n" + b"".join(b"x\n" if number % 10 == 0 else b"%d\n" % number for number in range(2, 401))
    files = {
        "bom.csv": b"\xef\xbb\xbfid\r\n\r\n# no record\r\nx\r\nid\r\n1\r\nid\r\nx\r\n",
        "long.csv": long,
        "long.csv.gz": gzip.compress(long),
        "mac.csv": b"id\r1\r\rx\r2",
        "utf16.csv": "\ufeffid\r\n1\r\nx\r\n".encode("utf-16-le"),
        "utf16be.csv": "\ufeffid\nx\n".encode("utf-16-be"),
        "unmarked.csv": "id\r\n1\r\nx\r\n".encode("utf-16-le"),
    }
    before = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.maxPartitionBytes", "100")
    try:
        found, good, bad = places("csv", files, "id INT", header=True, comment="#")
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)
    wrong, again = ("x", ("cast:id",)), ("id", ("repeated_header",))
    tens = [(name, line, *wrong) for name in ("long.csv", "long.csv.gz") for line in range(10, 401, 10)]
    assert found == sorted(
        [
            ("bom.csv", 4, *wrong),
            ("bom.csv", 5, *again),
            ("bom.csv", 7, *again),
            ("bom.csv", 8, *wrong),
            *tens,
            ("mac.csv", 4, *wrong),
            ("utf16.csv", 3, *wrong),
            ("utf16be.csv", 2, *wrong),
        ]
    )
    assert [row for row in good if "long" not in row[0]] == [("bom.csv", 1), ("mac.csv", 1), ("mac.csv", 2), ("utf16.csv", 1)]
    assert list(bad) == ["unmarked.csv"]
    assert "UTF-16LE" in bad["unmarked.csv"]


def test_records_over_lines_are_those_of_pythons_reader(places) -> None:
    rng = random.Random(7)
    expected, files, starts = [], {}, {}
    for number in range(40):
        out = io.StringIO()
        for _ in range(25):
            row = ["".join(rng.choices(['"', '""', ",", "\n", "\r", "\r\n", "a", " b"], k=rng.randint(1, 6))).strip() for _ in range(3)]
            row = [field or "-" for field in row]
            if rng.random() < 0.1:
                row.append("long")
                starts.setdefault(f"{number:02}.csv", []).append(out.getvalue().count("\n") + 1)
            # Python's writer leaves a lone CR unquoted, which its reader then takes for the end of a record.
            has_cr = any("\r" in field for field in row)
            quoting = csv.QUOTE_ALL if has_cr or rng.random() < 0.5 else csv.QUOTE_MINIMAL
            csv.writer(out, lineterminator="\n", quoting=quoting).writerow(row)
        files[f"{number:02}.csv"] = out.getvalue().encode()
        read = csv.reader(io.StringIO(out.getvalue(), newline=""))
        expected += [(f"{number:02}.csv", *row) for row in read if len(row) == 3]
    files["open.csv"] = b'a,b,c\nd,e,"f\ng,h,i\nj,k,l\n'
    found, good, _ = places("csv", files, "a STRING, b STRING, c STRING", multiLine=True)
    assert good == sorted([*expected, ("open.csv", "a", "b", "c")])
    assert found[-1] == ("open.csv", 2, 'd,e,"f\ng,h,i\nj,k,l', ("unclosed_quote",))
    assert [row[:2] for row in found[:-1]] == [(name, line) for name, lines in sorted(starts.items()) for line in lines]
    assert {row[3] for row in found[:-1]} == {("field_count",)}


def test_lines_of_json(places) -> None:
    files = {
        "a.json": b'{"id": 1}\n\n[2]\n{"id": 3}\n[2]\n',
        "mac.json": b'{"id": 4}\r{"id"\r',
        "cut.json.gz": gzip.compress(b"{}" * 999)[:15],
    }
    found, good, bad = places("json", files, "id INT")
    assert [row[:3] for row in found] == [("a.json", 3, "[2]"), ("a.json", 5, "[2]"), ("mac.json", 2, '{"id"')]
    assert good == [("a.json", 1), ("a.json", 3), ("mac.json", 4)]
    assert list(bad) == ["cut.json.gz"]
