"""The paths of lakes as Spark and delta-rs take them, which misread some characters."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
import threading
from pathlib import Path

from tidemill.errors import UsageError
from tidemill.quoting import is_local

_PLAIN = re.compile(r"[A-Za-z0-9 _./~@-]*")
"""What Spark takes literally: it reads ``*?{}`` as patterns, splits lists of paths at commas, and knows nothing beyond ASCII where the
machine's locale has no more."""
_REFUSED = re.compile(r"[\[\]^|\\\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}")
"""What delta-rs misreads, and links do not help, as it follows them: it panics at brackets, decodes ``%20`` and turns ``\\`` into ``/``."""

_FOLDERS = (None, "/tmp", "/var/tmp")
_LOCK = threading.Lock()
_LINKS: dict[str, str] = {}


def refuse_unreadable_path(root: str) -> None:
    """Raise where ``root`` cannot hold a lake.

    Raises:
        UsageError: the path holds characters that delta-rs misreads.
    """
    unreadable = _REFUSED.search(root) if is_local(root) else None
    if unreadable:
        raise UsageError(
            f"no lake can lie at {root!r}: Delta's reader does not take {unreadable[0]!r} in a path; rename the folder, or choose another"
        )


def engine_root(root: str) -> str:
    """Return ``root`` in the form that Spark and delta-rs take: itself, or a link to it where its path has special characters.

    The link is in a folder of this process and is removed when it ends; what is written through it holds relative paths.

    Raises:
        UsageError: no link can be made here; nothing has been written.
    """
    if not is_local(root) or _PLAIN.fullmatch(root):
        return root
    with _LOCK:
        if root not in _LINKS:
            _LINKS[root] = _link(root)
        return _LINKS[root]


def restore_paths(text: str) -> str:
    """Return a message with the lakes' own paths in place of the links to them."""
    for root, link in _LINKS.items():
        text = text.replace(link, root)
    return text


def _link(root: str) -> str:
    for place in _FOLDERS:
        try:
            folder = tempfile.mkdtemp(prefix="tidemill-lake-", dir=place)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            link = Path(folder) / "lake"
            link.symlink_to(root)
        except (OSError, ValueError):
            continue
        if _PLAIN.fullmatch(str(link)):
            return str(link)
    raise UsageError(f"no lake can lie at {root!r}: Spark misreads such a path, and no link to it can be made here; rename the folder")
