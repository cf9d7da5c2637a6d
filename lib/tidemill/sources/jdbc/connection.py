"""Where a database is: its URL without secrets in it, and what is handed to the driver apart from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote

from tidemill.errors import SourceError, TidemillError
from tidemill.redaction import register_secret
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.sources.jdbc import Jdbc
from tidemill.sources.kinds import missing_connector
from tidemill.sources.options import reveal
from tidemill.spec.models import Source

_DRIVERS = {"jdbc:postgresql:": "org.postgresql.Driver", "jdbc:sqlite:": "org.sqlite.JDBC"}
_USER, _PASSWORD = ("user", "username", "uid"), ("password", "passwd", "pwd")
_SECRET = re.compile(r"(?i)(pass|pwd|token|secret|key|credential)")
_IN_AUTHORITY = re.compile(r"//([^?#]*)@")  # up to the last @: a password may hold one
_PLAIN_NAME = re.compile(r'([A-Za-z_]\w*|"[^"]+"|`[^`]+`|\[[^\]]+\])(\.([A-Za-z_]\w*|"[^"]+"|`[^`]+`|\[[^\]]+\]))*')


@dataclass(frozen=True)
class Place:
    """A database and a table or query in it.

    ``url`` holds no user and no password: they are among ``properties``. ``text`` is for people and for the lake: nothing that could be
    a secret is in it. ``secrets`` are words that no message may hold.
    """

    url: str
    text: str
    relation: str
    properties: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    connector: str | None

    @classmethod
    def of(cls, source: Source) -> Place:
        """Return the place that the source names."""
        url, found = _without_credentials(reveal(source.url or ""))
        user = reveal(source.user) if source.user is not None else found.get("user")
        password = reveal(source.password) if source.password is not None else found.get("password")
        given = {"user": user, "password": password}
        properties = {name: value for name, value in given.items() if value is not None}
        driver = next((name for start, name in _DRIVERS.items() if url.startswith(start)), None)
        if driver is not None:
            properties["driver"] = driver
        # Of the URL as it is declared: a reference to a secret stays a reference.
        head = re.split(r"[?;]", _without_credentials(source.url or "")[0])[0]
        text = f"{head} (query)" if source.table is None else f"{head}/{source.table}"
        known = tuple(word for word in {user, password, *found.values(), *_secret_values(url)} if word)
        for word in (password, *_secret_values(url)):
            register_secret(word or "")
        return cls(url, text, _relation(source), properties, known, Jdbc("jdbc").connector(source))

    @property
    def is_postgresql(self) -> bool:
        """True for PostgreSQL."""
        return self.url.startswith("jdbc:postgresql:")

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite."""
        return self.url.startswith("jdbc:sqlite:")

    def refuse(self, error: BaseException) -> NoReturn:
        """Raise what the database or its driver says as one format_spark_error, without a secret in it.

        Raises:
            SetupError: there is no driver.
            SourceError: anything else.
        """
        if isinstance(error, TidemillError):
            raise error
        if "ClassNotFoundException" in str(error) or "No suitable driver" in str(error):
            raise missing_connector(self.text, self.connector) from error
        said = re.sub(r"^(ERROR|FATAL):\s*", "", self.masked(format_spark_error(error)))
        raise SourceError(f"{self.text}: {said}; check url, user, password and the name of the table") from error

    def masked(self, text: str) -> str:
        """Return the text with ``***`` for each secret in it."""
        for word in sorted(self.secrets, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "***", text)
        return text


def _without_credentials(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL without user and password, and these."""
    found: dict[str, str] = {}
    authority = _IN_AUTHORITY.search(url)
    if authority is not None:
        user, _, password = authority.group(1).partition(":")
        found = {"user": unquote(user), "password": unquote(password)} if password else {"user": unquote(user)}
        url = url[: authority.start()] + "//" + url[authority.end() :]
    head, mark, rest = _split(url)
    kept = []
    for part in re.split(r"[&;]", rest) if rest else []:
        name, _, value = part.partition("=")
        if name.lower() in _USER + _PASSWORD:
            found["user" if name.lower() in _USER else "password"] = unquote(value) if mark == "?" else value
        else:
            kept.append(part)
    joint = "&" if mark == "?" else ";"
    return head + (mark + joint.join(kept) if kept else ""), found


def _split(url: str) -> tuple[str, str, str]:
    place = re.search(r"[?;]", url)
    return (url, "", "") if place is None else (url[: place.start()], place.group(), url[place.end() :])


def _secret_values(url: str) -> list[str]:
    rest = _split(url)[2]
    pairs = [part.partition("=") for part in re.split(r"[&;]", rest)]
    return [value for name, _, value in pairs if value and _SECRET.search(name)]


def _relation(source: Source) -> str:
    """Return what stands behind FROM: the table as it is written (a name that is no identifier is quoted), or the query."""
    if source.table is None:
        return f"({(source.query or '').strip().rstrip(';')}\n) tidemill_q"
    is_name = _PLAIN_NAME.fullmatch(source.table.strip()) is not None
    return source.table.strip() if is_name else '"' + source.table.replace('"', '""') + '"'
