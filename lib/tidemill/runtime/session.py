"""The one factory of SparkSessions: on one machine, under ``spark-submit``, on Databricks."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.errors import SetupError, UsageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


logger = logging.getLogger(__name__)

_LOG_LEVEL = "TIDEMILL_SPARK_LOG"
LOG_RETENTION_INTERVAL = "interval 36500 days"
"""How long tables keep the entries of their Delta log: models and runs are pinned to versions."""
TASK_SLOTS = "spark.tidemill.taskSlots"
"""The number of Spark tasks to run at once, where the cluster cannot report it or only a part of it may be used."""
# What every session needs, wherever it runs.
_EVERYWHERE = {
    "spark.sql.session.timeZone": "UTC",
    "spark.databricks.delta.properties.defaults.logRetentionDuration": LOG_RETENTION_INTERVAL,
    # A spec has variables of its own. Spark would put its settings and the environment in for `${…}` once more, inside of texts too,
    # and nothing at all for what it does not know.
    "spark.sql.variable.substitute": "false",
    # Java never compiles a method of more than 8,000 bytes; Spark generates larger ones, and they are slower than no generated code.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # Spark's own default is a type that Parquet has given up: twelve bytes, without statistics, and slow to write.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Spark would derive a condition for each way to rename the columns in a condition: 2 to the power of their number, where a filter is
    # on a hash of all columns of a file. What it derives seldom does more than skip null keys of a join early.
    "spark.sql.constraintPropagation.enabled": "false",
    # Spark 4.2 hands columns of a file to Python as they are, and fails where there is an MLlib vector among them.
    "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled": "false",
}
# PySpark would report the line of each call to Java in three more calls; a static setting, for sessions that start here.
_UNTRACED = {"spark.python.sql.dataFrameDebugging.enabled": "false"}
_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# Spark's and Delta's defaults are made for clusters: 200 shuffle and 50 snapshot partitions cost more than the work they share out.
_ONE_MACHINE = {
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


def get_spark(
    app_name: str = "tidemill", conf: Mapping[str, str] | None = None, connectors: Collection[str] = (), *, needs_delta: bool = True
) -> SparkSession:
    """Return the session of this process, starting Spark where it does not run yet.

    ``conf`` wins over tidemill's settings; what ``spark-submit`` or the cluster set wins over both where it is a static setting.
    ``connectors`` name the jars that sources need; they are brought where tidemill starts pip's Spark itself. Without ``needs_delta`` a
    session that starts here is one of plain Spark, for which no jar is fetched.

    Raises:
        SetupError: there is no Java that fits, or a jar cannot be fetched.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    _silence_java_logs()
    from pyspark.sql import SparkSession

    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return _apply_settings(SparkSession.builder.getOrCreate(), {**_EVERYWHERE, **(conf or {})})
    builder = SparkSession.builder.appName(app_name)
    under_submit = "PYSPARK_GATEWAY_PORT" in os.environ
    if not under_submit and "SPARK_HOME" not in os.environ:
        os.environ["JAVA_HOME"] = str(_java(connectors, needs_delta=needs_delta))
    settings = {**_EVERYWHERE, **_UNTRACED, **(_DELTA if needs_delta else {})}
    if not under_submit:
        settings["spark.master"] = _with_second_try(os.environ.get("TIDEMILL_MASTER", "local[*]"))
    if _is_local(settings.get("spark.master"), under_submit):
        settings |= _ONE_MACHINE
        settings["spark.sql.shuffle.partitions"] = str(max(2, os.cpu_count() or 2))
        settings["spark.sql.warehouse.dir"] = str(Path(tempfile.gettempdir()) / f"tidemill-warehouse-{os.getuid()}")
    settings |= conf or {}
    logger.info("Spark starts with master %s", settings.get("spark.master", "of spark-submit"))
    for key, value in settings.items():
        builder = builder.config(key, value)
    if under_submit:
        return builder.getOrCreate()
    with _utf_8_names():
        if _LOG_LEVEL in os.environ:
            return builder.getOrCreate()
        with _silence_launch():
            return builder.config("spark.log.level", "OFF").getOrCreate()


def _java(connectors: Collection[str], *, needs_delta: bool) -> Path:
    """Return the home of the Java to start, with Delta's and the connectors' jars in place where they are needed."""
    if needs_delta:
        from tidemill.runtime.spark_home import prepare

        return prepare(connectors=connectors).home
    from tidemill.runtime.spark_home import find_java

    return find_java().home


def _silence_java_logs() -> None:
    """Stop PySpark from logging each error with its Java stack trace, besides raising it."""
    from pyspark.logger import PySparkLogger

    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def _silence_launch() -> Iterator[None]:
    """Hide the output of the starting JVM; it is shown only where Spark does not start.

    The JVM inherits this process's standard error when it is launched, so that is redirected during the launch.
    """
    with tempfile.TemporaryFile() as output:
        stderr = os.dup(2)
        sys.stderr.flush()
        os.dup2(output.fileno(), 2)
        try:
            yield
        except Exception as error:
            output.seek(0)
            words = [line for line in output.read().decode(errors="replace").splitlines() if line.strip() and "WARN" not in line]
            raise SetupError(f"Spark did not start: {'; '.join(words[-3:]) or error}") from error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def child_session(spark: SparkSession) -> SparkSession:
    """Return a session of the same application with settings and temporary views of its own."""
    child = spark.newSession()
    return _apply_settings(child, _EVERYWHERE | {"spark.sql.shuffle.partitions": spark.conf.get("spark.sql.shuffle.partitions") or "200"})


def java_version(spark: SparkSession) -> str | None:
    """Return the version of Spark's Java; None through Spark Connect, whose server is on another machine."""
    jvm: Any = getattr(spark, "_jvm", None)
    return None if jvm is None else str(jvm.java.lang.System.getProperty("java.version"))


def opens_all_names(spark: SparkSession) -> bool:
    """Return True where Spark's Java can open files whatever letters their names have: where it was started in a UTF-8 locale.

    This cannot be determined through Spark Connect, whose server is on another machine; True then.
    """
    jvm: Any = getattr(spark, "_jvm", None)
    return jvm is None or _is_utf_8(str(jvm.java.lang.System.getProperty("sun.jnu.encoding")))


@contextmanager
def _utf_8_names() -> Iterator[None]:
    """Start Java in a UTF-8 locale whatever this process has: in another it cannot open files whose names it cannot spell."""
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "C")
    before = os.environ.get("LC_ALL")
    if sys.platform == "linux" and not _is_utf_8(locale):
        os.environ["LC_ALL"] = "C.UTF-8"
    try:
        yield
    finally:
        os.environ.pop("LC_ALL", None)
        if before is not None:
            os.environ["LC_ALL"] = before


def _is_utf_8(encoding: str) -> bool:
    return "UTF-8" in encoding.upper() or "UTF8" in encoding.upper()


def task_slots(spark: SparkSession) -> int:
    """Return how many Spark tasks run at once: what the setting `spark.tidemill.taskSlots` says, else what the scheduler has.

    Partitions of a shuffle are no measure of it: there may be 200 of them on one core. Of a cluster that grows it counts the executors
    that are there; through Spark Connect, which has no access to the scheduler, it is 1.
    """
    declared = spark.conf.get(TASK_SLOTS, None)
    if declared is not None:
        if not declared.isdecimal() or int(declared) < 1:
            raise UsageError(f"{TASK_SLOTS} is {declared!r}; expected a whole number from 1")
        return int(declared)
    from pyspark.sql.utils import is_remote

    if is_remote():
        return 1
    scheduler = spark.sparkContext._jsc.sc()  # Spark uses the same number before it starts a barrier stage
    return max(1, int(scheduler.maxNumConcurrentTasks(scheduler.resourceProfileManager().defaultResourceProfile())))


def _with_second_try(master: str) -> str:
    """Return a local master that tries a task that fails once more, as a cluster does: a Python worker that is lost ends no run."""
    match = re.fullmatch(r"local(?:\[(\d+|\*)\])?", master)
    return f"local[{match.group(1) or 1},2]" if match else master


def _is_local(master: str | None, under_submit: bool) -> bool:
    """Return True where Spark runs on this machine alone; under ``spark-submit`` its settings decide."""
    if not under_submit:
        return bool(master and master.startswith("local"))
    from pyspark import SparkConf

    return SparkConf().get("spark.master", "local").startswith("local")


def _apply_settings(spark: SparkSession, settings: Mapping[str, str]) -> SparkSession:
    for key, value in settings.items():
        spark.conf.set(key, value)
    return spark


class LazySpark:
    """The SparkSession, started by the first node that needs it; a run with nothing to do starts no JVM."""

    def __init__(self, start: Callable[[], SparkSession]) -> None:
        """Remember how to start it."""
        self._start, self._lock = start, threading.Lock()
        self._session: SparkSession | None = None

    def get(self) -> SparkSession:
        """Return the session, starting it at the first call."""
        with self._lock:
            if self._session is None:
                self._session = self._start()
            return self._session
