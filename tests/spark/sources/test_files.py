"""Files are listed completely, sorted, and found again by Spark whatever their names are."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.patterns import braces_expanded, python_glob
from tidemill.sources.files import SourceFile, list_files
from tidemill.sources.records import source_file

ODD_NAME = "a+b %20 [x] {y} #é.csv"


def write(path: Path, text: str = "x\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def paths(pattern: str) -> list[str]:
    return [file.path for file in list_files([pattern])]


def test_a_folder_is_listed_with_those_below_it_and_without_hidden_names(tmp_path: Path) -> None:
    b, a = write(tmp_path / "in" / "b.csv"), write(tmp_path / "in" / "2013" / "a.csv")
    for hidden in ("_SUCCESS", ".b.csv.crc", "_delta_log/0.json", ".tmp/c.csv"):
        write(tmp_path / "in" / hidden)
    assert paths(str(tmp_path / "in")) == [a, b]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.csv", ["a1.csv", "a2.csv", "b1.csv"]),
        ("a?.csv", ["a1.csv", "a2.csv"]),
        ("[ab]1.csv", ["a1.csv", "b1.csv"]),
        ("{a1,b1}.csv", ["a1.csv", "b1.csv"]),
        ("{a,b}{1,2}.csv", ["a1.csv", "a2.csv", "b1.csv"]),
        ("a1.csv", ["a1.csv"]),
        (r"a[1].json", ["a[1].json"]),
        (r"a\[1\].json", ["a[1].json"]),
        ("[_]*", []),
    ],
)
def test_globs(tmp_path: Path, pattern: str, found: list[str]) -> None:
    for name in ("a1.csv", "a2.csv", "b1.csv", "a[1].json", "_x.csv"):
        write(tmp_path / name)
    if found:
        assert paths(f"{tmp_path}/{pattern}") == [f"{tmp_path}/{name}" for name in found]
    else:
        with pytest.raises(SourceError, match="no file at"):
            list_files([f"{tmp_path}/{pattern}"])


def test_size_time_and_uri(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "héllo\n")
    (file,) = list_files([f"file://{path}"])
    assert (file.path, file.size, file.uri) == (path, 7, f"file://{path}")
    assert file.modified_at == datetime.fromtimestamp(Path(path).stat().st_mtime, UTC)


def test_relative_paths_are_looked_up_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "in" / "x.csv")
    monkeypatch.chdir(tmp_path)
    assert paths("in/*.csv") == [path]
    with pytest.raises(SourceError, match=str(tmp_path)):
        list_files(["out/*.csv"])


def test_another_file_system_needs_a_session() -> None:
    with pytest.raises(SourceError, match="needs a Spark session"):
        list_files(["s3a://bucket/x.csv"])


def test_braces_and_escapes() -> None:
    assert braces_expanded("a{b,c{d,e}}") == ["ab", "acd", "ab", "ace"]
    assert python_glob(r"a\*b*\x") == "a[*]b*x"
    assert SourceFile("s3a://bucket/a[1].csv", 1, datetime.now(UTC)).uri == r"s3a://bucket/a\[1\].csv"


def test_spark_finds_and_names_a_file_of_any_name(spark, tmp_path: Path) -> None:
    path = write(tmp_path / ODD_NAME)
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(b"y\n"))
    rows = spark.read.text([file.uri for file in list_files([str(tmp_path)])]).select("value", source_file().alias(SOURCE_FILE)).collect()
    assert {row[SOURCE_FILE]: row["value"] for row in rows} == {path: "x", str(tmp_path / "z.csv.gz"): "y"}


def test_spark_lists_as_python_does(spark, tmp_path: Path) -> None:
    from tidemill.sources.files import _list_with_spark

    write(tmp_path / "a.csv", "123\n")
    write(tmp_path / "below" / "b.csv")
    by_spark = {(file.path.removeprefix("file:"), file.size) for file in _list_with_spark(f"file://{tmp_path}", spark)}
    assert by_spark == {(file.path, file.size) for file in list_files([str(tmp_path)])}
    assert _list_with_spark(f"file://{tmp_path}/none*", spark) == []
