from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.cli.options import open_lake
from tidemill.sources.files.listing import list_files
from tidemill.spec import Spec, load_spec
from tidemill.spec.loading.paths import find_project_root, resolve_source
from tidemill.spec.models import Source

SPEC = """\
pipeline: p
lake: ./lake
sources:
  s: {format: csv, path: [data/*.csv, ./more.csv, "s3a://bucket/x", /abs/y.csv]}
  one: {format: json, path: new:1.jsonl}
  db: {format: jdbc, url: "jdbc:sqlite:data/x.db?mode=ro", table: t}
dataset: {from: bronze.s, key: [id], label: y}
training: {task: binary}
"""


@pytest.mark.parametrize("mark", ["pyproject.toml", "setup.py", ".git"])
def test_the_root_of_a_project_is_the_nearest_folder_with_a_mark(tmp_path: Path, mark: str) -> None:
    folder = tmp_path / "outer" / "inner" / "conf" / "p"
    folder.mkdir(parents=True)
    assert find_project_root(folder) == folder
    (tmp_path / "outer" / "setup.py").touch()
    assert find_project_root(folder) == tmp_path / "outer"
    (tmp_path / "outer" / "inner" / mark).mkdir()
    assert find_project_root(folder) == tmp_path / "outer" / "inner"
    (folder / mark).touch()
    assert find_project_root(folder / ".." / "p") == folder


@pytest.mark.parametrize("is_project", [True, False])
def test_relative_paths_lie_below_the_project_wherever_the_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_project: bool
) -> None:
    folder, elsewhere = tmp_path / "project" / "conf" / "p", tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    (folder / "pipeline.yml").write_text(SPEC)
    if is_project:
        (tmp_path / "project" / "pyproject.toml").touch()
    root = tmp_path / "project" if is_project else folder

    def facts(spec: Spec) -> object:
        sources = spec.pipeline.sources
        return spec.root, spec.pipeline.lake, sources["s"].paths, sources["one"].paths, sources["db"].url

    paths = (f"{root}/data/*.csv", f"{root}/more.csv", "s3a://bucket/x", "/abs/y.csv")
    expected = (root, f"{root}/lake", paths, (f"{root}/new:1.jsonl",), f"jdbc:sqlite:{root}/data/x.db?mode=ro")
    for place, given in (
        (elsewhere, folder),
        (folder, Path()),
        (tmp_path, Path("project/conf/p/pipeline.yml")),
        (elsewhere, Path("../project/conf/p")),
    ):
        monkeypatch.chdir(place)
        assert facts(load_spec(given, environ={})) == expected


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("jdbc:sqlite:x.db", "jdbc:sqlite:/r/x.db"), ("jdbc:sqlite:file:d/x.db?mode=ro", "jdbc:sqlite:file:/r/d/x.db?mode=ro"),
        ("jdbc:sqlite:/abs/x.db", "jdbc:sqlite:/abs/x.db"), ("jdbc:sqlite::memory:", "jdbc:sqlite::memory:"),
        ("jdbc:sqlite:", "jdbc:sqlite:"),
        ("jdbc:postgresql://host/db", "jdbc:postgresql://host/db"), ("jdbc:sqlite:${secret:a/b}", "jdbc:sqlite:${secret:a/b}"),
        ("jdbc:sqlite:db_${secret:a/b}.sqlite", "jdbc:sqlite:/r/db_${secret:a/b}.sqlite"),
    ],
)  # fmt: skip
def test_files_of_sqlite(url: str, resolved: str) -> None:
    assert resolve_source(Source(format="jdbc", url=url, table="t"), Path("/r")).url == resolved


def test_a_root_with_the_characters_of_a_glob(tmp_path: Path) -> None:
    root = tmp_path / "lake[1]"
    root.mkdir()
    for name in ("a.csv", "new[1].csv", "new1.csv"):
        (root / name).write_text("x")

    def names(path: str) -> list[str]:
        return [Path(file.path).name for file in list_files(resolve_source(Source(format="csv", path=path), root).paths)]

    assert (names("*.csv"), names("a.csv"), names("new[1].csv")) == (["a.csv", "new1.csv", "new[1].csv"], ["a.csv"], ["new[1].csv"])


def test_commands_without_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "conf" / "p"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(below)
    monkeypatch.delenv("TIDEMILL_LAKE", raising=False)
    assert open_lake(None, must_exist=False).root == str(tmp_path / "lake")
    assert open_lake("mine", must_exist=False).root == str(below / "mine")
    monkeypatch.setenv("TIDEMILL_LAKE", "./other")
    assert open_lake(None, must_exist=False).root == str(tmp_path / "other")
    assert open_lake("mine", must_exist=False).root == str(below / "mine")
    monkeypatch.setenv("TIDEMILL_LAKE", str(tmp_path / "there"))
    assert open_lake(None, must_exist=False).root == str(tmp_path / "there")
