"""A feature group of the user's own, named by its dotted path: its options, and its faults by line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.spec import load_spec
from tidemill.spec.models import Features

RATIOS = """
from pydantic import Field

from tidemill.features.groups import ColumnBlock, Contribution, FeatureGroup, Scalar


class Ratio(ColumnBlock):
    over: str
    scale: float = Field(default=1.0, gt=0)


class Ratios(FeatureGroup):
    options = Ratio
    accepts, expected = frozenset({"numeric"}), "a number"

    def contribute(self, blocks, columns):
        return Contribution([Scalar(f"{name}/{block.over}", f"{name} / {block.over}") for block in blocks for name in block.columns])

    def columns(self, block):
        return [*block.columns, block.over]


class NoGroup:
    pass
"""
BLOCK = "features:\n  functions.Ratios: {columns: [distance], over: air_time}\n  numeric: {columns: [distance]}"


@pytest.fixture(autouse=True)
def functions(tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(RATIOS, encoding="utf-8")


def test_its_blocks_are_validated_by_its_own_options(write: Callable, changed: Callable) -> None:
    spec = load_spec(write(changed("features:\n  numeric: {columns: [distance]}", BLOCK)), environ={})
    features = spec.pipeline.features
    assert isinstance(features, Features)
    assert [(group.name, group.columns) for group in features.groups] == [
        ("numeric", ["distance"]), ("functions.Ratios", ["distance", "air_time"]),
    ]  # fmt: skip
    assert features.blocks("functions.Ratios")[0].scale == 1.0
    assert features.model_dump(by_alias=True)["functions.Ratios"] == {"columns": ["distance"], "over": "air_time", "scale": 1.0}
    assert any("class Ratios" in text for text in spec.training_code())
    assert spec.tree is not None
    assert spec.tree.nearest("features.functions.Ratios.over").value == "air_time"


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("over: air_time", "over: air_time, scale: 0", "features.functions.Ratios.scale", "expected a number of more than 0, found 0"),
        ("over: air_time", "ovr: air_time", "features.functions.Ratios.ovr", "unknown key"),
        ("[distance], over", "[is_late], over", "features.functions.Ratios.columns.0", "'is_late' is the label; a model may not see it"),
        ("functions.Ratios", "functions.NoGroup", "features.functions.NoGroup",
         "the feature group 'functions.NoGroup' cannot be used: functions.NoGroup is NoGroup, expected a class that inherits "
         "tidemill.features.groups.FeatureGroup"),
    ],
)  # fmt: skip
def test_one_fault(faults: Callable, changed: Callable, old: str, new: str, key: str, message: str) -> None:
    text = changed("features:\n  numeric: {columns: [distance]}", BLOCK.replace(old, new, 1))
    line = 1 + text[: text.index("functions.")].count("\n")
    assert (line, key, message) in faults(text)
