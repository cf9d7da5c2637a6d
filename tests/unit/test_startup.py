"""What a command costs before it does anything."""

from __future__ import annotations

import subprocess
import sys


def test_commands_that_only_read_the_ledger_import_no_spark():
    code = (
        "import sys, tidemill.cli.app, tidemill.workflow.runner, tidemill.model_registry.deployments, tidemill.evaluation.gates;"
        "heavy = {'pyspark', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules); sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
