"""profile and suggest, as far as they need no Spark: what is told of a table that is not there."""

from __future__ import annotations

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tidemill.cli import main


@pytest.fixture
def lake(tmp_path):
    write_deltalake(str(tmp_path / "lake" / "silver" / "flights"), pa.table({"carrier": ["UA"]}))
    return tmp_path / "lake"


@pytest.mark.parametrize("command", ["profile", "suggest"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["silver.fligths"], "silver.fligths is not in LAKE; did you mean 'silver.flights'? it holds silver.flights"),
        (["bronze.planes"], "bronze.planes is not in LAKE; it holds silver.flights"),
        (["flights"], "'flights' is not a table of the lake; write <layer>.<name>"),
        (["silver.flights", "--version", "3"], "silver.flights has no version 3; its latest is 0"),
        (["silver.flights", "--lake", "/nowhere/lake"], "there is no lake at /nowhere/lake"),
        (["silver.flights", "--version", "-1"], "--version"),
        ([], "Missing argument 'TABLE'"),
    ],
)
def test_what_is_not_there_is_one_sentence_and_exit_code_2(lake, capsys, command, words, told):
    assert main([command, *words, *([] if "--lake" in words else ["--lake", str(lake)])]) == 2
    shown = capsys.readouterr().err
    assert told.replace("LAKE", str(lake)) in shown
    assert "Traceback" not in shown


def test_columns_must_name_one(lake, capsys):
    assert main(["profile", "silver.flights", "--lake", str(lake), "--columns", " , "]) == 2
    assert "--columns names no column" in capsys.readouterr().err
