"""A sample of the real flights, laid out as the sources arrive, and one run over it."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tests.e2e.place import SPEC, Place

from tidemill.examples import write_demo_data

DAYS = ("13",)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """All of the raw files, as ``tidemill demo-data`` writes them."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder)
    return folder


@pytest.fixture(scope="session")
def sample_data(demo_data, tmp_path_factory) -> Path:
    """A day of each month, every line as it was; all of the other sources."""
    folder = tmp_path_factory.mktemp("sample")
    for entry in demo_data.iterdir():
        if entry.name != "flights" and not entry.name.startswith("."):
            shutil.copy(entry, folder / entry.name)
    (folder / "flights").mkdir()
    for month in sorted((demo_data / "flights").glob("*.csv.gz")):
        with gzip.open(month, "rt") as whole, gzip.open(folder / "flights" / month.name, "wt") as part:
            part.writelines(line for number, line in enumerate(whole) if number == 0 or line.split(",")[2] in DAYS)
    return folder


@pytest.fixture(scope="session")
def raw_flights(sample_data) -> pd.DataFrame:
    """The sample's flights as pandas reads them."""
    return pd.concat([pd.read_csv(path) for path in sorted((sample_data / "flights").glob("*.csv.gz"))], ignore_index=True)


@pytest.fixture(scope="session")
def whole_run(spark, sample_data, tmp_path_factory) -> tuple[Place, dict]:
    """One run over the sample, in one process, by spark-submit, and what it told.

    What runs in the process of the tests afterwards runs in the session ``spark``: a command that found none would start another, which
    all later tests of this worker would have to take.
    """
    place = Place(sample_data, tmp_path_factory.mktemp("whole") / "lake")
    return place, place.submit("run", "--spec", str(SPEC), "--env", "sample")
