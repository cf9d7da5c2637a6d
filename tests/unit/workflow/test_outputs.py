"""An output is there where its very version is, and a node whose output is gone runs again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from tidemill.workflow.outputs import lost_outputs


def test_each_output_is_asked_for_by_its_version(lake):
    for _ in range(3):
        write_deltalake(lake.path("silver.t"), pa.table({"n": [1]}), mode="append")
    for version in (1, 2):
        lake.write_text(f"models/p/{version}/model.json", "{}")
    (Path(lake.root) / "models" / "p" / "3" / "spark").mkdir(parents=True)
    assert lost_outputs(lake, {"silver.t": 2, "models.p": 1}) == []
    assert lost_outputs(lake, {"silver.t": 1, "models.p": 2}) == []
    assert lost_outputs(lake, {"silver.t": 3, "silver.u": 0, "models.q": 1}) == [
        "silver.t at version 3",
        "silver.u at version 0",
        "models.q at version 1",
    ]
    # A model without its manifest was never finished; that there are others does not make up for it.
    assert lost_outputs(lake, {"models.p": 3}) == ["models.p at version 3"]
    shutil.rmtree(Path(lake.root) / "models" / "p" / "1")
    assert lost_outputs(lake, {"models.p": 1}) == ["models.p at version 1"]
    assert lost_outputs(lake, {"models.p": 2}) == []
