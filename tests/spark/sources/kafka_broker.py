"""Apache Kafka's own broker on loopback for the tests, and a client of it through the JVM of their Spark session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tidemill.runtime.locks import hold_lock
from tidemill.runtime.spark_home import find_java, spark_home

BROKER = "org.apache.kafka:kafka_2.13:4.3.1"
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/log
auto.create.topics.enable=false
log.retention.ms=-1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
transaction.partition.verification.enable=false
"""
# It has little to do here; the slow compiler and a wide heap would not repay.
_JAVA = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class NoBrokerError(Exception):
    """The broker's jars cannot be fetched."""


def broker_jars() -> Path:
    """Return the folder with the broker's jars; Spark's own resolver fetches them once into the user's cache.

    Raises:
        NoBrokerError: they cannot be had.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemill" / BROKER.replace(":", "_")
    home = spark_home()
    with hold_lock(str(cache.parent), "kafka-broker"):
        if cache.exists():
            return cache
        with tempfile.TemporaryDirectory() as scratch:
            nothing = Path(scratch) / "nothing.py"
            nothing.write_text("")
            # An empty user.home: the resolver would trust a half-filled ~/.m2/repository.
            command = [str(home / "bin" / "spark-submit"), "--master", "local[1]", "--conf", f"spark.jars.ivy={scratch}/ivy"]
            command += ["--driver-java-options", f"-Duser.home={scratch}", "--packages", BROKER, str(nothing)]
            environ = {**os.environ, "SPARK_HOME": str(home), "JAVA_HOME": str(find_java().home), "PYSPARK_PYTHON": sys.executable}
            told = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
            jars = Path(scratch) / "ivy" / "jars"
            if not (jars / f"{BROKER.replace(':kafka', '_kafka').replace(':', '-')}.jar").exists():
                raise NoBrokerError(f"{BROKER} cannot be fetched: {told.stderr.strip().splitlines()[-1:]}")
            # The resolver takes Scala's library as given, since Spark has it.
            shutil.copy(next((home / "jars").glob("scala-library-*.jar")), jars)
            part = cache.with_name(f"{cache.name}.{os.getpid()}")
            shutil.copytree(jars, part)
            part.replace(cache)
    return cache


class Broker:
    """A broker and controller in one process, with an empty log; ``url`` is where it listens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        port, controller = _free_ports(2)
        self.url = f"127.0.0.1:{port}"
        settings = folder / "server.properties"
        settings.write_text(_SETTINGS.format(port=port, controller=controller, folder=folder))
        java = [str(find_java().home / "bin" / "java"), *_JAVA, "-cp", f"{broker_jars()}/*"]
        subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", "A" * 22, "-c", str(settings)], check=True, capture_output=True)
        with (folder / "broker.log").open("wb") as log:
            self._process = subprocess.Popen([*java, "kafka.Kafka", str(settings)], stdout=log, stderr=log)
        self._wait(port)

    def _wait(self, port: int) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            with socket.socket() as probe_files:
                if probe_files.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        self.stop()
        raise AssertionError(f"the broker did not start: {(self._folder / 'broker.log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End the process; its folder is the caller's to delete."""
        self._process.kill()
        self._process.wait()


class Client:
    """Makes topics and messages, through the classes that Spark's connector brings."""

    def __init__(self, spark: Any, url: str) -> None:
        self._jvm = spark._jvm
        self._kafka = self._jvm.org.apache.kafka
        self._settings = {"bootstrap.servers": url, "acks": "all"}
        self._admin = self._kafka.clients.admin.AdminClient.create(self._map(self._settings))
        # On a topic made a moment ago an idempotent producer was seen to give up on a second batch after its two minutes.
        self._producer = self._new_producer({"enable.idempotence": "false", "delivery.timeout.ms": "30000", "request.timeout.ms": "10000"})

    def close(self) -> None:
        self._producer.close()
        self._admin.close()

    def create(self, topic: str, partitions: int = 1, **config: str) -> None:
        new = self._kafka.clients.admin.NewTopic(topic, partitions, 1).configs(self._map(config))
        self._admin.createTopics(self._jvm.java.util.List.of(new)).all().get()

    def delete(self, topic: str) -> None:
        self._admin.deleteTopics(self._jvm.java.util.List.of(topic)).all().get()

    def add_partitions(self, topic: str, count: int) -> None:
        wanted = self._jvm.java.util.HashMap()
        wanted.put(topic, self._kafka.clients.admin.NewPartitions.increaseTo(count))
        self._admin.createPartitions(wanted).all().get()

    def expire(self, topic: str, partition: int, before: int) -> None:
        """Delete the records of a partition that stand before an offset, as retention does."""
        # `beforeOffset` is a static method and a getter too, and py4j only finds the getter.
        made = self._jvm.java.lang.Class.forName("org.apache.kafka.clients.admin.RecordsToDelete").getMethods()
        static = next(method for method in made if method.getName() == "beforeOffset" and method.getParameterCount() == 1)
        wanted = self._jvm.java.util.HashMap()
        wanted.put(self._kafka.common.TopicPartition(topic, partition), static.invoke(None, self._array(self._jvm.Object, [before])))
        self._admin.deleteRecords(wanted).all().get()

    def send(self, topic: str, *messages: Sequence[Any], producer: Any = None) -> None:
        """Send messages, each ``(partition, key, value)`` or ``(partition, key, value, headers, timestamp)``."""
        producer = producer or self._producer
        for partition, key, value, *more in messages:
            headers = [self._kafka.common.header.internals.RecordHeader(name, text) for name, text in (more[0] if more else [])]
            at = more[1] if len(more) > 1 else None
            kept = self._jvm.java.util.ArrayList(headers)
            record = self._kafka.clients.producer.ProducerRecord(topic, partition, at, _bytes(key), _bytes(value), kept)
            # Waited for one by one: what does not arrive is an error here, not a message that a test finds missing.
            producer.send(record).get()

    def transact(self, topic: str, *messages: Sequence[Any], commit: bool) -> None:
        """Send messages in a transaction, and commit or abort it."""
        producer = self._new_producer({"transactional.id": "tests"})
        producer.initTransactions()
        producer.beginTransaction()
        self.send(topic, *messages, producer=producer)
        producer.commitTransaction() if commit else producer.abortTransaction()
        producer.close()

    def _new_producer(self, more: Mapping[str, str] | None = None) -> Any:
        serializer = self._kafka.common.serialization.ByteArraySerializer
        return self._kafka.clients.producer.KafkaProducer(self._map({**self._settings, **(more or {})}), serializer(), serializer())

    def _map(self, values: Mapping[str, str]) -> Any:
        made = self._jvm.java.util.HashMap()
        for name, value in values.items():
            made.put(name, value)
        return made

    def _array(self, kind: Any, values: Sequence[Any]) -> Any:
        from pyspark import SparkContext

        made = SparkContext._gateway.new_array(kind, len(values))
        for place, value in enumerate(values):
            made[place] = value
        return made


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
