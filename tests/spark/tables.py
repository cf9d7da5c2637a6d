"""Tables that a test begins with and those that it looks at, written and read without Spark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deltalake import CommitProperties, write_deltalake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.lake import Lake


def write_table(lake: Lake, frame: DataFrame, table: str, meta: Mapping[str, object] | None = None) -> int:
    """Make ``frame`` the whole of a table, as ``lake.replace`` does, and return the version.

    delta-rs takes a tenth of the CPU seconds of a commit by Spark; use ``lake.replace`` where its commit is what the test is about.
    """
    write_deltalake(
        lake.path(table),
        frame.toArrow(),
        mode="overwrite",
        schema_mode="overwrite",
        commit_properties=CommitProperties(custom_metadata={"userMetadata": json.dumps(meta or {})}),
    )
    version = lake.version(table)
    assert version is not None
    return version


def read_rows(lake: Lake, table: str) -> list[dict[str, Any]]:
    """Return the rows of the latest version of a table, read without Spark, which takes ten times as long."""
    rows: list[dict[str, Any]] = lake.open(table).to_pyarrow_table().to_pylist()
    return rows
