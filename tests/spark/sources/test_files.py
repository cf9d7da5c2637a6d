"""Files are listed completely, sorted, and found again by Spark whatever their names are."""

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.listing import SourceFile, find_files, list_files
from tidemill.sources.records import source_file
from tidemill.spec.loading.paths import expand_braces, python_glob
from tidemill.spec.models import SOURCE_KINDS, Source

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
        ("_*.csv", ["_x.csv"]),
        ("{_x,a1}.csv", ["_x.csv", "a1.csv"]),
        (".*", [".c.csv"]),
        ("_x.csv", ["_x.csv"]),
        (".c.csv", [".c.csv"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, found: list[str]) -> None:
    for name in ("a1.csv", "a2.csv", "b1.csv", "a[1].json", "_x.csv", ".c.csv"):
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
    assert expand_braces("a{b,c{d,e}}") == ["ab", "acd", "ab", "ace"]
    assert python_glob(r"a\*b*\x") == "a[*]b*x"
    assert SourceFile("s3a://bucket/a[1].csv", 1, datetime.now(UTC)).uri == r"s3a://bucket/a\[1\].csv"


def test_spark_finds_and_names_a_file_of_any_name(spark, tmp_path: Path) -> None:
    path = write(tmp_path / ODD_NAME)
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(b"y\n"))
    rows = spark.read.text([file.uri for file in list_files([str(tmp_path)])]).select("value", source_file().alias(SOURCE_FILE)).collect()
    assert {row[SOURCE_FILE]: row["value"] for row in rows} == {path: "x", str(tmp_path / "z.csv.gz"): "y"}


def test_what_folders_and_globs_pass_over_is_told(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv")
    for hidden in ("_b.csv", "_SUCCESS", ".a.csv.crc", "_delta_log/0.json", ".tmp/c.csv", "x._COPYING_"):
        write(tmp_path / "in" / hidden, "" if hidden == "_SUCCESS" else "1\n")
    told = tuple(f"{tmp_path}/in/{name}" for name in (".tmp/", "_b.csv", "x._COPYING_"))
    assert find_files([str(tmp_path / "in")]).hidden == told
    assert find_files([f"{tmp_path}/in/*"]).hidden == told
    assert find_files([f"{tmp_path}/in/*.csv"]).hidden == (f"{tmp_path}/in/_b.csv",)
    both = find_files([f"{tmp_path}/in/*.csv", f"{tmp_path}/in/_b.csv"])
    assert ([Path(file.path).name for file in both.files], both.hidden, both.notes) == (["_b.csv", "a.csv"], (), ())
    with pytest.raises(SourceError, match=r"no file at .*_b\.csv.*; to read one, write it out in `path`"):
        list_files([f"{tmp_path}/in/?b.csv"])


def test_a_name_that_is_no_utf_8_is_text_all_the_same(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/caf\xe9.csv"
    Path(os.fsdecode(place)).write_bytes(b"x\n")
    (file,) = list_files([str(tmp_path)])
    assert file.path == f"{tmp_path}/caf\\xe9.csv"
    assert (Path(file.readable).read_bytes(), Path(file.readable).suffix) == (b"x\n", ".csv")


def test_files_of_every_format_are_read_whatever_their_names(spark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.sources.files.listing.opens_all_names", lambda _: False)
    names = ["_a", ".b", "a:b", "caf\u00e9", "x._COPYING_", os.fsdecode(b"caf\xe9")]
    table = pa.table({"id": [1, 2]})
    columnar = {"parquet": pq.write_table, "orc": orc.write_table}
    texts = {
        "csv": "id\n1\n2\n",
        "json": '{"id": 1}\n{"id": 2}\n',
        "text": "1\n2\n",
        "xml": "<r><x id='1'/><x id='2'/></r>",
        "binaryFile": "12",
    }
    for kind in (*columnar, *texts, "avro"):
        folder = tmp_path / kind
        folder.mkdir()
        for name in names:
            place = folder / name
            if kind in columnar:
                with place.open("wb") as stream:
                    columnar[kind](table, stream)
            elif kind == "avro":
                schema = {"type": "record", "name": "x", "fields": [{"name": "id", "type": "long"}]}
                with place.open("wb") as stream:
                    fastavro.writer(stream, schema, [{"id": 1}, {"id": 2}])
            else:
                place.write_text(texts[kind], encoding="utf-8")
        files = list_files([*[str(folder / name) for name in names[:-1]], str(folder / "caf*")], spark)
        source = Source(format=kind, path=str(folder), options={"csv": {"header": True}, "xml": {"rowTag": "x"}}.get(kind, {}))
        reader = SOURCE_KINDS.get(kind)
        frame = reader.read(spark, source, files, reader.infer(spark, source, files)).frame
        counts = frame.where("NOT _tidemill_is_header").groupBy(SOURCE_FILE).count().collect()
        expected = {f"{folder}/{name}": 1 if kind == "binaryFile" else 2 for name in (*names[:-1], "caf\\xe9")}
        assert {row[SOURCE_FILE]: row["count"] for row in counts} == expected, kind
        if kind == "binaryFile":
            assert {row["path"] for row in frame.select("path").collect()} == {f"file:{path}" for path in expected}


def test_spark_lists_as_python_does(spark, tmp_path: Path) -> None:
    from tidemill.sources.files.listing import _list_with_spark

    write(tmp_path / "a.csv", "123\n")
    write(tmp_path / "below" / "b.csv")
    by_spark = {(file.path.removeprefix("file:"), file.size) for file in _list_with_spark(f"file://{tmp_path}", spark)}
    assert by_spark == {(file.path, file.size) for file in list_files([str(tmp_path)])}
    assert _list_with_spark(f"file://{tmp_path}/none*", spark) == []
