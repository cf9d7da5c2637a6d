"""Small text files of a lake, beside its tables."""

from __future__ import annotations

from pathlib import Path

from tidemill.lake.names import is_local
from tidemill.whole_files import write_whole


def read_text(root: str, relative: str) -> str:
    """Return the text of a file below ``root``."""
    if is_local(root):
        return (Path(root) / relative).read_text(encoding="utf-8")
    filesystem, base = _filesystem(root)
    with filesystem.open_input_stream(f"{base}/{relative}") as stream:
        return bytes(stream.read()).decode("utf-8")


def write_text(root: str, relative: str, text: str) -> None:
    """Write a file below ``root``; readers see the old one or the new one, never a part."""
    if is_local(root):
        write_whole(Path(root) / relative, text.encode("utf-8"))
        return
    filesystem, base = _filesystem(root)
    with filesystem.open_output_stream(f"{base}/{relative}") as stream:
        stream.write(text.encode("utf-8"))


def _filesystem(root: str):  # type: ignore[no-untyped-def]
    from pyarrow import fs

    return fs.FileSystem.from_uri(root)
