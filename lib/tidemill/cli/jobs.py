"""The entry of ``spark-submit jobs/STEP.py``: the same options as ``tidemill run``, for one step."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tidemill.cli.app import main as command


def main(step: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """Run one step, or all where ``step`` is None; ``--spec FILE`` names the spec. Returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    words = [
        "--spec=" + words[i + 1] if word == "--spec" and i + 1 < len(words) else word
        for i, word in enumerate(words)
        if i == 0 or words[i - 1] != "--spec"
    ]
    specs = [word.removeprefix("--spec=") for word in words if word.startswith("--spec=")]
    if len(specs) != 1 and not {"--help", "-h"} & set(words):
        sys.stderr.write(f"spark-submit jobs/{step or 'run'}.py: expected --spec FILE once\n")
        return 2
    rest = [word for word in words if not word.startswith("--spec=")]
    return command(["run", *specs, *(["--only", step] if step else []), *rest])
