"""Options of a Kafka source: the brokers, what is read of them, and how its values are taken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.errors import UsageError
from tidemill.redaction import redact
from tidemill.sources.files.json.reader import STRICT
from tidemill.sources.options import checked_options
from tidemill.sources.secrets import reveal
from tidemill.spec.models import (
    ASSIGNED,
    ASSIGNED_EXAMPLE,
    BROKERS,
    CHOICES,
    CLIENT,
    JSON_OPTIONS,
    LIMIT,
    NAMES,
    NOT_HERE,
    OWN_OPTIONS,
    PATTERN,
    READER_OPTIONS,
    STARTING,
    STARTING_EXAMPLE,
    Source,
)

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
    given = _options(source)
    brokers = _one({"`url`": source.url, f"options.{BROKERS}": given.pop(BROKERS, None)}, 'the brokers, such as "host:9092"')[1]
    ways = {"`table`": source.table, **{f"options.{name}": given.pop(name, None) for name in (NAMES, PATTERN, ASSIGNED)}}
    brokers = reveal(brokers)
    way, what = _one(ways, "the topic")
    way = way.removeprefix("options.").replace("`table`", NAMES)
    names = tuple(name.strip() for name in what.split(",") if name.strip()) if way == NAMES else ()
    limit = given.pop(LIMIT, None)
    if limit is not None and (not limit.isdigit() or int(limit) < 1 or source.load == "full"):
        raise UsageError(f"options.{LIMIT} is a number from 1 and for `load: incremental`, found {limit!r} and `load: {source.load}`")
    default = "text" if source.schema_ is None else "json"
    value_format = _choice(given, "valueFormat", default)
    if source.schema_ is not None and value_format != "json":
        raise UsageError(f"`schema` is for JSON values; leave it out, or options.valueFormat: {value_format}")
    # An aborted record never was one; Kafka's own default would read it.
    isolation = _choice(given, f"{CLIENT}isolation.level", "read_committed")
    return Topics(
        brokers=brokers.removeprefix("kafka://"),
        names=tuple(dict.fromkeys(names)),
        pattern=what if way == PATTERN else None,
        assigned=_assigned(what) if way == ASSIGNED else {},
        starting=_starting(given.pop(STARTING, "earliest")),
        limit=None if limit is None else int(limit),
        may_lose=_choice(given, "failOnDataLoss", "true") == "false",
        key_format=_choice(given, "keyFormat", "text"),
        value_format=value_format,
        client={"isolation.level": isolation} | {name.removeprefix(CLIENT): given[name] for name in given if name.startswith(CLIENT)},
        reader={name: given[name] for name in given if name in READER_OPTIONS},
        json=STRICT | {name: given[name] for name in given if name in JSON_OPTIONS},
    )


def _options(source: Source) -> dict[str, str]:
    for name in source.options:
        if name.lower() in NOT_HERE:
            raise UsageError(f"options.{name} is not for a kafka source to set: {NOT_HERE[name.lower()]}; leave it out")
    clients = [name for name in source.options if name.lower().startswith(CLIENT)]
    given = checked_options(source, (*READER_OPTIONS, *OWN_OPTIONS, *JSON_OPTIONS, *clients))
    return {name.lower() if name in clients else name: value for name, value in given.items()}


def _one(ways: Mapping[str, str | None], what: str) -> tuple[str, str]:
    """Return the one way that is given."""
    given = [(way, value) for way, value in ways.items() if value and value.strip()]
    if len(given) != 1:
        found = " and ".join(way for way, _ in given) or "none"
        raise UsageError(f"give {what} in one of {', '.join(ways)}; found {found}")
    return given[0]


def _choice(given: dict[str, str], name: str, default: str) -> str:
    """Return the value of an option with few values, and take it out of those given."""
    value, known = given.pop(name, default).lower(), CHOICES[name]
    if value not in known:
        raise UsageError(f"options.{name}: expected one of {', '.join(known)}, found {value!r}")
    return value


def _starting(text: str) -> str | dict[str, dict[int, int]]:
    if text.lower() in ("earliest", "latest"):
        return text.lower()
    try:
        return {topic: {int(number): int(offset) for number, offset in offsets.items()} for topic, offsets in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"options.{STARTING}: expected earliest, latest or JSON such as {STARTING_EXAMPLE}, found {text!r}") from error


def _assigned(text: str) -> dict[str, tuple[int, ...]]:
    try:
        return {topic: tuple(int(number) for number in numbers) for topic, numbers in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"options.{ASSIGNED}: expected JSON such as {ASSIGNED_EXAMPLE}, found {text!r}") from error
