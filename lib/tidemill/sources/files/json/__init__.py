"""The source kind ``json``: lines or documents. Only the reader imports Spark."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.sources.options import TEXT
from tidemill.spec.models.source_kinds import FileKind

if TYPE_CHECKING:
    from tidemill.sources.files.listing import SourceFile
    from tidemill.spec.models import Source


VALUE_OPTIONS = (
    *("dateFormat", "timestampFormat", "timestampNTZFormat", "enableDateTimeParsingFallback"),
    *("primitivesAsString", "prefersDecimal", "allowComments", "allowUnquotedFieldNames", "allowSingleQuotes"),
    *("allowNumericLeadingZeros", "allowBackslashEscapingAnyCharacter", "allowNonNumericNumbers", "allowUnquotedControlChars"),
)
"""Options about values instead of files; Kafka messages have them too."""

_MAX_BYTES = 8 * 2**20
"""Files that are larger in total are not searched for columns."""
_MAX_UNPACKED = 4 * _MAX_BYTES


class Json(FileKind):
    """JSON files: a record per line, or per element of a document."""

    reader = "tidemill.sources.files.json.reader:JsonFiles"
    gives_raw_text = True
    suffixes = (".json", ".jsonl", ".ndjson")
    is_text = True
    tells_columns_by_record = True
    reads_dates_loosely = True
    rounds_decimals = True
    option_names = tuple(dict.fromkeys((*TEXT, *VALUE_OPTIONS)))

    def known_columns(self, source: Source) -> Mapping[str, str | None] | None:
        """Return the keys of all objects, if the files are few, small, and have one object per line."""
        from tidemill.sources.files.listing import list_few_local_files, merge_column_names

        files = list_few_local_files(source)
        if source.options or sum(file.size for file in files) > _MAX_BYTES:
            return None
        return merge_column_names(files, lambda file: list(dict.fromkeys(_read_keys(Path(file.readable)))))

    def names_in(self, file: SourceFile, source: Source | None) -> Sequence[str] | None:
        """Return the keys of the first object."""
        from tidemill.sources.files.encodings import open_unpacked

        with open_unpacked(file.readable) as stream:
            line = next((line for line in stream if line.strip()), b"").strip()
            value = json.loads(line if line.endswith(b"}") else line + stream.read())
        first = value[0] if isinstance(value, list) and value else value
        return list(first) if isinstance(first, dict) else None

    def options_of_input(self, file: SourceFile, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options, with ``multiLine`` for a file that is one array unless it is set."""
        says_lines = "multiline" in {name.lower() for name in options}
        return dict(options) if says_lines or not _holds_array(file) else {**options, "multiLine": True}


def _holds_array(file: SourceFile) -> bool:
    from tidemill.sources.files.listing import PACKED

    if not file.is_local or Path(file.path).suffix in PACKED:
        return False
    try:
        with Path(file.readable).open("rb") as stream:
            return stream.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError:
        return False  # the reader will report the error


def _read_keys(file: Path) -> Iterator[str]:
    """Yield the keys of all objects, one object a line.

    Raises:
        ValueError: a line is no JSON object, or the file is too large decompressed.
    """
    bytes_left = _MAX_UNPACKED
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        while line := stream.readline(_MAX_UNPACKED):
            bytes_left -= len(line)
            if bytes_left < 0:
                raise ValueError(f"{file} is too large")
            if line.strip():
                record = json.loads(line.decode("utf-8-sig"))
                if not isinstance(record, dict):
                    raise ValueError(f"{file} holds a line that is no object")
                yield from record
