"""Files of a lake: listing, and small text files beside the tables."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from tidemill.quoting import is_local


def write_whole(file: Path, content: bytes) -> None:
    """Write a local file atomically, creating its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # The name starts with a dot so that no reader's glob takes the half-written file for data.
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(content)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def read_bytes(root: str, relative: str) -> bytes:
    """Return the content of a file below ``root``."""
    if is_local(root):
        return (Path(root) / relative).read_bytes()
    filesystem, base = _filesystem(root)
    with filesystem.open_input_stream(f"{base}/{relative}") as stream:
        return bytes(stream.read())


def read_text(root: str, relative: str) -> str:
    """Return the text of a file below ``root``."""
    return read_bytes(root, relative).decode("utf-8")


def write_bytes(root: str, relative: str, content: bytes) -> None:
    """Write a file below ``root``; readers see the old one or the new one, never a part."""
    if is_local(root):
        write_whole(Path(root) / relative, content)
        return
    filesystem, base = _filesystem(root)
    with filesystem.open_output_stream(f"{base}/{relative}") as stream:
        stream.write(content)


def write_text(root: str, relative: str, text: str) -> None:
    """Write a file below ``root``, as ``write_bytes`` does."""
    write_bytes(root, relative, text.encode("utf-8"))


def delete_file(root: str, relative: str) -> None:
    """Remove a file below ``root``; nothing happens where there is none."""
    if is_local(root):
        (Path(root) / relative).unlink(missing_ok=True)
        return
    filesystem, base = _filesystem(root)
    try:
        filesystem.delete_file(f"{base}/{relative}")
    except FileNotFoundError:
        return


@dataclass(frozen=True)
class FileState:
    """Size of a file in bytes, and when it was last changed, in seconds since 1970."""

    size: int
    modified_at: float


def list_files(root: str, relative: str) -> dict[str, FileState]:
    """Return the files in a folder below ``root`` and in the folders that it holds, as relative path → state; empty without the folder.

    Files whose name begins with a dot are the file system's own checksums, and left out.
    """
    if is_local(root):
        top = Path(root) / relative
        paths = [Path(folder, name) for folder, _, names in os.walk(top) for name in names]
        states = {path.relative_to(top).as_posix(): FileState((state := path.stat()).st_size, state.st_mtime) for path in paths}
    else:
        from pyarrow import fs

        filesystem, base = _filesystem(root)
        top_path = f"{base}/{relative}"
        entries = filesystem.get_file_info(fs.FileSelector(top_path, allow_not_found=True, recursive=True))
        states = {
            entry.path[len(top_path) + 1 :]: FileState(int(entry.size), entry.mtime_ns / 1e9)
            for entry in entries
            if entry.type == fs.FileType.File
        }
    return {path: states[path] for path in sorted(states) if not path.rpartition("/")[2].startswith(".")}


def file_sizes(root: str, relative: str) -> dict[str, int]:
    """Return the files that ``list_files`` returns, as relative path → size in bytes."""
    return {path: state.size for path, state in list_files(root, relative).items()}


def file_hash(root: str, relative: str) -> str:
    """Return the SHA-256 of a file below ``root``."""
    if is_local(root):
        with (Path(root) / relative).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    filesystem, base = _filesystem(root)
    digest = hashlib.sha256()
    with filesystem.open_input_stream(f"{base}/{relative}") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _filesystem(root: str):  # type: ignore[no-untyped-def]
    from pyarrow import fs

    return fs.FileSystem.from_uri(root)
