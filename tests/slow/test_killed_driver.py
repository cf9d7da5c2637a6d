"""A driver killed with SIGKILL at a phase of a commit, in a process of its own, and run again: as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.place import ROOT
from tests.slow.killed_driver import NODE

from tidemill.lake import Lake
from tidemill.spec import load_spec
from tidemill.steps.ingest.step import ingest
from tidemill.steps.result import StepContext

pytestmark = [pytest.mark.e2e, pytest.mark.one_of("kill")]

PHASES = (
    "before the quarantine's files",
    "between two tables",
    "after data files, before their commit",
    "after the commit, before the ledger",
)


def lines(number: int) -> list[str]:
    """Return file ``number``: 500 good records and one that is none."""
    return ["id,name", *(f"{number * 1000 + row},a" for row in range(500)), f"x{number},y"]


@pytest.mark.parametrize("phase", PHASES)
def test_killed_at(spark, tmp_path: Path, phase: str) -> None:
    raw, lake = tmp_path / "raw", Lake(str(tmp_path / "lake"))
    raw.mkdir()
    spec_file = tmp_path / "pipeline.yml"
    source = {
        "format": "csv",
        "path": str(raw),
        "schema": "id INT, name STRING",
        "options": {"header": True},
        "load": "incremental",
    }
    spec_file.write_text(
        json.dumps(
            {
                "pipeline": "p",
                "lake": lake.root,
                "sources": {"x": source},
                "dataset": {"from": "bronze.x", "key": ["id"], "label": "name"},
                "training": {"task": "binary"},
            }
        )
    )
    (raw / "0.csv").write_text("\n".join(lines(0)) + "\n")
    ingest(StepContext(spark, load_spec(spec_file), lake, {}, "whole", NODE))
    before = lake.version("bronze.x")

    (raw / "1.csv").write_text("\n".join(lines(1)) + "\n")
    command = [sys.executable, "-m", "tests.slow.killed_driver", str(spec_file), phase]
    killed = subprocess.run(command, cwd=ROOT, start_new_session=True, capture_output=True, text=True, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    # What was killed is visible only where its commit exists.
    is_committed = phase == PHASES[-1]
    assert lake.version("bronze.x") == before + is_committed

    result = ingest(StepContext(spark, load_spec(spec_file), lake, {}, "again", NODE))
    assert result.rows_in == (0 if is_committed else 501)
    rows = lake.read(spark, "bronze.x").select("id", "_source_file", "_batch_id").collect()
    assert sorted((row["id"], row["_source_file"], row["_batch_id"]) for row in rows) == [
        (number * 1000 + row, str(raw / f"{number}.csv"), number + 1) for number in (0, 1) for row in range(500)
    ]
    refused = lake.read(spark, "bronze.x_quarantine").select("raw", "_batch_id").collect()
    assert sorted((row["raw"], row["_batch_id"]) for row in refused) == [("x0,y", 1), ("x1,y", 2)]
    files = lake.ledger.rows("ops.files", source="x", state="loaded")
    assert sorted((Path(row["path"]).name, row["rows"], row["quarantined"]) for row in files) == [("0.csv", 500, 1), ("1.csv", 500, 1)]
