"""tidemill itself as a wheel: what a model needs where tidemill is not to be had from an index."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import tidemill
from tidemill.version import VERSION

WHEEL = f"tidemill-{VERSION}-py3-none-any.whl"
_INFO = f"tidemill-{VERSION}.dist-info"
_CREATED = (1980, 1, 1, 0, 0, 0)  # the same files make the same wheel


def write_wheel(folder: Path) -> Path:
    """Write the running tidemill as a wheel into ``folder`` and return its path.

    Source: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHEEL
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _files():
            archive.writestr(zipfile.ZipInfo(name, _CREATED), content, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        record.append(f"{_INFO}/RECORD,,")
        archive.writestr(zipfile.ZipInfo(f"{_INFO}/RECORD", _CREATED), "\n".join(record) + "\n")
    return path


def _files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the wheel by their names in it."""
    package = Path(tidemill.__file__).parent
    for file in sorted(package.rglob("*")):
        if file.suffix == ".py" or file.name == "py.typed":
            yield f"tidemill/{file.relative_to(package).as_posix()}", file.read_bytes()
    yield f"{_INFO}/METADATA", _metadata().encode()
    yield f"{_INFO}/WHEEL", b"Wheel-Version: 1.0\nGenerator: tidemill\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    yield f"{_INFO}/entry_points.txt", b"[console_scripts]\ntidemill = tidemill.cli:main\n"


def _metadata() -> str:
    """Return the wheel's METADATA, with the requirements that the running tidemill was installed by."""
    lines = ["Metadata-Version: 2.1", "Name: tidemill", f"Version: {VERSION}"]
    try:
        installed = metadata("tidemill")
    except PackageNotFoundError:  # it runs from its sources
        return "\n".join(lines) + "\n"
    for key in ("Requires-Python", "Provides-Extra", "Requires-Dist"):
        lines += [f"{key}: {value}" for value in installed.get_all(key) or []]
    return "\n".join(lines) + "\n"
