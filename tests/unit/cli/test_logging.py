"""Log records: quiet by default, shown by `--log-level` or TIDEMILL_LOG, never with a secret."""

from __future__ import annotations

import logging

import pytest

from tidemill.cli import main
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
