"""Single bits that flipped in a packed file: it is bad, with a reason, or all of its records are what they were."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random

import pytest
from tests.tiers import parametrize_first

from tidemill.errors import SourceError
from tidemill.steps.ingest.step import ingest

ROWS = 3000


def packed(kind: str) -> bytes:
    """Return 3,000 records that hardly pack, so that damage lies in the midst of them."""
    random = Random(5)
    names = [random.randbytes(20).hex() for _ in range(ROWS)]
    if kind == "json":
        lines = [json.dumps({"id": number, "name": name}) for number, name in enumerate(names)]
    else:
        lines = ["id,name", *(f"{number},{name}" for number, name in enumerate(names))]
    return gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


@pytest.fixture
def load(make_context, tmp_path: Path):
    """Ingest the folder ``raw`` as source ``x`` in a run of its own."""
    (tmp_path / "raw").mkdir()

    def _load(kind: str, run_id: str = "r1", **source: object):
        declared = {"path": str(tmp_path / "raw"), "load": "incremental", "options": {"header": True} if kind == "csv" else {}}
        declared |= {"schema": "id INT, name STRING"} if kind != "text" else {}
        spec = {
            "pipeline": "p",
            "sources": {"x": {"format": kind, **declared, **source}},
            "dataset": {"from": "bronze.x", "key": ["id"], "label": "name"},
            "training": {"task": "binary"},
        }
        return ingest(make_context(spec, "ingest.x", run_id=run_id))

    return _load


@parametrize_first("kind", ["csv", "json", "text"], 1)
@pytest.mark.long("ingests files with a flipped bit at many places")
def test_a_flipped_bit_is_noticed(kind: str, load, lake, spark, tmp_path: Path) -> None:
    whole = packed(kind)
    # Behind the 10 bytes of the header lies the deflate stream, and in the last 8 the sum (CRC 32) and the length of what was packed.
    deflate = [(place, Random(place).randrange(8)) for place in range(200, len(whole) - 8, len(whole) // 3)]
    damage = {"flag": (3, 2), "crc": (len(whole) - 8, 3), "length": (len(whole) - 2, 0), "time": (5, 0)}
    damage |= {f"deflate{number}": place for number, place in enumerate(deflate)}
    raw = tmp_path / "raw"
    (raw / "whole.gz").write_bytes(whole)
    for name, (place, bit) in damage.items():
        (raw / f"{name}.gz").write_bytes(flipped(whole, place, bit))
    expected = ROWS + (1 if kind == "text" else 0)
    if kind == "csv":
        with pytest.raises(SourceError, match=r"`on_bad_file: fail` is set; .*\.gz: "):
            load(kind, "r0", on_bad_file="fail")
        assert not lake.exists("bronze.x")

    result = load(kind)
    files = {Path(row["path"]).name.removesuffix(".gz"): row for row in lake.ledger.rows("ops.files", source="x", run_id="r1")}
    bad = {name: row["error"] for name, row in files.items() if row["state"] == "bad"}
    # The time in the header is no part of the records, and nothing guards it.
    assert set(files) - set(bad) == {"whole", "time"}
    assert all(reason and "\n" not in reason for reason in bad.values())
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (2 * expected, 2 * expected, 0)
    rows = [tuple(row) for row in lake.read(spark, "bronze.x").select(*(["value"] if kind == "text" else ["id", "name"])).collect()]
    lines = gzip.decompress(whole).decode().splitlines()
    if kind == "text":
        assert sorted(rows) == sorted(2 * [(line,) for line in lines])
    else:
        given = [json.loads(line).values() for line in lines] if kind == "json" else [line.split(",") for line in lines[1:]]
        assert sorted(rows) == sorted(2 * [(int(number), name) for number, name in given])
