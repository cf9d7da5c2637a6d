"""How long a fit may take: in a worker by a process of its own, on the driver by a thread of its own whose jobs are taken away."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from py4j.java_gateway import JavaGateway, JavaObject, JVMView
from pyspark import SparkContext, inheritable_thread_target
from pyspark.cloudpickle import CloudPickler
from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

from tidemill.runtime.spark_errors import format_spark_error

if TYPE_CHECKING:
    from py4j.java_gateway import GatewayClient


Result = TypeVar("Result")
Tagged = Callable[[str], object]

_AGAIN = 1.0
# How long a fit on the driver has to end itself, once its jobs are cancelled and its Python is interrupted.
_GRACE = 5.0


class TimedOut(Exception):
    """A fit took longer than it may."""

    def __init__(self, seconds: float, remark: str = "") -> None:
        """Say how long it might have taken."""
        super().__init__(f"stopped after {seconds:g} seconds, as training.tuner.trial_timeout says{remark}")


class _Stop(BaseException):
    """Ends the Python of a thread; no Exception, so that fewer handlers take it for their own."""


def call_in_child(seconds: float, call: Callable[[], Result]) -> Result:
    """Return what ``call`` gives in a fork of this process, which the system ends after so many seconds, in native code too.

    What it gives is pickled; nothing else that it does to this process' memory is seen here.

    Raises:
        TimedOut: it took longer.
        ChildProcessError: the process ended without a word: it crashed, or was killed.
    """
    reading, writing = os.pipe()
    _flush()  # what is not written yet would be the child's as well
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(writing, seconds, call)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        ended_by = signal.Signals(os.WTERMSIG(status))
        if ended_by == signal.SIGALRM:
            raise TimedOut(seconds)
        raise ChildProcessError(f"its process was ended by {ended_by.name}: it crashed, or the machine had no memory left")
    if not answer:
        raise ChildProcessError("its process ended without a word")
    is_result, given = pickle.loads(answer)
    if not is_result:
        raise ChildProcessError(given)
    result: Result = given
    return result


def _answer(writing: int, seconds: float, call: Callable[[], Any]) -> NoReturn:
    """Write what ``call`` gives, or why it gives nothing, and end; in the child, which must not run what its parent has to clean up."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process whatever it is doing; no Python is asked
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            answer = pickle.dumps((True, call()))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
            said = str(error) if isinstance(error, ChildProcessError) else f"{type(error).__name__}: {error}"
            answer = pickle.dumps((False, said))
        signal.setitimer(signal.ITIMER_REAL, 0)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
    finally:
        _flush()
        os._exit(0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def call_within(spark: SparkSession, seconds: float | None, call: Callable[[], Result]) -> Result:
    """Return what ``call`` gives, which may take so many seconds; without a limit it is called as it is.

    With one it runs in a thread of its own. When time is over, the Spark jobs of the thread are cancelled, also those that it starts
    later, and its Python is interrupted. What heeds neither (a long sleep, native code) is left behind: it ends with the process.

    Raises:
        TimedOut: it took longer.
    """
    if seconds is None:
        return call()
    limited = _Limited(spark, call)
    limited.start()
    wait([limited.outcome], seconds)
    if limited.outcome.done():
        return limited.outcome.result()
    reaper = threading.Thread(target=limited.stop, name=f"{limited.name}-reaper", daemon=True)
    reaper.start()
    wait([limited.outcome], _GRACE)
    raise TimedOut(seconds, "" if limited.outcome.done() else "; it does not heed that, and is left behind until the run ends")


class _Limited(threading.Thread):
    """A thread that can be told to stop; it does not keep the process alive."""

    def __init__(self, spark: SparkSession, call: Callable[[], Any]) -> None:
        super().__init__(name=f"tidemill-{uuid.uuid4().hex}", daemon=True)
        self.outcome: Future[Any] = Future()
        self._call = call
        self._add, self._cancel = _tags(spark)
        self._wrapped = inheritable_thread_target(spark)(self._tagged)

    def run(self) -> None:
        """Call it, and keep what it gives or raises."""
        try:
            self._wrapped()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            with suppress(Exception):
                self.outcome.set_exception(error)

    def _tagged(self) -> None:
        self._add(self.name)
        self.outcome.set_result(self._call())

    def stop(self) -> None:
        """Cancel its jobs and interrupt its Python, again and again until it ends: handlers may swallow it, and new jobs may start."""
        while self.is_alive():
            with suppress(Exception):
                self._cancel(self.name)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(_Stop))
            time.sleep(_AGAIN)


def _tags(spark: SparkSession) -> tuple[Tagged, Tagged]:
    """Return what tags the jobs of a thread, and what cancels the jobs that have a tag.

    The context does, where there is one: the session's own tags, as of Spark 4.2, make plans that know it unfit to be sent to tasks.
    """
    if is_remote():
        return spark.addTag, spark.interruptTag
    context = spark.sparkContext
    return context.addJobTag, context.cancelJobsWithTag


def can_fork() -> bool:
    """Return True where the driver has a Java of its own to share, and the system forks a process of several threads safely."""
    return not is_remote() and sys.platform == "linux"


def call_in_driver_child(spark: SparkSession, seconds: float, call: Callable[[], Result]) -> Result:
    """Return what ``call`` gives, which may take so many seconds; the jobs of one that does not come to its end are cancelled.

    Raises:
        TimedOut: it took longer.
        ChildProcessError: it raised something, or its process ended without a word.
    """
    context = spark.sparkContext
    tag = f"tidemill-{uuid.uuid4().hex}"

    def in_child() -> bytes:
        _connect_anew(context._gateway)
        context.addJobTag(tag)
        written = io.BytesIO()
        try:
            _Writer(written).dump(call())
        except Exception as error:
            raise ChildProcessError(format_spark_error(error)) from error
        return written.getvalue()

    try:
        answer = call_in_child(seconds, in_child)
    except BaseException:
        context.cancelJobsWithTag(tag)
        raise
    result: Result = _Reader(io.BytesIO(answer), spark).load()
    return result


def _connect_anew(gateway: JavaGateway) -> None:
    """Leave the connections of the parent alone, which are its own, and what it holds in Java as well."""
    client: GatewayClient = gateway._gateway_client
    client.thread_connection, gateway._of_the_parent = threading.local(), client.thread_connection
    gateway.detach = lambda _: None


class _Writer(CloudPickler):
    """Writes an object of Java by its number, and the session by its name."""

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        """Return the name that the parent knows ``obj`` by; None where it is written as it is."""
        if isinstance(obj, JavaObject):
            return "java", str(obj._target_id)
        for kind, name in ((SparkSession, "session"), (SparkContext, "context"), (JavaGateway, "gateway"), (JVMView, "jvm")):
            if isinstance(obj, kind):
                return name, ""
        return None


class _Reader(pickle.Unpickler):
    """Reads what `_Writer` wrote."""

    def __init__(self, written: io.BytesIO, spark: SparkSession) -> None:
        super().__init__(written)
        self._spark = spark

    def persistent_load(self, pid: tuple[str, str]) -> Any:
        """Return the object of a name."""
        context = self._spark.sparkContext
        kind, number = pid
        if kind == "java":
            return JavaObject(number, cast("JavaGateway", context._gateway)._gateway_client)
        return {"session": self._spark, "context": context, "gateway": context._gateway, "jvm": context._jvm}[kind]
