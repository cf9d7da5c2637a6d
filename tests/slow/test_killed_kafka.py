"""A driver that reads a topic is killed with SIGKILL around its commit, and run again: each message is there once."""

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

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("kafka"), pytest.mark.one_of("kill")]

PHASES = ("between two tables", "after the commit, before the ledger")


def test_killed_around_the_commit(spark, broker, client, tmp_path: Path) -> None:
    lake, spec_file = Lake(str(tmp_path / "lake")), tmp_path / "pipeline.yml"
    source = {"format": "kafka", "url": broker.url, "table": "killed", "load": "incremental", "schema": "id INT, late INT"}
    spec_file.write_text(
        json.dumps(
            {
                "pipeline": "p",
                "lake": lake.root,
                "sources": {"x": source},
                "dataset": {"from": "bronze.x", "key": ["id"], "label": "late"},
                "training": {"task": "binary"},
            }
        )
    )
    client.create("killed", partitions=2)
    good, bad = [], []
    for number, phase in enumerate(PHASES):
        messages = [(row % 2, None, json.dumps({"id": number * 1000 + row})) for row in range(20)]
        client.send("killed", *messages, (1, None, f"junk {number}"))
        good += [(number * 1000 + row, number + 1) for row in range(20)]
        bad.append((f"junk {number}", number + 1, 10 + number * 11))

        command = [sys.executable, "-m", "tests.slow.killed_driver", str(spec_file), phase]
        killed = subprocess.run(command, cwd=ROOT, start_new_session=True, capture_output=True, text=True, check=False, timeout=300)
        assert killed.returncode == -signal.SIGKILL, f"{phase}: {killed.stderr[-2000:]}"
        is_committed = phase == PHASES[-1]
        assert lake.version("bronze.x") == (1 if is_committed else None), phase

        result = ingest(StepContext(spark, load_spec(spec_file), lake, {}, f"again {number}", NODE))
        assert (result.rows_in, result.rows_quarantined) == ((0, 0) if is_committed else (21, 1)), phase
        rows = lake.read(spark, "bronze.x").select("id", "_batch_id").collect()
        assert sorted((row["id"], row["_batch_id"]) for row in rows) == good, phase
        refused = lake.read(spark, "bronze.x_quarantine").select("raw", "_batch_id", "_source_line").collect()
        assert sorted((json.loads(row["raw"])["value"], row["_batch_id"], row["_source_line"]) for row in refused) == bad, phase
        positions = [json.loads(row["position"])["offsets"] for row in lake.ledger.rows("ops.files", source="x")]
        assert positions == [{"killed": {"0": 10 * batch, "1": 11 * batch}} for batch in range(1, number + 2)], phase
