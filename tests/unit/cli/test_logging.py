"""Log records: quiet by default, shown by `--log-level` or TIDEMILL_LOG, never with a secret."""

from __future__ import annotations

import logging

import pytest

from tidemill.cli import main
from tidemill.lake import Lake
from tidemill.lake.ops import StepRow
from tidemill.redaction import register_secret
from tidemill.runtime.terminal import configure_logging

LOG = logging.getLogger("tidemill.tests")


@pytest.fixture(autouse=True)
def _as_before():
    log = logging.getLogger("tidemill")
    before = log.handlers, log.propagate, log.level
    yield
    log.handlers, log.propagate = before[0], before[1]
    log.setLevel(before[2])


@pytest.mark.parametrize(
    ("arguments", "variable", "shown"),
    [
        (["--version"], None, []),
        (["--log-level", "info", "--version"], None, ["info"]),
        (["--version", "--log-level=debug"], None, ["debug", "info"]),
        (["--version"], "INFO", ["info"]),
        (["--version", "--log-level", "error"], "debug", []),
    ],
)
def test_records_are_shown_from_the_level_on(capsys, monkeypatch, arguments, variable, shown):
    if variable:
        monkeypatch.setenv("TIDEMILL_LOG", variable)
    assert main(arguments) == 0
    capsys.readouterr()
    LOG.debug("debug")
    LOG.info("info")
    assert [line.rsplit(": ", 1)[1] for line in capsys.readouterr().err.splitlines()] == shown


@pytest.mark.parametrize("level", ["loud", ""])
def test_an_unknown_level_is_refused(capsys, level):
    assert main(["check", "nowhere.yml", "--log-level", level]) == 2
    assert capsys.readouterr().err == f"error: --log-level {level}: expected one of debug, info, warning, error\n"


def test_secrets_and_control_characters_are_not_shown(capsys):
    register_secret("hunter2secret")
    configure_logging("info")
    LOG.info("password %s\x1b[2J", "hunter2secret")
    text = capsys.readouterr().err
    assert "hunter2secret" not in text
    assert "\x1b" not in text


SPEC = """\
pipeline: p
lake: {folder}/lake
sources:
  a: {{format: csv, path: "{folder}/{secret}/a.csv", schema: "x INT, y INT"}}
dataset: {{from: bronze.a, key: [x], label: y}}
training: {{task: regression}}
"""


def run_with_missing_file(folder, level, secret="visible"):
    """Run a pipeline whose source has no file, so that it fails before Spark starts."""
    spec = folder / "p.yml"
    spec.write_text(SPEC.format(folder=folder, secret=secret))
    assert main(["run", str(spec), "--run-id", "r", "--log-level", level]) == 1


class TestRun:
    def test_decisions_and_commits_are_one_line_each(self, tmp_path, capsys):
        run_with_missing_file(tmp_path, "info")
        lines = [line.split(" INFO ", 1)[1] for line in capsys.readouterr().err.splitlines() if " INFO " in line]
        blocked = "tidemill.workflow.runner: dataset is blocked: ingest.a is FAILED"
        assert lines.count(blocked) == 1
        assert sum("tidemill.workflow.runner: ingest.a is FAILED after" in line for line in lines) == 1
        ledger = Lake(str(tmp_path / "lake")).ledger
        versions = [line for line in lines if line.startswith("tidemill.lake.ledger: ops.steps: version ")]
        assert versions[0].endswith("version 0 is committed: 7 rows added")
        assert len(versions) == 1 + len(ledger.read(StepRow, run_id="r")) - 7, "one commit for the pending nodes, one for the end of each"

    def test_is_quiet_by_default(self, tmp_path, capsys):
        run_with_missing_file(tmp_path, "warning")
        assert "INFO" not in capsys.readouterr().err

    @pytest.mark.parametrize("level", ["debug", "info"])
    def test_a_secret_reaches_neither_the_log_nor_the_ledger(self, tmp_path, capsys, level):
        secret = "correct-horse-battery"
        register_secret(secret)
        run_with_missing_file(tmp_path, level, secret)
        text = capsys.readouterr().err
        assert secret not in text
        assert "ingest.a is FAILED" in text and "/***/" in text
        assert all(secret not in str(row) for row in Lake(str(tmp_path / "lake")).ledger.read(StepRow))

    def test_a_handler_of_the_application_gets_no_secret_either(self, tmp_path):
        secret = "battery-staple-correct"
        register_secret(secret)
        messages = []

        class Collect(logging.Handler):
            def emit(self, record):
                messages.append(f"{record.getMessage()} {record.__dict__}")

        handler = Collect()
        configure_logging("debug")
        logging.getLogger("tidemill").addHandler(handler)
        logging.getLogger("tidemill.workflow.runner").info("%s with %s", "start", secret)
        logging.getLogger("tidemill.lake.ledger").warning("failed", exc_info=ValueError(secret))
        assert len(messages) == 2
        assert secret not in "".join(messages)
