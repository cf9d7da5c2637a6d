"""The guard of the first tier: CPU seconds of a test and of its child processes decide, neither the wall clock nor shared fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from tests.cpu_budget import REFERENCE_S, is_supported, measure_slowness, read_cpu_seconds, run_reference_work, sum_new_seconds
from tests.tiers import ROOT

pytestmark = pytest.mark.skipif(not is_supported(), reason="needs /proc")

CONFTEST = """\
from tests.cpu_budget import CpuBudget, add_options as pytest_addoption

def pytest_configure(config):
    for mark in ("long", "slow"):
        config.addinivalue_line("markers", mark)
    budget = CpuBudget(limit_s=0.1)
    budget.slowness = 1.0
    config.pluginmanager.register(budget)
"""
BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
TESTS = f"""\
import subprocess, sys, time
import pytest

BURN = {BURN!r}

def burn():
    end = time.process_time() + 0.2
    while time.process_time() < end: pass

@pytest.fixture(scope="session")
def shared():
    burn()
    subprocess.run([sys.executable, "-c", BURN], check=True)

@pytest.fixture
def own():
    burn()

def test_burns(): burn()
def test_burns_in_its_fixture(own): pass
def test_burns_in_a_child_that_ends(): subprocess.run([sys.executable, "-c", BURN], check=True)
def test_burns_in_a_child_that_stays(request):
    child = subprocess.Popen([sys.executable, "-c", BURN + "print(flush=True)\\ntime.sleep(60)"], stdout=subprocess.PIPE)
    request.addfinalizer(child.kill)
    child.stdout.readline()
def test_sleeps(): time.sleep(0.3)
def test_shares(shared): pass
@pytest.mark.long("burns")
def test_has_a_reason(): burn()
@pytest.mark.slow
def test_is_slow(): burn()
def test_fails_by_itself():
    burn()
    assert False, "by itself"
"""


def test_what_burns_without_a_reason_fails(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_them.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--cpu", "2", "-p", "no:cacheprovider", "-c", os.devnull, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT.parent), os.environ.get("PYTHONPATH", "")])}
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environ, timeout=120).stdout
    ends = {line.split("::")[1].split()[0]: line.split()[0] for line in told.splitlines() if line.startswith(("PASSED", "FAILED"))}
    assert ends == {
        "test_burns": "FAILED",
        "test_burns_in_its_fixture": "FAILED",
        "test_burns_in_a_child_that_ends": "FAILED",
        "test_burns_in_a_child_that_stays": "FAILED",
        "test_sleeps": "PASSED",
        "test_shares": "PASSED",
        "test_has_a_reason": "PASSED",
        "test_is_slow": "PASSED",
        "test_fails_by_itself": "FAILED",
    }, told
    assert told.count("the first tier allows 0.1") >= 4 and '@pytest.mark.long("why it needs more")' in told
    assert "by itself" in told and "2 longest" in told


def test_a_vanished_process_counts_nothing_and_a_new_one_in_full():
    assert sum_new_seconds({1: 10.0, 2: 7.0}, {1: 12.5, 3: 1.0}) == 3.5


def test_the_tree_of_this_process_has_its_own_seconds():
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert read_cpu_seconds(os.getpid())[os.getpid()] == pytest.approx(sum(os.times()[:4]), abs=0.1)


def test_a_slower_machine_may_take_longer_and_a_faster_one_gains_nothing():
    assert measure_slowness(repeats=1) >= 1.0
    started = time.process_time()
    run_reference_work()
    assert time.process_time() - started > REFERENCE_S / 10  # the reference is of this work
