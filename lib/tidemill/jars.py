"""Jars that Spark lacks, fetched once from Maven Central by Spark's own resolver and laid beside Spark's.

They are put into pip's Spark under the names that the resolver gives them (``org.postgresql_postgresql-42.7.7.jar``); a jar is never
taken away or written over.
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
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from tidemill.errors import SetupError, UsageError, did_you_mean
from tidemill.java import PACKAGED, Java

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
"""What a source may need beside Delta, by name: Maven coordinates, all of them; nothing else is fetched with them."""

_SCALA = "2.13"
# What the packages' own metadata asks for but Spark has already, or is not needed for what is done with them here.
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
        told = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        for name in map(jar_name, wanted):
            jar = Path(scratch) / "ivy" / "jars" / name
            if not jar.exists():
                reason = next((line.strip() for line in told.stderr.splitlines() if "not found" in line or "rror" in line), "no answer")
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

    with warnings.catch_warnings(action="ignore"):  # of old authorities' odd serial numbers, which are theirs to mend
        trusted = x509.load_pem_x509_certificates(Path(bundle).read_bytes())
    entries = [pkcs12.PKCS12Certificate(certificate, f"authority-{place}".encode()) for place, certificate in enumerate(trusted)]
    store = scratch / "trusted.p12"
    store.write_bytes(pkcs12.serialize_java_truststore(entries, BestAvailableEncryption(b"trusted")))
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12", "-Djavax.net.ssl.trustStorePassword=trusted"]
