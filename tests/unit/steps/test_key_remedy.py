"""What to do about a repeated key: what is in the spec, and nothing that is not there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tidemill.spec import load_spec
from tidemill.steps.result import suggest_key_remedy

SPEC = """\
pipeline: tiny
lake: ./lake
sources:
  planes: {format: csv, path: planes.csv}
tables:
  keyed: {sql: SELECT * FROM bronze.planes, key: [tail]}
  keyless: {sql: SELECT * FROM bronze.planes}
dataset: {from: silver.keyless, key: [tail], label: late}
training: {task: binary}
"""
LATEST = "which keeps the latest row of each key"
ADD = "add a column to `dataset.key`"


@pytest.mark.parametrize(
    ("from_", "sql", "remedy"),
    [
        ("silver.keyless", None, f"give `tables.keyless.key: [tail]` and `latest_by: <column>`, {LATEST}, or {ADD}"),
        ("bronze.planes", None,
         f"read bronze.planes through a table of `tables:` with `key` and `latest_by: <column>`, {LATEST}, or {ADD}"),
        ("silver.keyed", None, ADD),
        (None, "SELECT * FROM silver.keyed WHERE late -- JOIN", ADD),
        (None, "SELECT * FROM silver.keyed JOIN silver.keyless USING (tail)",
         "look for a join that multiplies rows, or give `tables.keyless.key: [tail]` and `latest_by: <column>`, "
         f"{LATEST}, or {ADD}"),
        (None, "SELECT explode(xs) AS x, tail FROM silver.keyed", f"look for a join that multiplies rows, or {ADD}"),
    ],
)  # fmt: skip
def test_only_what_is_there_is_proposed(tmp_path, from_, sql, remedy):
    file = tmp_path / "pipeline.yml"
    file.write_text(SPEC)
    assert suggest_key_remedy(SimpleNamespace(spec=load_spec(file)), from_, sql) == remedy
