"""Tasks, engines and formats are asked through their registries: no module compares their names."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3] / "lib" / "tidemill"
BRANCH = re.compile(r"task (==|in)|engine ==|\.format ==")


def test_no_module_branches_on_a_name() -> None:
    branches = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if BRANCH.search(line)
    ]
    assert branches == [], "ask the task's kind, the engine or the source kind instead"
