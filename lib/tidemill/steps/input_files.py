"""The reader that takes the files of an input: that of their source, or one of their own kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.sources.files import SourceFile
from tidemill.spec.models import Source
from tidemill.steps.scoring_entry import PACKED, Entry

if TYPE_CHECKING:
    from tidemill.spec import Spec


def source_of_files(spec: Spec, entry: Entry, files: Sequence[SourceFile]) -> Source:
    """Return the source whose reader takes the files: the declared one, or one of the files' own kind."""
    sources = spec.pipeline.sources
    declared = None if entry.source is None else sources[entry.source]
    if declared is not None and entry.has_own_reader:
        is_lines = declared.format == "json" and "multiline" not in {name.lower() for name in declared.options}
        if is_lines and _is_array(files[0]):
            return declared.model_copy(update={"options": {**declared.options, "multiLine": True}})
        return declared
    options: dict[str, object] = {}
    if entry.kind in ("csv", "tsv"):
        blocks = [source.options for source in sources.values() if source.format in ("csv", "tsv")]
        shared = {name: value for name, value in (blocks[0] if blocks else {}).items() if all(block.get(name) == value for block in blocks)}
        options = {**shared, "header": True}
        if entry.kind == "tsv":
            options.pop("sep", None)
    elif entry.kind == "json" and _is_array(files[0]):
        options = {"multiLine": True}
    return Source.model_validate(
        {
            "format": entry.kind,
            "path": entry.given,
            "options": options,
            "timezone": "UTC" if declared is None else declared.timezone,
        }
    )


def _is_array(file: SourceFile) -> bool:
    """Return True for a JSON file that is one array, not one object a line."""
    if not file.is_local or Path(file.path).suffix in PACKED:
        return False
    try:
        with Path(file.readable).open("rb") as stream:
            return stream.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError:
        return False  # reading it will tell what is wrong
