"""Files that readers see as they were or as they are to be, never a part."""

from __future__ import annotations

import uuid
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Write a local file in one move, its folder too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # The name starts with a dot so that no reader's glob takes the half-written file for data.
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(content)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
