"""A folder of raw files, a lake, and the commands that run over them, in this process or in one of their own."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
from deltalake import DeltaTable

from tidemill.cli import main

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "conf" / "flight_delays" / "pipeline.yml"

_RUN_COMMANDS = """
import contextlib, io, json, sys
from tidemill.cli import main

ended = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    ended.append((words, code, out.getvalue(), err.getvalue()))
print(json.dumps(ended))
"""


@dataclass(frozen=True)
class Place:
    """A folder of raw files and a lake of its own."""

    data: Path
    lake: Path

    def environ(self) -> dict[str, str]:
        """Return the environment of a command that works here."""
        return {
            **os.environ,
            "DATA": str(self.data),
            "TIDEMILL_LAKE": str(self.lake),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def tidemill(self, *words: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, whose Spark is warm, and check its exit code."""
        out, err = io.StringIO(), io.StringIO()
        with patch.dict(os.environ, self.environ()), chdir(ROOT), redirect_stdout(out), redirect_stderr(err):
            code = main(words)
        return _checked(subprocess.CompletedProcess(["tidemill", *words], code, out.getvalue(), err.getvalue()), exit_code)

    def tidemill_process(self, *words: str, exit_code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own and check its exit code."""
        return _ended([sys.executable, "-m", "tidemill", *words], {**self.environ(), **environ}, exit_code)

    def tidemill_commands(self, *commands: Sequence[str], **environ: str) -> list[subprocess.CompletedProcess[str]]:
        """Run commands one after the other in one process, which is not this one."""
        ended = _ended([sys.executable, "-c", _RUN_COMMANDS, json.dumps(commands)], {**self.environ(), **environ}, exit_code=0)
        return [subprocess.CompletedProcess(*each) for each in json.loads(ended.stdout)]

    def submit(self, step: str, *words: str, exit_code: int = 0) -> dict:
        """Run one of the jobs with spark-submit and return what ``--json`` told.

        spark-submit puts a job's standard error into its standard output: the object is the last line.
        """
        ended = _ended(["spark-submit", str(ROOT / "jobs" / f"{step}.py"), *words, "--json"], self.environ(), exit_code)
        return json.loads(ended.stdout.splitlines()[-1])

    def run_step(self, step: str, *words: str) -> None:
        """Run one of the jobs in this process, as spark-submit would."""
        arguments = [str(ROOT / "jobs" / f"{step}.py"), *words]
        with patch.dict(os.environ, self.environ()), patch.object(sys, "argv", arguments), pytest.raises(SystemExit) as ended:
            runpy.run_path(arguments[0], run_name="__main__")
        assert ended.value.code == 0, f"{arguments} ended with {ended.value.code}"

    def run(self, *words: str, exit_code: int = 0) -> dict:
        """Run the sample pipeline and return what ``--json`` told."""
        return json.loads(self.tidemill("run", str(SPEC), "--env", "sample", "--json", *words, exit_code=exit_code).stdout)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the lake, read without Spark."""
        return DeltaTable(str(self.lake / name.replace(".", "/"))).to_pandas()

    def version(self, name: str) -> int:
        """Return the latest version of a table."""
        return DeltaTable(str(self.lake / name.replace(".", "/"))).version()


def _ended(command: list[str], environ: dict[str, str], exit_code: int) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=ROOT, timeout=600)
    return _checked(ended, exit_code)


def _checked(ended: subprocess.CompletedProcess[str], exit_code: int) -> subprocess.CompletedProcess[str]:
    assert ended.returncode == exit_code, f"{ended.args} ended with {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    assert "at org.apache" not in ended.stderr, "a Java stack trace reached the terminal"
    return ended
