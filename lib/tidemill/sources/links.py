"""Files under names that Spark passes over in silence, cannot open, or cannot spell: they are read by a link with a plain name."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

_PLAIN_SUFFIX = re.compile(r"\.[A-Za-z0-9]+")
_BEING_COPIED = "._COPYING_"


def is_hidden(name: str) -> bool:
    """Return True for a name that Spark's and Hadoop's readers pass over: one that begins with ``_`` or ``.``, or is being copied."""
    return name.startswith(("_", ".")) or name.endswith(_BEING_COPIED)


def text_of(place: str) -> str:
    r"""Return a path, as Python gives it, as text that any table can hold: UTF-8 whatever the locale, ``\xe9`` for bytes that are none."""
    return os.fsencode(place).decode("utf-8", "backslashreplace")


def place_of(path: str) -> str:
    """Return a path as Python opens it in this locale."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def needs_link(place: str, *, is_ascii_only: bool) -> bool:
    """Return True where Spark would not find the file by its own path; ``is_ascii_only`` says that its Java spells ASCII names alone."""
    name = Path(place).name
    # Hadoop takes what stands before a colon in a name for the scheme of a URI.
    return is_hidden(name) or ":" in name or text_of(place) != place or (is_ascii_only and not place.isascii())


def link_to(place: str) -> str:
    """Return a link to the file that lasts as long as this process; its name ends as the file's does, as that tells how it is packed."""
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:24]
    suffix = Path(place).suffix
    link = Path(_folder()) / f"{digest}{suffix if _PLAIN_SUFFIX.fullmatch(suffix) else ''}"
    with suppress(FileExistsError):  # made before, to the same file
        link.symlink_to(place)
    return str(link)


@cache
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="tidemill-links-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
