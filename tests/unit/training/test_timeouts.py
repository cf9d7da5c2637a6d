"""Fits that take too long, however they hang."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from tidemill.training.engines import timeouts
from tidemill.training.engines.timeouts import TimedOut, call_in_child, call_within


def _sleeps():
    time.sleep(60)


def _swallows():
    while True:
        with suppress(BaseException):  # as a careless library does
            time.sleep(0.01)


def _is_native():
    ctypes.CDLL(None).sleep(60)


def _keeps_the_interpreter():
    re.match("(a+)+$", "a" * 64 + "b")


def _raises():
    raise ValueError("its own")


def _exits():
    raise SystemExit(0)


@pytest.fixture
def spark(monkeypatch):
    """Stands for a session; the names of what was cancelled are kept."""
    monkeypatch.setattr(timeouts, "inheritable_thread_target", lambda _: lambda body: body)
    monkeypatch.setattr(timeouts, "_GRACE", 0.3)
    monkeypatch.setattr(timeouts, "_STOP_INTERVAL", 0.05)
    cancelled = []
    context = SimpleNamespace(addJobTag=lambda _: None, cancelJobsWithTag=cancelled.append)
    return SimpleNamespace(sparkContext=context, cancelled=cancelled)


@pytest.mark.parametrize("hangs", [_sleeps, _swallows, _is_native, _keeps_the_interpreter])
def test_a_process_of_its_own_ends_in_time_whatever_it_does(hangs):
    started = time.monotonic()
    with pytest.raises(TimedOut, match=r"^stopped after 0\.2 seconds, as training\.tuner\.trial_timeout says$"):
        call_in_child(0.2, hangs)
    assert time.monotonic() - started < 5


def test_a_process_of_its_own_gives_what_it_finds_or_says_why_it_does_not():
    before = signal.getsignal(signal.SIGALRM)
    assert call_in_child(30, lambda: {"pid": os.getpid()})["pid"] != os.getpid()
    for fails, message in (
        (_raises, "ValueError: its own"),
        (_exits, "SystemExit: 0"),
        (lambda: os._exit(0), "without a result"),
        (lambda: os.kill(os.getpid(), 9), "SIGKILL"),
    ):
        with pytest.raises(ChildProcessError, match=message):
            call_in_child(30, fails)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0) and signal.getsignal(signal.SIGALRM) == before


def test_a_thread_is_cancelled_and_interrupted_and_what_heeds_neither_is_left_behind(spark):
    reached = []

    def loops():
        while True:
            reached.append(len(spark.cancelled))

    with pytest.raises(TimedOut, match=r"trial_timeout says$"):
        call_within(spark, 0.2, loops)
    count = len(reached)
    time.sleep(0.1)
    assert count == len(reached) and spark.cancelled
    for hangs in (_sleeps, _swallows, _is_native):
        started = time.monotonic()
        with pytest.raises(TimedOut, match="keeps running"):
            call_within(spark, 0.1, hangs)
        assert time.monotonic() - started < 5
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("tidemill-"))


def test_a_call_in_time_gives_what_it_gives_and_raises_what_it_raises(spark):
    assert call_within(spark, 30, lambda: 7) == call_within(spark, None, lambda: 7) == 7
    with pytest.raises(ValueError, match="its own"):
        call_within(spark, 30, _raises)
    with pytest.raises(SystemExit):
        call_within(spark, 30, _exits)
    assert not spark.cancelled
