"""The topics of a Kafka source, by its options and by its brokers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from py4j.java_gateway import JavaPackage
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from tidemill.errors import SetupError, SourceError, UsageError, did_you_mean
from tidemill.redaction import redact
from tidemill.runtime.secrets import reveal
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.sources.files.json import VALUE_OPTIONS
from tidemill.sources.files.json.reader import STRICT_OPTIONS
from tidemill.sources.kafka import (
    ASSIGNED,
    BROKERS,
    CLIENT,
    LIMIT,
    NAMES,
    PATTERN,
    READER_OPTIONS,
    STARTING,
    Kafka,
    parse_assigned,
    parse_starting,
)
from tidemill.sources.options import resolve_options
from tidemill.spec.models import Source
from tidemill.spec.models.source_kinds import DeclaredSource

_SECRET = re.compile(r"password|secret|jaas|token|credential|private|\.key$|keystore\.key|certificate", re.IGNORECASE)
_QUOTED = re.compile(r"""["']([^"']{3,})["']""")


@dataclass(frozen=True)
class Topics:
    """The parsed declaration of a source.

    One of ``names``, ``pattern`` (a Java pattern of whole names) and ``assigned`` (topic → partitions) is given. Keys are ``text`` or
    ``binary``, values ``json``, ``text`` or ``binary``. ``client`` has the options of Kafka's clients without Spark's prefix, ``reader``
    those of Spark, ``json`` those of JSON values. With ``may_lose``, a run continues where records are gone.
    """

    brokers: str
    names: tuple[str, ...] = ()
    pattern: str | None = None
    assigned: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    starting: str | Mapping[str, Mapping[int, int]] = "earliest"
    limit: int | None = None
    may_lose: bool = False
    key_format: str = "text"
    value_format: str = "text"
    client: Mapping[str, str] = field(default_factory=dict, repr=False)
    reader: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Brokers and topics as one text without credentials."""
        what = self.pattern or ",".join(self.names or self.assigned)
        return redact(f"kafka://{self.brokers}/{what}")

    def mask_secrets(self, text: str) -> str:
        """Return the text with ``***`` for the values of secret options."""
        for name, value in self.client.items():
            if _SECRET.search(name):
                for secret in (value, *_QUOTED.findall(value)):
                    text = text.replace(secret, "***") if secret else text
        return text


def parse_topics(source: Source) -> Topics:
    """Parse the source's ``url``, ``table`` and ``options``.

    Raises:
        UsageError: an option is unknown, has a wrong value, or the brokers or topics are missing or given twice.
    """
    for path, fault in Kafka(source.format).faults(DeclaredSource.of(source)):
        raise UsageError(f"{'.'.join(path)}: {fault}")
    clients = [name for name in source.options if name.lower().startswith(CLIENT)]
    given = resolve_options(source, (*Kafka.option_names, *clients))
    # Kafka's own default would read aborted records.
    client = {"isolation.level": "read_committed"}
    client |= {name.lower().removeprefix(CLIENT): given[name] for name in clients}
    brokers = client.pop(BROKERS.removeprefix(CLIENT), None) or reveal(source.url or "")
    names = (source.table or given.get(NAMES) or "").split(",")
    limit = given.get(LIMIT)
    return Topics(
        brokers=brokers.removeprefix("kafka://"),
        names=tuple(dict.fromkeys(name.strip() for name in names if name.strip())),
        pattern=given.get(PATTERN),
        assigned=parse_assigned(given[ASSIGNED]) if ASSIGNED in given else {},
        starting=parse_starting(given.get(STARTING, "earliest")),
        limit=None if limit is None else int(limit),
        may_lose=given.get("failOnDataLoss", "true").lower() == "false",
        key_format=given.get("keyFormat", "text").lower(),
        value_format=given.get("valueFormat", "text" if source.schema_ is None else "json").lower(),
        client=client | {"isolation.level": client["isolation.level"].lower()},
        reader={name: given[name] for name in given if name in READER_OPTIONS},
        json=STRICT_OPTIONS | {name: given[name] for name in given if name in VALUE_OPTIONS},
    )


_TIMEOUT_MS = "10000"
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
# Databricks ships Kafka's classes under a name of its own.
_PACKAGES = ("org.apache.kafka", "kafkashaded.org.apache.kafka")


@dataclass(frozen=True)
class Bounds:
    """Offsets of one partition: that of the oldest stored record, and that of the next record."""

    earliest: int
    latest: int


@dataclass(frozen=True)
class Topic:
    """A topic at the brokers; a recreated topic has another ``id``; None from brokers without ids."""

    id: str | None
    partitions: Mapping[int, Bounds]


def describe_topics(spark: SparkSession, topics: Topics, before: Iterable[str] = ()) -> dict[str, Topic]:
    """Return the topics to read with their current offsets.

    Topics that were read ``before``, match the pattern and no longer exist are returned without partitions.

    Raises:
        SourceError: the brokers do not answer or refuse, or a topic or partition does not exist.
        SetupError: Kafka's classes are not on Spark's class path.
    """
    with _open_admin(spark, topics) as (jvm, kafka, admin):
        gone: tuple[str, ...] = ()
        names = topics.names or tuple(topics.assigned)
        if topics.pattern is not None:
            there = [str(name) for name in admin.listTopics().names().get()]
            names = _match_names(jvm, topics.pattern, there)
            gone = _match_names(jvm, topics.pattern, [name for name in before if name not in there])
            if not names and not gone:
                raise SourceError(f"no topic at {topics.brokers} matches {topics.pattern!r}; {len(there)} topics are there")
        described = _describe_topics(jvm, admin, topics, names)
        wanted = {
            name: topics.assigned.get(name) or tuple(part.partition() for part in described[name].partitions()) for name in sorted(names)
        }
        for name, numbers in topics.assigned.items():
            count = len(described[name].partitions())
            if not all(0 <= number < count for number in numbers):
                raise SourceError(f"topic {name!r} has the partitions 0 to {count - 1}, but `assign` names {list(numbers)}")
        earliest, latest = (_list_offsets(jvm, kafka, admin, topics, wanted, which) for which in ("earliest", "latest"))
        ids = {name: str(described[name].topicId().toString()) for name in names}
    return {name: Topic(None, {}) for name in gone} | {
        name: Topic(
            None if ids[name] == _NO_ID else ids[name],
            {number: Bounds(earliest[name, number], latest[name, number]) for number in numbers},
        )
        for name, numbers in wanted.items()
    }


@contextmanager
def _open_admin(spark: SparkSession, topics: Topics) -> Iterator[tuple[Any, Any, Any]]:
    """Open an admin client; yield the JVM, Kafka's package in it, and the client."""
    jvm: Any = getattr(spark, "_jvm", None)
    if jvm is None:
        raise UsageError("a kafka source needs Spark's classic session: Spark Connect does not reach Kafka's own client")
    settings = jvm.java.util.HashMap()
    timeouts = {"default.api.timeout.ms": _TIMEOUT_MS, "request.timeout.ms": _TIMEOUT_MS}
    for name, value in (timeouts | dict(topics.client) | {"bootstrap.servers": topics.brokers}).items():
        settings.put(name, value)
    admin = None
    try:
        kafka = _find_kafka_package(jvm)
        admin = kafka.clients.admin.AdminClient.create(settings)
        yield jvm, kafka, admin
    except Py4JJavaError as error:
        why = topics.mask_secrets(format_spark_error(error))
        raise SourceError(
            f"the brokers at {topics.brokers} cannot be asked: {why}; check `url`, the network and `kafka.*` options"
        ) from error
    finally:
        if admin is not None:
            admin.close(jvm.java.time.Duration.ZERO)


def _find_kafka_package(jvm: Any) -> Any:
    """Return the Java package of Kafka's classes."""
    for package in _PACKAGES:
        package_object = jvm
        for part in package.split("."):
            package_object = getattr(package_object, part)
        if not isinstance(package_object.clients.admin.AdminClient, JavaPackage):
            return package_object
    raise SetupError(
        "Spark's connector for Kafka is not installed: run `python -m tidemill.runtime.spark_home`, "
        "or give spark-submit `--packages org.apache.spark:spark-sql-kafka-0-10_2.13:<Spark's version>`"
    )


def _match_names(jvm: Any, pattern: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that match a Java pattern as a whole."""
    try:
        compiled = jvm.java.util.regex.Pattern.compile(pattern)
    except Py4JJavaError as error:
        raise UsageError(f"options.subscribePattern: {format_spark_error(error)}") from error
    return tuple(sorted(name for name in names if compiled.matcher(name).matches()))


def _describe_topics(jvm: Any, admin: Any, topics: Topics, names: Iterable[str]) -> dict[str, Any]:
    futures = admin.describeTopics(jvm.java.util.ArrayList(list(names))).topicNameValues()
    described = {}
    for name in names:
        try:
            described[name] = futures[name].get()
        except Py4JJavaError as error:
            cause = error.java_exception.getCause()
            if cause is None or not cause.getClass().getSimpleName().startswith(("UnknownTopic", "InvalidTopic")):
                raise
            there = [str(other) for other in admin.listTopics().names().get()]
            raise SourceError(f"there is no topic {name!r} at {topics.brokers}{did_you_mean(name, there)}; check `table`") from error
    return described


def _list_offsets(
    jvm: Any, kafka: Any, admin: Any, topics: Topics, wanted: Mapping[str, Iterable[int]], which: str
) -> dict[tuple[str, int], int]:
    """Return the earliest or latest offset of each partition; records of open transactions are after the latest."""
    specs = jvm.java.util.HashMap()
    for name, numbers in wanted.items():
        for number in numbers:
            specs.put(kafka.common.TopicPartition(name, number), getattr(kafka.clients.admin.OffsetSpec, which)())
    level = getattr(kafka.common.IsolationLevel, topics.client["isolation.level"].upper())
    answer = admin.listOffsets(specs, kafka.clients.admin.ListOffsetsOptions(level)).all().get()
    return {(str(place.topic()), int(place.partition())): int(result.offset()) for place, result in answer.items()}
