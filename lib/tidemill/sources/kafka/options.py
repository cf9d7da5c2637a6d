"""Options of a Kafka source: the brokers, what is read of them, and how its values are taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.errors import UsageError
from tidemill.redaction import redact
from tidemill.sources.files.json import VALUE_OPTIONS
from tidemill.sources.files.json.reader import STRICT
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
from tidemill.sources.options import checked_options
from tidemill.sources.secrets import reveal
from tidemill.spec.models import Source
from tidemill.spec.models.source_kinds import DeclaredSource

_SECRET = re.compile(r"password|secret|jaas|token|credential|private|\.key$|keystore\.key|certificate", re.IGNORECASE)
_QUOTED = re.compile(r"""["']([^"']{3,})["']""")


@dataclass(frozen=True)
class Topics:
    """What is read of which brokers.

    One of ``names``, ``pattern`` (Java's, of the whole name) and ``assigned`` (topic → partitions) is given. A key is ``text`` or
    ``binary``, a value ``json``, ``text`` or ``binary``. ``client`` holds the options of Kafka's clients without Spark's prefix,
    ``reader`` those of Spark, ``json`` those of the values. ``may_lose`` lets a run go on where records are gone.
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
        """Return brokers and topics as one text; it holds no credentials."""
        what = self.pattern or ",".join(self.names or self.assigned)
        return redact(f"kafka://{self.brokers}/{what}")

    def without_secrets(self, text: str) -> str:
        """Return the text with ``***`` for the values of options that are secret."""
        for name, value in self.client.items():
            if _SECRET.search(name):
                for secret in (value, *_QUOTED.findall(value)):
                    text = text.replace(secret, "***") if secret else text
        return text


def topics_of(source: Source) -> Topics:
    """Return what the source's ``url``, ``table`` and ``options`` say.

    Raises:
        UsageError: an option is unknown, has a wrong value, or the brokers or topics are missing or given twice.
    """
    for path, fault in Kafka(source.format).faults(DeclaredSource.of(source)):
        raise UsageError(f"{'.'.join(path)}: {fault}")
    clients = [name for name in source.options if name.lower().startswith(CLIENT)]
    given = checked_options(source, (*Kafka.option_names, *clients))
    # An aborted record never was one; Kafka's own default would read it.
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
        json=STRICT | {name: given[name] for name in given if name in VALUE_OPTIONS},
    )
