"""The ledger, without Spark."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tidemill.lake import Lake


@pytest.fixture
def ledger(tmp_path):
    return Lake(str(tmp_path / "lake")).ledger


def test_rows_come_back_oldest_first_with_their_types(ledger):
    assert ledger.rows("ops.steps") == []
    noon, one = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 13, tzinfo=UTC)
    ledger.append("ops.steps", [{"run_id": "r", "node": "train", "state": "RUNNING", "at": one, "inputs": {"gold.d": 4}}])
    ledger.append("ops.steps", [{"run_id": "r", "node": "dataset", "state": "SUCCEEDED", "at": noon, "rows_in": 7}])
    rows = ledger.rows("ops.steps", run_id="r")
    assert [(row["node"], row["at"], row["rows_in"], row["inputs"]) for row in rows] == [
        ("dataset", noon, 7, None),
        ("train", one, None, {"gold.d": 4}),
    ]
    assert ledger.rows("ops.steps", run_id="other") == []


def test_put_replaces_its_own_rows_only(ledger):
    for run, value in [("r1", 0.1), ("r'2", 0.2), ("r'2", 0.3)]:
        ledger.put("ops.trials", [{"run_id": run, "trial": 0, "fold": 0, "value": value}], where={"run_id": run})
    assert sorted((row["run_id"], row["value"]) for row in ledger.rows("ops.trials")) == [("r'2", 0.3), ("r1", 0.1)]


def test_an_unknown_column_is_refused(ledger):
    with pytest.raises(ValueError, match="no column colour"):
        ledger.append("ops.runs", [{"colour": "red"}])
