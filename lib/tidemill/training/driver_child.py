"""A call on the driver in a process of its own that shares its Java: whatever it does, it can be ended, and it takes nothing down.

The child is a fork, so that it has the caller's frames and code as they are. It talks to the same Java by a connection of its own, and what
it gives is pickled with the numbers that Java's objects have there. Nothing of Java is released by it: its parent has the same objects.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from py4j.java_gateway import JavaGateway, JavaObject, JVMView
from pyspark import SparkContext
from pyspark.cloudpickle import CloudPickler
from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

from tidemill.spark_errors import sentence
from tidemill.training.limits import call_in_child

if TYPE_CHECKING:
    from py4j.java_gateway import GatewayClient

Result = TypeVar("Result")


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
            raise ChildProcessError(sentence(error)) from error
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
