"""Check the options of a source, and look up the secrets in them when the source is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from tidemill.errors import SourceError, UsageError, did_you_mean
from tidemill.redaction import MASK
from tidemill.runtime.secrets import SECRET_REFERENCE, reveal
from tidemill.spec.loading.paths import escape_glob, is_pattern
from tidemill.spec.models import Scalar, Source

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def reveal_path(path: str) -> str:
    """Return a path or glob with its secrets revealed; globs take them literally.

    Raises:
        SourceError: a path that begins with a secret is not absolute, and its base folder is unknown here.
    """
    if not SECRET_REFERENCE.search(path):
        return path
    is_glob = is_pattern(SECRET_REFERENCE.sub("", path))
    revealed = SECRET_REFERENCE.sub(lambda match: escape_glob(reveal(match[0])), path) if is_glob else reveal(path)
    reveal(path)  # registers the secrets for redaction
    if path.startswith("${") and not (PurePosixPath(revealed).is_absolute() or _SCHEME.match(revealed)):
        raise SourceError(f"path {path}: begins with a secret that is no absolute path; write what stands before it, such as ./{path}")
    return revealed


def mask_path(path: str, source: Source) -> str:
    """Return a path of the source with ``***`` for the secrets in its ``path:``, the name of the file in the lake.

    Other secrets are not masked, because a file must have the same name in every run.
    """
    secrets = {reveal(match[0]) for declared in source.paths for match in SECRET_REFERENCE.finditer(declared)}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        path = path.replace(secret, MASK)
    return path


def has_secret_path(source: Source) -> bool:
    """Return True where the source's paths contain secrets."""
    return any(SECRET_REFERENCE.search(path) for path in source.paths)


TEXT = (
    *("encoding", "lineSep", "multiLine", "locale", "maxRecordBytes"),
    *("dateFormat", "timestampFormat", "timestampNTZFormat", "enableDateTimeParsingFallback"),
)
"""The options of every kind of text file."""

_ALIASES = {"delimiter": "sep", "charset": "encoding"}
_MANAGED = {
    "inferschema": "an absent `schema` is inferred anyway",
    "mode": "every record is kept, valid or quarantined",
    "columnnameofcorruptrecord": "rejected records are in the quarantine table",
    "badrecordspath": "rejected records are in the quarantine table",
    "enforceschema": "columns map by name, file by file",
    "timezone": "write `timezone:` beside `format:`",
    "compression": "it is read from the end of the file's name (.gz, .bz2)",
    "path": "write `path:` beside `format:`",
    "ignorecorruptfiles": "`on_bad_file:` says what becomes of them",
    "ignoremissingfiles": "`on_bad_file:` says what becomes of them",
    "mergeschema": "columns map by name, file by file",
}


def resolve_options(source: Source, known: Collection[str]) -> dict[str, str]:
    """Return the options under Spark's spelling of their names, with secrets revealed, booleans as ``true`` and ``false``.

    Raises:
        UsageError: an option is unknown, or tidemill sets it itself.
    """
    spelling = {name.lower(): name for name in known}
    options = {}
    for given, value in source.options.items():
        name = _ALIASES.get(given.lower(), given).lower()
        if name in _MANAGED:
            if name == "inferschema":
                continue
            raise UsageError(f"options.{given} is not for a {source.format} source to set: {_MANAGED[name]}; leave it out")
        if name not in spelling:
            near = did_you_mean(given, known)
            raise UsageError(f"options.{given}: unknown option of {source.format}{near}; known: {', '.join(sorted(known))}")
        options[spelling[name]] = reveal(_option_text(value))
    return options


def is_on(options: Mapping[str, str], name: str) -> bool:
    """Return True where an option is ``true``; absent is false."""
    return options.get(name, "false").lower() == "true"


def _option_text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
