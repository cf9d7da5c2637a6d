"""The alarm of a fit against bodies that hide it, as compiled libraries do."""

from __future__ import annotations

import signal
import time

import pytest

from tidemill.training.limits import TimedOut, alarm


def test_an_alarm_is_told_as_one_whatever_a_library_makes_of_it():
    with pytest.raises(TimedOut, match=r"stopped after 0\.05 seconds"), alarm(0.05):
        try:
            time.sleep(10)
        except TimedOut as error:
            raise ValueError("not a valid buffer") from error


def test_an_alarm_that_a_library_swallows_comes_again():
    started = time.monotonic()
    swallowed = 0
    with pytest.raises(TimedOut), alarm(0.05):
        while swallowed == 0:
            try:
                time.sleep(10)
            except TimedOut:
                swallowed += 1
        time.sleep(10)
    assert swallowed == 1 and time.monotonic() - started < 5


def test_a_failure_before_the_alarm_keeps_its_name_and_no_alarm_is_left():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ValueError, match="its own"), alarm(0.2):
        raise ValueError("its own")
    with alarm(0.2):
        pass
    time.sleep(0.3)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0) and signal.getsignal(signal.SIGALRM) == before
