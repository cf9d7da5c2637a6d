"""The statistics of a file, against those that Delta computes from the rows."""

from __future__ import annotations

import json

from tidemill.lake.staging import file_statistics


def test_they_are_those_that_delta_computes(spark, tmp_path) -> None:
    sql = """
        SELECT CAST(id - 3 AS INT) AS small, id * 10000000000 AS big, IF(id = 2, NULL, id / 4D) AS ratio, concat('é', id) AS name,
               date_add(DATE'1969-12-30', CAST(id AS INT)) AS day, TIMESTAMP'2013-01-01 00:00:00' + make_interval(0, 0, 0, 0, id) AS at,
               TIMESTAMP_NTZ'2013-01-01 00:00:00' + make_interval(0, 0, 0, 0, id) AS local, CAST(id / 2 AS DECIMAL(9,2)) AS price,
               CAST(NULL AS STRING) AS nothing
        FROM range(7)"""
    spark.sql(sql).coalesce(1).write.format("delta").save(str(tmp_path / "t"))
    log = (tmp_path / "t" / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    [added] = [entry["add"] for entry in map(json.loads, log) if "add" in entry]
    told = json.loads(added["stats"])
    found = json.loads(json.dumps(file_statistics(str(tmp_path / "t" / added["path"]), list(told["nullCount"]))))
    assert (found["numRecords"], found["nullCount"]) == (7, told["nullCount"])
    for bounds in ("minValues", "maxValues"):
        assert {name: str(value).replace(".000", "") for name, value in found[bounds].items()} == {
            name: str(value).replace(".000", "") for name, value in told[bounds].items()
        }


def test_no_bound_is_told_that_could_mislead(spark, tmp_path) -> None:
    sql = """
        SELECT IF(id = 1, double('NaN'), id) AS odd, IF(id = 1, double('Infinity'), id) AS endless,
               repeat('x', 100) AS long, id % 2 = 0 AS yes,
               TIMESTAMP'1969-12-31 23:59:59.999001' AS at, array(id) AS many, named_struct('a', id) AS nested FROM range(3)"""
    spark.sql(sql).coalesce(1).write.parquet(str(tmp_path / "t"))
    [path] = (tmp_path / "t").glob("*.parquet")
    found = file_statistics(str(path), ["odd", "endless", "long", "yes", "at", "many", "nested", "not there"])
    assert found["numRecords"] == 3
    # An instant between two milliseconds lies between its bounds.
    assert (found["minValues"], found["maxValues"]) == ({"at": "1969-12-31T23:59:59.999Z"}, {"at": "1970-01-01T00:00:00.000Z"})
