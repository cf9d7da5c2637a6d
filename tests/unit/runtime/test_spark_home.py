"""Making the installed Spark ready, by several users of one machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tidemill.runtime import spark_home
from tidemill.runtime.spark_home import Java
from tidemill.training.engines import fold_matrix


def test_a_spark_that_is_ready_is_neither_locked_nor_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(spark_home, "find_java", lambda: Java(Path("/java"), 17, "JAVA_HOME"))
    monkeypatch.setattr(spark_home, "missing_packages", lambda home, names: ())
    spark_home.prepare(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert {path.name for path in files} >= {"spark-defaults.conf", "log4j2.properties", "spark-env.sh"}
    monkeypatch.setattr(spark_home, "hold_lock", lambda *_: pytest.fail("another user's Spark cannot be locked"))
    spark_home.prepare(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


def test_copies_for_training_lie_in_a_folder_of_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = fold_matrix._temporary_folder()
    assert folder == fold_matrix._temporary_folder()
    assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    (tmp_path / "tidemill-12345").mkdir()
    with pytest.raises(PermissionError, match="belongs to another user"):
        fold_matrix._temporary_folder()
