"""Prepares the Spark that pip installed: Delta's jars on its class path, settings for one machine, a Java that fits.

All of it lies inside the installed ``pyspark`` package, where ``spark-submit``, ``pyspark`` and the ``tidemill`` command look
first, so that each of them works without options. A Spark that is not pip's (a cluster's, Databricks') is never touched.

Run as ``python -m tidemill.spark_home`` at set-up; a session does it by itself where it was forgotten.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tidemill.errors import SetupError, TidemillError
from tidemill.java import PACKAGED, RUNTIME_PACKAGE, Java, NoJava, find_java
from tidemill.lake.lock import locked

_SCALA = "2.13"
_JARS = ("delta-spark", "delta-storage")
# What Delta's own metadata asks for but Spark has already, or Delta does not need for tables below a path.
_EXCLUDED = (
    *("com.fasterxml.jackson.core", "com.fasterxml.jackson.datatype", "com.github.luben", "com.google.code.findbugs", "commons-logging"),
    *("commons-pool", "io.airlift", "io.unitycatalog", "javax.annotation", "org.apache.hadoop", "org.apache.logging.log4j"),
    *("org.apache.parquet", "org.locationtech.jts", "org.roaringbitmap", "org.slf4j", "org.xerial.snappy"),
)

_DEFAULTS = """\
# Written by tidemill: settings for Spark on one machine. Options of a command and SPARK_CONF_DIR win over them.
spark.master                     local[*]
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


def delta_jars(home: Path) -> list[Path]:
    """Return Delta's jars in the Spark at ``home``; empty where they are not both there."""
    found = [home / "jars" / name for name in _jar_names()]
    return found if all(jar.exists() for jar in found) else []


def prepare(home: Path | None = None) -> Java:
    """Make the Spark at ``home`` ready, doing only what is not done yet; return the Java it will use."""
    home = home or spark_home()
    java = find_java()
    with locked(str(home), "tidemill"):
        _write(home / "conf" / "spark-defaults.conf", _DEFAULTS)
        _write(home / "conf" / "log4j2.properties", _LOG)
        _write(home / "conf" / "spark-env.sh", _environment(java))
        if not delta_jars(home):
            _fetch_jars(home, java)
    return java


def _jar_names() -> list[str]:
    delta, spark = version("delta-spark"), ".".join(version("pyspark").split(".")[:2])
    return [f"io.delta_{name}{f'_{spark}_{_SCALA}' if name == 'delta-spark' else ''}-{delta}.jar" for name in _JARS]


def _environment(java: Java) -> str:
    return f"""\
# Written by tidemill. A JAVA_HOME that was looked at and found unfit must not win.
export JAVA_HOME="{java.home}"
export PYSPARK_PYTHON="${{PYSPARK_PYTHON:-{sys.executable}}}"
export SPARK_LOCAL_IP="${{SPARK_LOCAL_IP:-127.0.0.1}}"
"""


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _fetch_jars(home: Path, java: Java) -> None:
    """Let Spark's own resolver fetch Delta's jars from Maven Central, once.

    Java's ``user.home`` is an empty folder meanwhile: the resolver trusts ``~/.m2/repository``, and one that holds descriptions without
    their jars makes it fail.
    """
    delta, spark = version("delta-spark"), ".".join(version("pyspark").split(".")[:2])
    with tempfile.TemporaryDirectory() as scratch:
        nothing = Path(scratch) / "nothing.py"
        nothing.write_text("", encoding="utf-8")
        command = [
            str(home / "bin" / "spark-submit"),
            *("--master", "local[1]", "--conf", f"spark.jars.ivy={scratch}/ivy"),
            *("--driver-java-options", " ".join([f"-Duser.home={scratch}", *_trust(java, Path(scratch))])),
            *("--packages", f"io.delta:delta-spark_{spark}_{_SCALA}:{delta},io.delta:delta-storage:{delta}"),
            *("--exclude-packages", ",".join(f"{group}:*" for group in _EXCLUDED)),
            str(nothing),
        ]
        environ = {**os.environ, "SPARK_HOME": str(home), "JAVA_HOME": str(java.home), "PYSPARK_PYTHON": sys.executable}
        told = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        for name in _jar_names():
            jar = Path(scratch) / "ivy" / "jars" / name
            if not jar.exists():
                reason = next((line.strip() for line in told.stderr.splitlines() if "not found" in line or "rror" in line), "no answer")
                raise SetupError(f"Delta's jar {name} could not be fetched from Maven Central ({reason}); check the network and run again")
            part = home / "jars" / f"{name}.{os.getpid()}"
            shutil.copyfile(jar, part)
            part.replace(home / "jars" / name)


def _trust(java: Java, scratch: Path) -> list[str]:
    """Return the options by which the packaged runtime trusts what this machine trusts, such as a company's proxy.

    A system's Java is set up by the system; the packaged one knows the public authorities only.
    """
    bundle = ssl.get_default_verify_paths().cafile
    if java.found_in != PACKAGED or bundle is None or importlib.util.find_spec("cryptography") is None:
        return []
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    with warnings.catch_warnings(action="ignore"):  # of old authorities' odd serial numbers, which are theirs to mend
        trusted = x509.load_pem_x509_certificates(Path(bundle).read_bytes())
    entries = [pkcs12.PKCS12Certificate(certificate, f"authority-{place}".encode()) for place, certificate in enumerate(trusted)]
    store = scratch / "trusted.p12"
    store.write_bytes(pkcs12.serialize_java_truststore(entries, BestAvailableEncryption(b"trusted")))
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12", "-Djavax.net.ssl.trustStorePassword=trusted"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare Spark and say what was found, for ``make``; ``--bring-java`` installs a runtime where there is no Java that fits."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        try:
            java = prepare()
        except NoJava as error:
            if "--bring-java" not in words:
                raise
            sys.stderr.write(f"{error.found}; installing a runtime: {RUNTIME_PACKAGE}\n")
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", RUNTIME_PACKAGE], check=True)
            importlib.invalidate_caches()
            java = prepare()
    except TidemillError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except subprocess.CalledProcessError:
        sys.stderr.write(f"{RUNTIME_PACKAGE} could not be installed; set JAVA_HOME to a Java 17 or 21 and run again\n")
        return 2
    sys.stderr.write(f"Java {java.version} ({java.found_in}), Spark {version('pyspark')}, Delta {version('delta-spark')}: ready\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
