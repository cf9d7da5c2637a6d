"""A driver killed with SIGKILL at each phase of a commit, in a process of its own, and run again: as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.killed_driver import NODE
from tests.e2e.place import ROOT

from tidemill.lake import Lake
from tidemill.spec import load_spec
from tidemill.steps.ingest import ingest
from tidemill.steps.result import StepContext

pytestmark = pytest.mark.e2e

PHASES = (
    "before the quarantine's files",
    "between two tables",
    "after data files, before their commit",
    "after the commit, before the ledger",
)


def test_killed_at_each_phase(spark, tmp_path: Path) -> None:
    raw, lake = tmp_path / "raw", Lake(str(tmp_path / "lake"))
    raw.mkdir()
    spec_file = tmp_path / "pipeline.yml"
    spec_file.write_text(
        json.dumps(
            {
                "pipeline": "p",
                "lake": lake.root,
                "sources": {
                    "x": {
                        "format": "csv",
                        "path": str(raw),
                        "schema": "id INT, name STRING",
                        "options": {"header": True},
                        "load": "incremental",
                    }
                },
                "dataset": {"from": "bronze.x", "key": ["id"], "label": "name"},
                "training": {"task": "binary"},
            }
        )
    )
    good, bad = [], []
    for number, phase in enumerate(PHASES):
        good += [(number * 1000 + row, str(raw / f"{number}.csv")) for row in range(500)]
        bad.append(f"x{number},y")
        lines = ["id,name", *(f"{number * 1000 + row},a" for row in range(500)), bad[-1]]
        (raw / f"{number}.csv").write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-m", "tests.e2e.killed_driver", str(spec_file), phase]
        killed = subprocess.run(command, cwd=ROOT, start_new_session=True, capture_output=True, text=True, check=False, timeout=300)
        assert killed.returncode == -signal.SIGKILL, f"{phase}: {killed.stderr[-2000:]}"
        # What was killed is visible only where its commit exists.
        is_committed = phase == PHASES[-1]
        assert (lake.version("bronze.x") or 0) == (number if is_committed else max(number - 1, 0)), phase

        result = ingest(StepContext(spark, load_spec(spec_file), lake, {}, f"again {number}", NODE))
        assert result.rows_in == (0 if is_committed else 501), phase
        rows = lake.read(spark, "bronze.x").select("id", "_source_file", "_batch_id").collect()
        assert sorted((row["id"], row["_source_file"]) for row in rows) == good, phase
        assert {row["_batch_id"] for row in rows} == set(range(1, number + 2)), phase
        refused = lake.read(spark, "bronze.x_quarantine").select("raw", "_batch_id").collect()
        assert sorted((row["raw"], row["_batch_id"]) for row in refused) == [(raw, place + 1) for place, raw in enumerate(bad)], phase
        files = lake.ledger.rows("ops.files", source="x", state="loaded")
        assert sorted((Path(row["path"]).name, row["rows"], row["quarantined"]) for row in files) == [
            (f"{place}.csv", 500, 1) for place in range(number + 1)
        ], phase
