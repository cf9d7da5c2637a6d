"""The README and the pages of docs/ name files, commands, options, tables, columns and spec keys that exist, and all of them."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tidemill.cli.app import app, main
from tidemill.lake.ops import OPS_TABLES
from tidemill.spec.loading.grammar import json_schema
from tidemill.steps import STEP_FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
USER_PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MAX_README_LINES = 200
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SCHEMA = json_schema()
VIEWS = {"ops.runs_now", "ops.steps_now", "ops.champion_at"}


def fenced_blocks(page: Path, *languages: str) -> list[str]:
    """Return the contents of the page's fenced code blocks in one of the languages; the empty string is a block without one."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in blocks if language in languages]


def code_spans(page: Path) -> list[str]:
    """Return what is written as code: inline code outside of fenced blocks, and the lines of the blocks for shells and output."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced_blocks(page, "bash", "console", "") for line in block.splitlines()]
    return [*re.findall(r"`([^`\n]+)`", text), *lines]


def identify(page: Path) -> str:
    return str(page.relative_to(ROOT))


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=identify)
    def test_resolve_relative_to_their_page(self, page: Path) -> None:
        targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        local = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
        assert [target for target in local if not (page.parent / target).exists()] == []

    def test_reach_every_page(self) -> None:
        index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
        decisions = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
        pages = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md"]
        development = [f"development/{page.name}" for page in (ROOT / "docs" / "development").glob("*.md")]
        assert [name for name in (*pages, *development) if f"({name})" not in index] == []
        assert [page.name for page in (ROOT / "docs" / "decisions").glob("0*.md") if f"({page.name})" not in decisions] == []


class TestReadme:
    def test_has_at_most_200_lines(self) -> None:
        assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES

    def test_spec_of_the_csv_example_passes_check(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        [script] = [block for block in fenced_blocks(ROOT / "README.md", "bash") if "pipeline.yml <<" in block]
        [spec] = re.findall(r"cat > pipeline\.yml <<'EOF'\n(.*?)^EOF", script, re.MULTILINE | re.DOTALL)
        (tmp_path / "pipeline.yml").write_text(spec, encoding="utf-8")
        [header] = re.findall(r'print\("(customer_id.*?)"\)', script)
        (tmp_path / "customers.csv").write_text(f"{header}\n1,basic,3,4,True\n", encoding="utf-8")
        assert main(["check", str(tmp_path / "pipeline.yml")]) == 0, capsys.readouterr().err


class TestCommands:
    @pytest.mark.parametrize("page", PAGES, ids=identify)
    def test_named_in_a_page_exist(self, page: Path) -> None:
        named = {match for span in code_spans(page) for match in re.findall(r"\btidemill ([a-z][a-z-]+)\b(?!\.)", span)}
        assert named - set(COMMANDS) == set()

    def test_of_the_app_are_all_documented(self) -> None:
        page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
        assert [name for name in COMMANDS if not re.search(rf"`tidemill {name}\b", page)] == []

    @pytest.mark.parametrize("page", USER_PAGES, ids=identify)
    def test_options_exist(self, page: Path) -> None:
        known = {option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts}
        spans = [span.removeprefix("$ ") for span in code_spans(page)]
        named = {option for span in spans if span.startswith("tidemill ") for option in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", span)}
        assert named - known - {"--help"} == set()

    def test_make_targets_exist_and_are_listed_by_help(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        listed = set(re.findall(r"^([a-z][a-z-]*):.*## ", makefile, re.MULTILINE))
        [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
        named = {match for page in PAGES for span in code_spans(page) for match in re.findall(r"^make ([a-z][a-z-]*)", span)}
        assert set(phony.split()) == listed
        assert named - listed == set()
        assert re.search(r"grep -hE '\^\[a-z\]\[a-z-\]\*:", makefile), "help lists targets with a hyphen"


class TestTables:
    @pytest.mark.parametrize("page", USER_PAGES, ids=identify)
    def test_of_ops_named_in_a_page_exist(self, page: Path) -> None:
        named = set(re.findall(r"\bops\.[a-z_]+", page.read_text(encoding="utf-8")))
        assert {name.removesuffix(".rounds") for name in named} - set(OPS_TABLES) - VIEWS == set()

    def test_of_ops_are_documented_with_their_columns(self) -> None:
        page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| `(ops\.\w+)` \| (`.*) \|$", page, re.MULTILINE)
        documented = {table: re.findall(r"`(\w+)`", columns) for table, columns in rows}
        assert documented == {table: list(row.arrow_schema().names) for table, row in OPS_TABLES.items()}


def resolve(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references to ``$defs``."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the members of a union, or the schema alone."""
    schema = resolve(schema)
    members = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [part for member in members for part in alternatives(member)] if members else [schema]


def unknown_keys(value: Any, schemas: list[Mapping[str, Any]], path: str = "") -> list[str]:
    """Return the paths of keys that none of the schemas knows; ``…`` is a placeholder."""
    parts = [part for schema in schemas for part in alternatives(schema)]
    if isinstance(value, list):
        items = [part["items"] for part in parts if "items" in part]
        return [key for item in value for key in unknown_keys(item, items, path)] if items else []
    if not isinstance(value, dict):
        return []
    unknown = []
    for key, below in value.items():
        declared = [part["properties"][key] for part in parts if key in part.get("properties", {})]
        named = [schema for part in parts for schema in part.get("patternProperties", {}).values()]
        other = [part["additionalProperties"] for part in parts if part.get("additionalProperties") not in (None, False)]
        if not declared and not named and not other and key != "…":
            unknown.append(f"{path}.{key}")
        unknown += unknown_keys(below, [schema for schema in declared or named or other if isinstance(schema, dict)], f"{path}.{key}")
    return unknown


class TestSpecKeys:
    @pytest.mark.parametrize("page", USER_PAGES, ids=identify)
    def test_in_examples_exist(self, page: Path) -> None:
        blocks = [textwrap.dedent(block) for block in fenced_blocks(page, "yaml")]
        specs = [yaml.safe_load(block) for block in blocks]
        assert [key for spec in specs for key in unknown_keys(spec, [SCHEMA])] == []

    def test_are_all_documented(self) -> None:
        text = "\n".join(page.read_text(encoding="utf-8") for page in USER_PAGES)
        keys = {name for block in (SCHEMA, *SCHEMA["$defs"].values()) for name in block.get("properties", {})}
        assert sorted(name for name in keys if not re.search(rf"\b{re.escape(name)}\b", text)) == []

    def test_checker_finds_an_unknown_key(self) -> None:
        assert unknown_keys({"training": {"task": "binary", "tuner": {"trails": 3}}}, [SCHEMA]) == [".training.tuner.trails"]
        assert unknown_keys({"sources": {"x": {"format": "csv", "pth": "y"}}}, [SCHEMA]) == [".sources.x.pth"]
        assert unknown_keys({"features": {"numeric": [{"columns": ["a"], "impte": 1}]}}, [SCHEMA]) == [".features.numeric.impte"]


class TestArchitecture:
    PAGE = ROOT / "docs" / "development" / "architecture.md"

    def test_names_entry_functions_that_exist(self) -> None:
        places = re.findall(r"`(steps/[\w/]+\.py): (\w+)`", self.PAGE.read_text(encoding="utf-8"))
        assert {step for _, step in places} == set(STEP_FUNCTIONS)
        for path, function in places:
            tree = ast.parse((ROOT / "lib" / "tidemill" / path).read_text(encoding="utf-8"))
            assert any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body), (path, function)


class TestPackaging:
    def test_pyproject_and_setup_do_not_contradict_each_other(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
        [call] = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"]
        given = {keyword.arg for keyword in call.keywords}
        static = {"name", "description", "python_requires", "keywords", "classifiers"}
        assert given & static == {"name"}
        assert [ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == "name"] == [project["name"]]
        assert set(project["dynamic"]) >= {"version", "dependencies", "optional-dependencies", "scripts"}
        assert not set(project["dynamic"]) & set(project)
