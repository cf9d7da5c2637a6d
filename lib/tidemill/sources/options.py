"""Options of a source, as Spark names them, and the secrets in them: checked, completed, looked up when a source is read, kept nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from tidemill.errors import SourceError, UsageError, did_you_mean
from tidemill.redaction import MASK, register_secret
from tidemill.spec.loading.paths import escaped, is_pattern
from tidemill.spec.models import Scalar, Source

_REFERENCE = re.compile(r"\$\{secret:([^}/]+)/([^}]+)\}")
_WITH_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def reveal(text: str) -> str:
    """Return ``text`` with each ``${secret:scope/key}`` put in.

    On Databricks a secret comes from its secret scopes, elsewhere from the environment: ``TIDEMILL_SECRET_SCOPE_KEY``, in capitals,
    with ``_`` for what is no letter or digit. Each is registered, so that no message holds it; a short one together with the letters and
    digits it stands among, as it is not looked for inside words.

    Raises:
        UsageError: there is no such secret.
    """
    parts, position = [], 0
    for match in _REFERENCE.finditer(text):
        secret = _secret(match[1], match[2])
        before, after = re.search(r"[A-Za-z0-9]*$", text[: match.start()]), re.match(r"[A-Za-z0-9]*", text[match.end() :])
        register_secret(secret)
        if secret:
            register_secret(f"{before[0] if before else ''}{secret}{after[0] if after else ''}")
        parts += [text[position : match.start()], secret]
        position = match.end()
    return "".join([*parts, text[position:]])


def reveal_path(path: str) -> str:
    """Return a path or glob with its secrets put in; a secret is taken literally in a glob.

    Raises:
        SourceError: a path that begins with a secret is no absolute path: what it is relative to is not known here.
    """
    if not _REFERENCE.search(path):
        return path
    is_glob = is_pattern(_REFERENCE.sub("", path))
    revealed = _REFERENCE.sub(lambda match: escaped(reveal(match[0])), path) if is_glob else reveal(path)
    reveal(path)  # registers what a short secret stands among
    if path.startswith("${") and not (PurePosixPath(revealed).is_absolute() or _WITH_SCHEME.match(revealed)):
        raise SourceError(f"path {path}: begins with a secret that is no absolute path; write what stands before it, such as ./{path}")
    return revealed


def mask_path(path: str, source: Source) -> str:
    """Return a path of the source with ``***`` for the secrets of its own ``path``: what the lake knows its file by.

    Other secrets that this process may know play no part, as the same file must have the same name in every run.
    """
    secrets = {reveal(match[0]) for declared in source.paths for match in _REFERENCE.finditer(declared)}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        path = path.replace(secret, MASK)
    return path


def has_secret_path(source: Source) -> bool:
    """Return True where a secret is part of the source's paths."""
    return any(_REFERENCE.search(path) for path in source.paths)


def _secret(scope: str, key: str) -> str:
    name = "TIDEMILL_SECRET_" + re.sub(r"[^A-Z0-9]", "_", f"{scope}_{key}".upper())
    if name in os.environ:
        return os.environ[name]
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        from databricks.sdk.runtime import dbutils

        return str(dbutils.secrets.get(scope, key))
    raise UsageError(f"the secret {scope}/{key} is not known here; export it as {name}")


TEXT = (
    *("encoding", "lineSep", "multiLine", "locale", "maxRecordBytes"),
    *("dateFormat", "timestampFormat", "timestampNTZFormat", "enableDateTimeParsingFallback"),
)
"""Options that every kind of text file has."""

_ALIASES = {"delimiter": "sep", "charset": "encoding"}
_TIDEMILLS = {
    "inferschema": "an absent `schema` is inferred anyway",
    "mode": "every record is kept, good or quarantined",
    "columnnameofcorruptrecord": "refused records are in the quarantine table",
    "badrecordspath": "refused records are in the quarantine table",
    "enforceschema": "columns map by name, file by file",
    "timezone": "write `timezone:` beside `format:`",
    "compression": "it is read from the end of the file's name (.gz, .bz2)",
    "path": "write `path:` beside `format:`",
    "ignorecorruptfiles": "`on_bad_file:` says what becomes of them",
    "ignoremissingfiles": "`on_bad_file:` says what becomes of them",
    "mergeschema": "columns map by name, file by file",
}


def checked_options(source: Source, known: Collection[str]) -> dict[str, str]:
    """Return the options under Spark's own spelling of their names, booleans as ``true`` and ``false``.

    Raises:
        UsageError: an option that is unknown, or whose work tidemill does itself.
    """
    spelling = {name.lower(): name for name in known}
    options = {}
    for given, value in source.options.items():
        name = _ALIASES.get(given.lower(), given).lower()
        if name in _TIDEMILLS:
            if name == "inferschema":
                continue
            raise UsageError(f"options.{given} is not for a {source.format} source to set: {_TIDEMILLS[name]}; leave it out")
        if name not in spelling:
            near = did_you_mean(given, known)
            raise UsageError(f"options.{given}: unknown option of {source.format}{near}; known: {', '.join(sorted(known))}")
        options[spelling[name]] = reveal(_text(value))
    return options


def is_on(options: Mapping[str, str], name: str) -> bool:
    """Return True where an option is ``true``; absent is false."""
    return options.get(name, "false").lower() == "true"


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
