"""Replay, copy and comparison of a model of real flights, as docs/model-lifecycle.md tells them, from the command line."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from tests.e2e.place import ROOT, SPEC, Place

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.one_of("example")]
PAGE = ROOT / "docs" / "model-lifecycle.md"


@pytest.fixture(scope="module")
def place(whole_run, tmp_path_factory) -> Place:
    """A copy of the trained lake."""
    trained, _ = whole_run
    lake = tmp_path_factory.mktemp("reproduction") / "lake"
    shutil.copytree(trained.lake, lake)
    return Place(trained.data, lake)


def examples() -> list[list[str]]:
    """Return the commands of the page's sections on replay, copy and comparison."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("## Replay") :]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_page(place, monkeypatch, tmp_path):
    monkeypatch.setenv("PRODUCTION_LAKE", str(tmp_path / "production"))
    commands = examples()
    assert [words[0] for words in commands] == ["replay", "replay", "copy", "copy", "compare", "compare"]
    printed = [place.tidemill(*words, "--env", "sample").stdout for words in commands]
    assert all(text.splitlines()[0].endswith(": equal") for text in printed[:2]), printed[:2]
    assert printed[2].splitlines()[0].endswith(": CHALLENGER"), printed[2]
    assert printed[3].splitlines()[0].endswith("CHALLENGER there; nothing is copied"), printed[3]
    assert "0 of" in next(line for line in printed[4].splitlines() if line.startswith("predictions: ")), printed[4]
    assert json.loads(printed[5])["predictions"] is None
    promoted = place.tidemill("promote", str(SPEC), "--env", "production", "--version", "1", "--reason", "as it is in the sample").stdout
    assert "CHAMPION" in promoted or "champion" in promoted


def test_a_changed_flight_is_found_and_its_table_named(place):
    [path, *_] = [Path(uri.removeprefix("file://")) for uri in DeltaTable(str(place.lake / "bronze/flights")).file_uris()]
    rows = pq.read_table(path, partitioning=None)
    is_first = pa.array([number == 0 for number in range(rows.num_rows)])
    changed = pc.if_else(is_first, pc.add(rows["distance"], pa.scalar(1000, rows["distance"].type)), rows["distance"])
    pq.write_table(rows.set_column(rows.schema.get_field_index("distance"), "distance", changed), path)
    result = json.loads(place.tidemill("replay", str(SPEC), "--env", "sample", "--json", exit_code=3).stdout)
    assert [cause["name"] for cause in result["causes"] if cause["kind"] == "table"] == ["bronze.flights"]
    differing = {each["what"]: each["detail"] for each in result["differences"]}
    assert differing["silver.flights"].startswith("1 rows changed in distance, such as flight_id=")
    assert differing["gold.flight_delays_dataset"].startswith("1 rows changed in distance")
