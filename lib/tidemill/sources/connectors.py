"""Which connectors sources need: jars that a session must have before its Java starts."""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.errors import SetupError
from tidemill.spec.models import Source

_BY_URL = {"jdbc:postgresql:": "postgresql", "jdbc:sqlite:": "sqlite"}


def needed_connectors(sources: Iterable[Source]) -> tuple[str, ...]:
    """Return the names of the connectors (``jars.CONNECTORS``) that these sources need, in order, each once."""
    return tuple(dict.fromkeys(name for name in map(connector, sources) if name is not None))


def connector(source: Source) -> str | None:
    """Return the connector that a source needs, None for one that Spark reads by itself or whose driver tidemill does not bring."""
    if source.format == "kafka":
        return "kafka"
    if source.format != "jdbc" or source.url is None:
        return None
    return next((name for start, name in _BY_URL.items() if source.url.lower().startswith(start)), None)


def not_there(what: str, name: str | None) -> SetupError:
    """Return the error that a connector's jars are not on the class path of a Java that runs already."""
    if name is None:
        return SetupError(f"{what}: Spark has no driver for it; pass its jar to spark-submit by --jars, and give `options: {{driver: …}}`")
    return SetupError(
        f"{what}: the Spark that runs has no connector {name!r}; run `python -m tidemill.spark_home --with {name}` "
        "and start again, or give spark-submit its jars by --packages"
    )
