"""The connection to a database: its URL without secrets, and the properties for the driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote

from tidemill.errors import SourceError, TidemillError
from tidemill.redaction import register_secret
from tidemill.runtime.secrets import reveal
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.sources.jdbc import Jdbc
from tidemill.sources.kinds import missing_connector
from tidemill.spec.models import Source

_DRIVERS = {"jdbc:postgresql:": "org.postgresql.Driver", "jdbc:sqlite:": "org.sqlite.JDBC"}
_USER, _PASSWORD = ("user", "username", "uid"), ("password", "passwd", "pwd")
_SECRET = re.compile(r"(?i)(pass|pwd|token|secret|key|credential)")
_IN_AUTHORITY = re.compile(r"//([^?#]*)@")  # up to the last @: a password may hold one
_PLAIN_NAME = re.compile(r'([A-Za-z_]\w*|"[^"]+"|`[^`]+`|\[[^\]]+\])(\.([A-Za-z_]\w*|"[^"]+"|`[^`]+`|\[[^\]]+\]))*')


@dataclass(frozen=True)
class JdbcConnection:
    """A database and a table or query in it.

    ``url`` has no user and no password, which are among ``properties``. ``text`` names the place in messages and in the lake, without
    anything that could be a secret. ``secrets`` are words to mask in messages.
    """

    url: str
    text: str
    relation: str
    properties: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    connector: str | None

    @classmethod
    def of(cls, source: Source) -> JdbcConnection:
        """Return the connection that the source declares."""
        url, credentials = _strip_credentials(reveal(source.url or ""))
        user = reveal(source.user) if source.user is not None else credentials.get("user")
        password = reveal(source.password) if source.password is not None else credentials.get("password")
        settings = {"user": user, "password": password}
        properties = {name: value for name, value in settings.items() if value is not None}
        driver = next((name for start, name in _DRIVERS.items() if url.startswith(start)), None)
        if driver is not None:
            properties["driver"] = driver
        # From the declared URL, in which references to secrets are not revealed.
        head = re.split(r"[?;]", _strip_credentials(source.url or "")[0])[0]
        text = f"{head} (query)" if source.table is None else f"{head}/{source.table}"
        secrets = tuple(word for word in {user, password, *credentials.values(), *_find_secret_values(url)} if word)
        for word in (password, *_find_secret_values(url)):
            register_secret(word or "")
        return cls(url, text, _format_relation(source), properties, secrets, Jdbc("jdbc").connector(source))

    def raise_error(self, error: BaseException) -> NoReturn:
        """Raise an error of the database or its driver as one sentence without secrets.

        Raises:
            SetupError: there is no driver.
            SourceError: anything else.
        """
        if isinstance(error, TidemillError):
            raise error
        if "ClassNotFoundException" in str(error) or "No suitable driver" in str(error):
            raise missing_connector(self.text, self.connector) from error
        reason = re.sub(r"^(ERROR|FATAL):\s*", "", self.mask(format_spark_error(error)))
        raise SourceError(f"{self.text}: {reason}; check url, user, password and the name of the table") from error

    def mask(self, text: str) -> str:
        """Return the text with ``***`` for each secret in it."""
        for word in sorted(self.secrets, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "***", text)
        return text


def _strip_credentials(url: str) -> tuple[str, dict[str, str]]:
    """Split user and password off a URL; return the URL and both."""
    credentials: dict[str, str] = {}
    authority = _IN_AUTHORITY.search(url)
    if authority is not None:
        user, _, password = authority.group(1).partition(":")
        credentials = {"user": unquote(user), "password": unquote(password)} if password else {"user": unquote(user)}
        url = url[: authority.start()] + "//" + url[authority.end() :]
    head, mark, rest = _split_parameters(url)
    others = []
    for part in re.split(r"[&;]", rest) if rest else []:
        name, _, value = part.partition("=")
        if name.lower() in _USER + _PASSWORD:
            credentials["user" if name.lower() in _USER else "password"] = unquote(value) if mark == "?" else value
        else:
            others.append(part)
    joint = "&" if mark == "?" else ";"
    return head + (mark + joint.join(others) if others else ""), credentials


def _split_parameters(url: str) -> tuple[str, str, str]:
    place = re.search(r"[?;]", url)
    return (url, "", "") if place is None else (url[: place.start()], place.group(), url[place.end() :])


def _find_secret_values(url: str) -> list[str]:
    rest = _split_parameters(url)[2]
    pairs = [part.partition("=") for part in re.split(r"[&;]", rest)]
    return [value for name, _, value in pairs if value and _SECRET.search(name)]


def _format_relation(source: Source) -> str:
    """Return the operand of FROM: the table as written (quoted if it is no identifier), or the query."""
    if source.table is None:
        return f"({(source.query or '').strip().rstrip(';')}\n) tidemill_q"
    is_name = _PLAIN_NAME.fullmatch(source.table.strip()) is not None
    return source.table.strip() if is_name else '"' + source.table.replace('"', '""') + '"'
