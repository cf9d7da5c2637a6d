"""A Delta table is read at a version, or by its changes, each once."""

import shutil

import pytest

from tidemill.errors import SourceError, UsageError


def history_time(spark, path: str, version: int) -> str:
    """Return when a version was committed, as Delta's history tells it, to the millisecond."""
    history = spark.sql(f"DESCRIBE HISTORY delta.`{path}`").where(f"version = {version}")
    return history.selectExpr("date_format(timestamp, 'yyyy-MM-dd HH:mm:ss.SSS')").first()[0]


@pytest.mark.long("several versions of a table and their change feeds")
def test_a_version_or_the_changes_behind_one(spark, tmp_path, extract) -> None:
    path = str(tmp_path / "other")
    spark.range(3).coalesce(1).write.format("delta").save(path)
    whole, changes = {"format": "delta", "path": path}, {"format": "delta", "path": path, "load": "incremental"}
    with pytest.raises(UsageError, match="no change feed; ALTER TABLE"):
        extract(**changes)
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    first = extract(**changes)
    assert [(row["id"], row["_change_type"], row["_commit_version"]) for row in first.good] == [(n, "insert", 1) for n in range(3)]
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id = 1")
    second = extract(first.extract.position, **changes)
    assert [(row["id"], row["_change_type"], row["_commit_version"]) for row in second.good] == [(1, "delete", 2)]
    assert extract(second.extract.position, **changes).good == []
    assert extract(**whole).ids == [0, 2]
    assert extract(**whole, options={"versionAsOf": 0}).ids == [0, 1, 2]
    before, after = (history_time(spark, path, version) for version in (1, 2))
    assert extract(**whole, options={"timestampAsOf": before}).ids == [0, 1, 2]
    assert extract(**whole, options={"timestampAsOf": after}).ids == [0, 2]
    for wrong in ("2001-01-01", "2999-01-01", "yesterday"):
        with pytest.raises(SourceError, match=f"{path}: .*; give the folder of a Delta table, and a version that it still has"):
            extract(**whole, options={"timestampAsOf": wrong})
    with pytest.raises(SourceError, match="version 77"):
        extract(**whole, options={"versionAsOf": 77})
    with pytest.raises(UsageError, match="another table"):
        extract('{"table": "x", "version": 1}', **changes)
    shutil.rmtree(f"{path}/_change_data")
    with pytest.raises(SourceError, match="not all there any more"):
        extract(first.extract.position, **changes)
