"""Locks: on files of this machine, and leases where a lake has a URL."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tidemill.errors import LakeError
from tidemill.runtime import locks as lease
from tidemill.runtime.locks import find_holder, hold_lock

# Adds 1 to a number in a file, as a process alone with it would: reads, takes its time, writes.
COUNT = """
import sys, time
from pathlib import Path
from tidemill.runtime import locks
from tidemill.runtime.locks import hold_lock
root, file = sys.argv[1], Path(sys.argv[2])
locks._POLL_S = 0.02
for _ in range(6):
    with hold_lock(root, "count") as is_held:
        assert is_held
        number = int(file.read_text())
        time.sleep(0.01)
        file.write_text(str(number + 1))
"""

HOLD = """
import sys, time
from tidemill.runtime.locks import hold_lock
with hold_lock(sys.argv[1], "run.p"):
    print("held", flush=True)
    time.sleep(60)
"""


def _start(code: str, *words: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)


@pytest.fixture(params=["", "file://"])
def root(request, tmp_path):
    return f"{request.param}{tmp_path}/lake"


@pytest.fixture
def quick_lease(monkeypatch):
    for name, seconds in (("_POLL_S", 0.02), ("RENEW_S", 0.1), ("LEASE_S", 1.0)):
        monkeypatch.setattr(lease, name, seconds)


def test_processes_take_turns_and_leave_no_lock_behind(root, tmp_path):
    number = tmp_path / "number"
    number.write_text("0")
    assert [process.wait(timeout=100) for process in [_start(COUNT, root, str(number)) for _ in range(3)]] == [0, 0, 0]
    assert number.read_text() == "18"
    assert not list((tmp_path / "lake" / ".locks").glob("*.lock"))
    assert find_holder(root, "count") is None


def test_who_does_not_wait_is_told_who_holds_it_until_it_is_free(root, quick_lease):
    with hold_lock(root, "run.p") as is_held:
        assert is_held
        with hold_lock(root, "run.p", wait=False) as second, hold_lock(root, "run.q", wait=False) as other:
            assert (second, other) == (False, True)
        by = find_holder(root, "run.p")
        assert by is not None
        assert by.pid == os.getpid()
    with hold_lock(root, "run.p", wait=False) as is_held:
        assert is_held


def test_a_process_that_died_frees_its_lock(root, quick_lease):
    process = _start(HOLD, root)
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    began = time.monotonic()
    with hold_lock(root, "run.p", wait=False) as is_held:
        assert is_held
        assert find_holder(root, "run.p").pid == os.getpid()
    assert time.monotonic() - began < 10


def test_a_lease_that_was_taken_over_is_named_at_the_end(tmp_path, monkeypatch, quick_lease):
    root = f"file://{tmp_path}/lake"
    monkeypatch.setattr(lease, "RENEW_S", 60.0)  # this process stands still
    with pytest.raises(LakeError, match=r"the lock run\.p was lost to process \d+"), hold_lock(root, "run.p"):
        other = _start(
            HOLD.replace("from tidemill.runtime.locks", "import tidemill.runtime.locks as m; m.LEASE_S = 0.3\nfrom tidemill.runtime.locks"),
            root,
        )
        assert other.stdout.readline() == "held\n"
    other.kill()
    other.wait()


def test_a_lock_is_open_to_all_who_may_write_to_the_lake_and_to_nobody_else(tmp_path):
    for mode in (0o700, 0o2775, 0o1777):
        root = tmp_path / f"{mode:o}"
        root.mkdir()
        root.chmod(mode)
        with hold_lock(str(root), "run.p"):
            assert stat.S_IMODE((root / ".locks").stat().st_mode) == mode
            assert stat.S_IMODE((root / ".locks" / "run.p.lock").stat().st_mode) == 0o600 | mode & 0o666


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "x.lock").symlink_to(victim)
    with pytest.raises(LakeError, match="cannot be locked"), hold_lock(str(tmp_path), "x"):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_locks_what_a_first_one_left():
    with tempfile.TemporaryDirectory() as shared:  # PyTest's own folders are one user's
        Path(shared).chmod(0o1777)
        folder = Path(shared) / ".locks"
        folder.mkdir()
        folder.chmod(0o1777)
        left = folder / "run.p.lock"
        left.write_text(json.dumps({"pid": 1}))
        left.chmod(0o644)  # by a user whose process died with it
        process = _start(HOLD.replace("with", "import os; os.setgid(65534); os.setuid(65534)\nwith"), shared)
        assert process.stdout.readline() == "held\n"
        with hold_lock(shared, "run.p", wait=False) as is_held:
            assert not is_held
        process.kill()
        process.wait()
