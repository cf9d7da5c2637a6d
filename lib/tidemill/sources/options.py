"""Options of a source, as Spark names them: checked, completed, and split by who takes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tidemill.errors import UsageError, did_you_mean
from tidemill.sources.secrets import reveal
from tidemill.spec.models import Scalar, Source

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
