"""A pipeline over a database, run again when rows have changed, have come, or have come late."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tidemill.lake import Lake
from tidemill.spec import load_spec
from tidemill.workflow import LazySpark, Runner

SPEC = """\
pipeline: p
lake: {folder}/lake
sources:
  orders:
    format: jdbc
    url: jdbc:sqlite:{folder}/shop.db
    table: orders
    load: incremental
    watermark: at
    overlap: 10m
    key: [id]
tables:
  orders: {{sql: "SELECT id, name FROM bronze.orders", key: [id]}}
dataset: {{from: silver.orders, key: [id], label: name}}
training: {{task: multiclass}}
"""


@pytest.fixture
def run(spark, tmp_path: Path):
    """Run ingest and prepare, and return each node's state and number of records."""
    file = tmp_path / "pipeline.yml"
    file.write_text(SPEC.format(folder=tmp_path))

    def _run() -> dict[str, tuple]:
        runner = Runner(load_spec(file), LazySpark(lambda: spark))
        outcome = runner.run(runner.graph.select(end="prepare"))
        assert outcome.exit_code == 0, outcome
        return {step.node: (step.state, step.rows_in, step.rows_out, step.rows_quarantined) for step in outcome.steps}

    return _run


@pytest.mark.long("three runs against a PostgreSQL of its own")
def test_changed_and_late_rows_are_merged_by_key(run, spark, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))

    def change(*statements: str) -> None:
        with sqlite3.connect(tmp_path / "shop.db") as base:
            for statement in statements:
                base.execute(statement)

    def rows() -> list[tuple]:
        found = lake.read(spark, "bronze.orders").selectExpr("id", "name", "date_format(at, 'HH:mm')", "_batch_id").collect()
        return sorted(tuple(row) for row in found)

    change(
        "CREATE TABLE orders (id integer, name text, at timestamp)",
        "INSERT INTO orders VALUES (1, 'a', '2026-01-01 09:00:00'), (2, 'b', '2026-01-01 10:00:00'), (3, 'c', '2026-01-01 10:30:00')",
        "INSERT INTO orders VALUES (null, 'without a key', '2026-01-01 10:00:00')",
    )
    assert run() == {"ingest.orders": ("SUCCEEDED", 4, 3, 1), "prepare.orders": ("SUCCEEDED", 3, 3, 0)}
    assert rows() == [(1, "a", "09:00", 1), (2, "b", "10:00", 1), (3, "c", "10:30", 1)]

    # What is late by less than the overlap is seen; 6 is later than that. Row 3 is looked at again and has not changed.
    change(
        "UPDATE orders SET name = 'changed', at = '2026-01-01 11:00:00' WHERE id = 2",
        "INSERT INTO orders VALUES (4, 'late', '2026-01-01 10:25:00'), (5, 'new', '2026-01-01 10:45:00'), (6, 'x', '2026-01-01 10:00:00')",
    )
    assert run() == {"ingest.orders": ("SUCCEEDED", 4, 4, 0), "prepare.orders": ("SUCCEEDED", 5, 5, 0)}
    assert rows() == [
        (1, "a", "09:00", 1), (2, "changed", "11:00", 2), (3, "c", "10:30", 1), (4, "late", "10:25", 2), (5, "new", "10:45", 2),
    ]  # fmt: skip
    silver = lake.read(spark, "silver.orders").collect()
    assert sorted((row["id"], row["name"]) for row in silver) == [(row[0], row[1]) for row in rows()]

    version = lake.version("bronze.orders")
    assert run() == {"ingest.orders": ("SUCCEEDED", 1, 1, 0), "prepare.orders": ("SKIPPED", None, None, 0)}
    assert lake.version("bronze.orders") == version
    [refused] = lake.read(spark, "bronze.orders_quarantine").collect()
    assert (refused["rules"], refused["_batch_id"]) == (["key"], 1)
