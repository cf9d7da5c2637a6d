"""Time limits of fits: a child process in a worker; on the driver a thread whose Spark jobs are cancelled, or a child process."""

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
TagAction = Callable[[str], object]

# Seconds between two attempts to stop a thread.
_STOP_INTERVAL = 1.0
# Seconds that a fit on the driver has to end, once its jobs are cancelled and its Python is interrupted.
_GRACE = 5.0


class TimedOut(Exception):
    """A fit took longer than its limit."""

    def __init__(self, seconds: float, remark: str = "") -> None:
        """Name the limit."""
        super().__init__(f"stopped after {seconds:g} seconds, as training.tuner.trial_timeout says{remark}")


class _Stop(BaseException):
    """Ends the Python code of a thread; not an Exception, so that fewer handlers catch it."""


def call_in_child(seconds: float, call: Callable[[], Result]) -> Result:
    """Return the result of ``call`` in a fork of this process, which the system ends after ``seconds``, even inside native code.

    The result is pickled; other changes that the call makes to memory are lost.

    Raises:
        TimedOut: the call took longer.
        ChildProcessError: the call failed, or the process ended without a result: it crashed, or was killed.
    """
    read_end, write_end = os.pipe()
    _flush()  # the child would write buffered output again
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _run_child(write_end, seconds, call)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        ended_by = signal.Signals(os.WTERMSIG(status))
        if ended_by == signal.SIGALRM:
            raise TimedOut(seconds)
        raise ChildProcessError(f"its process was ended by {ended_by.name}: it crashed, or the machine had no memory left")
    if not answer:
        raise ChildProcessError("its process ended without a result")
    is_result, value = pickle.loads(answer)
    if not is_result:
        raise ChildProcessError(value)
    result: Result = value
    return result


def _run_child(write_end: int, seconds: float, call: Callable[[], Any]) -> NoReturn:
    """Write the result of ``call``, or its error, and end the child process without the exit handlers of its parent."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the default action ends the process without running Python
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            answer = pickle.dumps((True, call()))
        except BaseException as error:  # noqa: BLE001 - every error is sent to the parent
            message = str(error) if isinstance(error, ChildProcessError) else f"{type(error).__name__}: {error}"
            answer = pickle.dumps((False, message))
        signal.setitimer(signal.ITIMER_REAL, 0)
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(answer)
    finally:
        _flush()
        os._exit(0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def call_within(spark: SparkSession, seconds: float | None, call: Callable[[], Result]) -> Result:
    """Return the result of ``call``, which may take ``seconds``; where that is None, call it without a limit.

    With a limit it runs in a thread of its own. After the limit the Spark jobs of the thread are cancelled, also those that it starts
    later, and its Python code is interrupted. A call that reacts to neither (a long sleep, native code) keeps running until the process
    ends.

    Raises:
        TimedOut: the call took longer.
    """
    if seconds is None:
        return call()
    thread = _LimitedThread(spark, call)
    thread.start()
    wait([thread.outcome], seconds)
    if thread.outcome.done():
        return thread.outcome.result()
    reaper = threading.Thread(target=thread.stop, name=f"{thread.name}-reaper", daemon=True)
    reaper.start()
    wait([thread.outcome], _GRACE)
    raise TimedOut(seconds, "" if thread.outcome.done() else "; it does not stop, and keeps running until the run ends")


class _LimitedThread(threading.Thread):
    """A daemon thread that can be stopped."""

    def __init__(self, spark: SparkSession, call: Callable[[], Any]) -> None:
        super().__init__(name=f"tidemill-{uuid.uuid4().hex}", daemon=True)
        self.outcome: Future[Any] = Future()
        self._call = call
        self._add, self._cancel = _tags(spark)
        self._wrapped = inheritable_thread_target(spark)(self._call_tagged)

    def run(self) -> None:
        """Run the call, and store its result or error."""
        try:
            self._wrapped()
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is read
            with suppress(Exception):
                self.outcome.set_exception(error)

    def _call_tagged(self) -> None:
        self._add(self.name)
        self.outcome.set_result(self._call())

    def stop(self) -> None:
        """Cancel its jobs and interrupt its Python code, repeatedly, since handlers may swallow the interrupt and new jobs may start."""
        while self.is_alive():
            with suppress(Exception):
                self._cancel(self.name)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(_Stop))
            time.sleep(_STOP_INTERVAL)


def _tags(spark: SparkSession) -> tuple[TagAction, TagAction]:
    """Return the function that tags the jobs of a thread, and the one that cancels the jobs with a tag.

    They are the context's, where there is one: with the session's own tags, as of Spark 4.2, plans that refer to the session cannot be
    sent to tasks.
    """
    if is_remote():
        return spark.addTag, spark.interruptTag
    context = spark.sparkContext
    return context.addJobTag, context.cancelJobsWithTag


def can_fork() -> bool:
    """Return True where the driver has its own JVM, and the system can fork a process with several threads safely."""
    return not is_remote() and sys.platform == "linux"


def call_in_driver_child(spark: SparkSession, seconds: float, call: Callable[[], Result]) -> Result:
    """Return the result of ``call`` in a child process of the driver, within ``seconds``; the jobs of a failed call are cancelled.

    Raises:
        TimedOut: the call took longer.
        ChildProcessError: the call failed, or its process ended without a result.
    """
    context = spark.sparkContext
    tag = f"tidemill-{uuid.uuid4().hex}"

    def in_child() -> bytes:
        _reconnect(context._gateway)
        context.addJobTag(tag)
        buffer = io.BytesIO()
        try:
            _Writer(buffer).dump(call())
        except Exception as error:
            raise ChildProcessError(format_spark_error(error)) from error
        return buffer.getvalue()

    try:
        answer = call_in_child(seconds, in_child)
    except BaseException:
        context.cancelJobsWithTag(tag)
        raise
    result: Result = _Reader(io.BytesIO(answer), spark).load()
    return result


def _reconnect(gateway: JavaGateway) -> None:
    """Use new connections to the JVM: those of the parent, and its Java objects, stay untouched."""
    client: GatewayClient = gateway._gateway_client
    client.thread_connection, gateway._parent_connection = threading.local(), client.thread_connection
    gateway.detach = lambda _: None


class _Writer(CloudPickler):
    """Writes a Java object by its id, and the session by a name."""

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        """Return the reference that the parent resolves to ``obj``; None where the object itself is pickled."""
        if isinstance(obj, JavaObject):
            return "java", str(obj._target_id)
        for kind, name in ((SparkSession, "session"), (SparkContext, "context"), (JavaGateway, "gateway"), (JVMView, "jvm")):
            if isinstance(obj, kind):
                return name, ""
        return None


class _Reader(pickle.Unpickler):
    """Reads the output of `_Writer`."""

    def __init__(self, buffer: io.BytesIO, spark: SparkSession) -> None:
        super().__init__(buffer)
        self._spark = spark

    def persistent_load(self, pid: tuple[str, str]) -> Any:
        """Return the object of a reference."""
        context = self._spark.sparkContext
        kind, number = pid
        if kind == "java":
            return JavaObject(number, cast("JavaGateway", context._gateway)._gateway_client)
        return {"session": self._spark, "context": context, "gateway": context._gateway, "jvm": context._jvm}[kind]
