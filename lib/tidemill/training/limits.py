"""How long a fit may take, where it is known: in a worker by an alarm, on the cluster by taking its jobs away."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyspark.sql.utils import is_remote

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Tagged = Callable[[str], object]

_AGAIN = 1.0


class TimedOut(Exception):
    """A fit took longer than it may."""

    def __init__(self, seconds: float) -> None:
        """Say how long it might have taken."""
        super().__init__(f"stopped after {seconds:g} seconds, as training.tuner.trial_timeout says")


@contextmanager
def alarm(seconds: float | None) -> Iterator[None]:
    """Raise `TimedOut` in the body after so many seconds; a library that is in the middle of a step ends it first.

    Elsewhere than in a process' main thread there are no alarms, and no limit.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over = has_ended = False

    def stop(_signal: int, _frame: Any) -> None:
        nonlocal is_over
        is_over = True
        if not has_ended:
            raise TimedOut(seconds)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)  # again, for a library may swallow what is raised in it
    try:
        try:
            yield
        finally:
            has_ended = True
    except Exception as error:
        if is_over:  # compiled code raises an error of its own for one that it meets
            raise TimedOut(seconds) from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def taken_away(spark: SparkSession, seconds: float | None) -> Iterator[None]:
    """Cancel the jobs that the body starts in this thread once it has taken so many seconds, and raise `TimedOut`."""
    if seconds is None:
        yield
        return
    add, remove, cancel = _tags(spark)
    tag = f"tidemill-{uuid.uuid4().hex}"
    ended = threading.Event()
    is_over = threading.Event()

    def watch() -> None:
        wait: float = seconds
        while not ended.wait(wait):  # between two jobs there is nothing to cancel, but in front of the next
            is_over.set()
            cancel(tag)
            wait = _AGAIN

    watcher = threading.Thread(target=watch, name=tag, daemon=True)
    add(tag)
    watcher.start()
    try:
        yield
    except Exception as error:
        if is_over.is_set():
            raise TimedOut(seconds) from error
        raise
    finally:
        ended.set()
        remove(tag)
        watcher.join()


def _tags(spark: SparkSession) -> tuple[Tagged, Tagged, Tagged]:
    """Return what tags the jobs of a thread, takes the tag off, and cancels the jobs that have it.

    The context does, where there is one: the session's own tags, as of Spark 4.2, make plans that know it unfit to be sent to tasks.
    """
    if is_remote():
        return spark.addTag, spark.removeTag, spark.interruptTag
    context = spark.sparkContext
    return context.addJobTag, context.removeJobTag, context.cancelJobsWithTag
