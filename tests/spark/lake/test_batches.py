"""What a query gives, as Arrow batches: exact, in order, with unique names, whatever the zone of the machine."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from pyarrow import parquet
from pyspark.errors import PySparkException

from tidemill.cli.printing import write_frame
from tidemill.lake.catalog import read_batches

ODD = """
SELECT timestamp'2024-07-01T12:00:00.000001Z' AS at, timestamp_ntz'2024-07-01 02:30:00' AS at, 12345678901234567.89BD AS exact,
    double('NaN') AS nan, float(0.1) AS single, named_struct('x', 1, 'x', interval '1 02:03:04' day to second) AS pair,
    map('k', array(1.50BD, null)) AS m, parse_json('{"a": [1]}') AS v, interval '1-2' year to month AS months, X'00ff' AS b,
    timestamp_micros(253402300800000000) AS far, CAST(null AS DOUBLE) AS none
"""
SHOWN = {
    "at": "2024-07-01T12:00:00.000001Z", "at_2": "2024-07-01T02:30:00", "exact": Decimal("12345678901234567.89"), "nan": "NaN",
    "single": Decimal("0.1"), "pair": {"x": 1, "x_2": "INTERVAL '1 02:03:04' DAY TO SECOND"}, "m": {"k": [Decimal("1.50"), None]},
    "v": '{"a":[1]}', "months": "INTERVAL '1-2' YEAR TO MONTH", "b": "00ff", "far": "+10000-01-01T00:00:00Z", "none": None,
}  # fmt: skip


def test_results_are_streamed_whole_and_exact(spark, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    odd = spark.sql(ODD)
    write_frame(odd, "json", None, limit=1)
    assert json.loads(capsys.readouterr().out, parse_float=Decimal) == [SHOWN]
    write_frame(odd, "parquet", tmp_path / "odd.parquet", limit=1)
    read = spark.read.parquet(str(tmp_path / "odd.parquet"))
    whole = ["at", "at_2", "exact", "single", "b"]
    assert read.select(*whole).exceptAll(odd.toDF(*SHOWN).select(*whole)).count() == 0
    assert read.select("m").head()["m"] == {"k": [Decimal("1.50"), None]}
    assert parquet.read_schema(tmp_path / "odd.parquet").names == list(SHOWN)

    many = spark.sql("SELECT id FROM range(0, 25000, 1, 3) ORDER BY id DESC")
    reader = read_batches(many)
    assert [value for batch in reader for value in batch.column(0).to_pylist()] == list(range(24999, -1, -1))
    write_frame(many, "csv", tmp_path / "many.csv", limit=1)
    assert (tmp_path / "many.csv").read_text().splitlines() == ["id", *map(str, range(24999, -1, -1))]
    write_frame(many, "table", None, limit=2)
    told = capsys.readouterr()
    assert [line.strip() for line in told.out.splitlines()] == ["id", "24999", "24998"] and "first 2 rows" in told.err

    with pytest.raises(PySparkException):
        write_frame(spark.sql("SELECT raise_error('x') FROM range(3)"), "json", tmp_path / "bad.json", limit=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.csv", "odd.parquet"]
