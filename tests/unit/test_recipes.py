"""The recipes of docs/development/recipes.md: each extension is found beside a spec by its dotted path, and the spec passes check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tidemill.cli.app import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "development" / "recipes.md"
BASE = """\
pipeline: p
sources:
  payments: {format: csv, path: payments.csv, options: {header: true}, schema: "id INT, account STRING, amount DOUBLE, is_late BOOLEAN"}
tables: {payments: {sql: SELECT * FROM bronze.payments, key: [id]}}
dataset: {from: silver.payments, key: [id], label: is_late}
training: {task: binary}
"""
# What a recipe's spec needs beside its own example.
COMPLETIONS: dict[str, dict[str, Any]] = {
    "a source kind": {"dataset": {"from": "bronze.numbers", "key": ["id"], "label": "is_even"}},
    "a model family": {"dataset": {"label": "amount"}},
}


def sections() -> dict[str, str]:
    """Return the text of each recipe by what it adds."""
    parts = re.split(r"^## Add (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def merge(base: Any, top: Any) -> Any:
    """Merge two mappings key by key; anything else is replaced."""
    if isinstance(base, dict) and isinstance(top, dict):
        return {**base, **{key: merge(base.get(key), value) for key, value in top.items()}}
    return top


def test_there_is_one_for_each_kind_of_extension() -> None:
    expected = {
        "a source kind",
        "a model family",
        "a metric",
        "a feature group",
        "a task",
        "an engine",
        "an expectation kind",
        "a command",
        "a drift method",
        "a gate function",
    }
    assert set(sections()) == expected


@pytest.mark.parametrize("name", [name for name, text in sections().items() if blocks(text, "yaml")])
def test_example_passes_check(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [code], [example] = blocks(sections()[name], "python"), blocks(sections()[name], "yaml")
    (tmp_path / "functions.py").write_text(code, encoding="utf-8")
    (tmp_path / "payments.csv").write_text("id,account,amount,is_late\n1,DE00123456789012345678,2.5,true\n", encoding="utf-8")
    spec = merge(merge(yaml.safe_load(BASE), yaml.safe_load(example)), COMPLETIONS.get(name, {}))
    (tmp_path / "pipeline.yml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    assert main(["check", str(tmp_path / "pipeline.yml")]) == 0, capsys.readouterr().err
