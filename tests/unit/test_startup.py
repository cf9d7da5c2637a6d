"""What a command costs before it does anything."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

from tidemill.lake import Lake
from tidemill.lake.ops import RunRow, StepRow


def test_commands_that_only_read_the_ledger_import_no_spark():
    code = (
        "import sys, tidemill.cli.app, tidemill.workflow.runner, tidemill.model_registry.deployments, tidemill.evaluation.gates;"
        "heavy = {'pyspark', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules); sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_status_loads_neither_spark_nor_pandas(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    lake.ledger.append([RunRow(pipeline="p", run_id="r", state="SUCCEEDED", started_at=datetime.now(UTC))])
    lake.ledger.append([StepRow(pipeline="p", run_id="r", node="train", state="SUCCEEDED", inputs={"gold.d": 1})])
    code = (
        "import sys, tidemill.cli; code = tidemill.cli.main(['status', '--lake', sys.argv[1]]);"
        "heavy = {'pyspark', 'pandas'} & set(sys.modules); sys.exit(f'imported: {heavy}' if heavy else code)"
    )
    ended = subprocess.run([sys.executable, "-c", code, lake.root], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "SUCCEEDED" in ended.stdout
