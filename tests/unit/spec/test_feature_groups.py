"""The groups of `features`: one block or a list, and what is wrong with either, by line and key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.features.groups import Categorical
from tidemill.spec import load_spec
from tidemill.spec.loading.grammar import json_schema
from tidemill.spec.models import Features

LISTS = """features:
  numeric:
    - {columns: [distance, "Air Time"], indicators: true}
    - {columns: [temp], scale: robust}
  categorical:
    - {columns: [carrier]}
    - {columns: [tailnum], encode: target, smoothing: 10}
  boolean: {columns: [is_new]}
  array: {columns: [tags], min_frequency: 3}
  buckets: [{columns: [dep_hour], splits: [6, 12, 18]}, {columns: [age], quantiles: 5}]
  interactions: {pairs: [[carrier, origin], [temp, wind]]}
  polynomial: {columns: [temp, wind], degree: 2}
  pca: {columns: [a, b, c], k: 2}
  hashing: {columns: [origin, dest], size: 512}
  select: {method: correlation, threshold: 0.9, top: 20}"""
ONE = "features:\n  numeric: {columns: [distance]}"


def test_every_group_may_be_a_block_or_a_list(write: Callable, changed: Callable) -> None:
    features = load_spec(write(changed(ONE, LISTS)), environ={}).pipeline.features
    assert isinstance(features, Features)
    assert [block.columns for block in features.blocks("numeric")] == [["distance", "Air Time"], ["temp"]]
    assert features.blocks("boolean")[0].columns == ["is_new"]
    assert isinstance(features.blocks("categorical")[1], Categorical)
    assert features.columns == [
        "distance", "Air Time", "temp", "is_new", "carrier", "tailnum", "tags", "dep_hour", "age", "origin", "wind", "a", "b", "c", "dest",
    ]  # fmt: skip
    assert not features.is_auto
    assert Features.model_validate({"select": {"top": 3}, "checks": {}}).is_auto


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "message"),
    [
        ("scale: robust", "scale: robst", 25, "features.numeric.1.scale",
         "expected one of 'standard', 'minmax', 'robust', 'none', found 'robst'; did you mean 'robust'?"),
        ("indicators: true}", "indicator: true}", 24, "features.numeric.0.indicator", "unknown key; did you mean 'indicators'?"),
        ("boolean: {columns: [is_new]}", "bolean: {columns: [is_new]}", 29, "features.bolean", "unknown key; did you mean 'boolean'?"),
        ("boolean: {columns: [is_new]}", "boolean: [is_new]", 29, "features.boolean.0", "expected a block of keys, found 'is_new'"),
        ("encode: target", "encode: targt", 28, "features.categorical.1.encode",
         "expected one of 'auto', 'onehot', 'index', 'target', 'count', 'hashing', found 'targt'; did you mean 'target'?"),
        ("splits: [6, 12, 18]", "splits: [6, 18, 12]", 31, "features.buckets.0", "splits: expected numbers in rising order, each once"),
        (", quantiles: 5", "", 31, "features.buckets.1", "needs one of `splits` (such as [0, 10, 100]) and `quantiles` (such as 10)"),
        ("[temp, wind]]", "[temp]]", 32, "features.interactions.pairs.1", "expected at least 2 items, found a list of 1"),
        ("degree: 2", "degree: 9", 33, "features.polynomial.degree", "expected a number of at most 5, found 9"),
        ("k: 2", "k: 7", 34, "features.pca", "k is 7, expected at most the number of columns, 3"),
        ("threshold: 0.9, top: 20", "threshold: 90", 36, "features.select",
         "threshold of correlation is a share, expected at most 1, found 90"),
        (", threshold: 0.9, top: 20", "", 36, "features.select", "needs `top` (how many slots stay) or `threshold`"),
        ("columns: [carrier]", "columns: [carrier, is_late]", 27, "features.categorical.0.columns.1",
         "'is_late' is the label; a model may not see it"),
        ("[carrier, origin]", "[carrier, arr_time]", 32, "features.interactions.pairs.0.1",
         "'arr_time' is also in `dataset.exclude`; remove it from one of the two"),
        ("columns: [temp]", "columns: [distance]", 25, "features.numeric.1.columns.0", "'distance' is listed twice"),
        ("[is_new]", "[temp]", 29, "features.boolean.columns.0", "'temp' is also in `features.numeric`; remove it from one of the two"),
    ],
)  # fmt: skip
def test_one_fault(faults: Callable, changed: Callable, old: str, new: str, line: int, key: str, message: str) -> None:
    assert old in LISTS
    assert faults(changed(ONE, LISTS.replace(old, new, 1))) == [(line, key, message)]


def test_a_column_may_be_encoded_in_two_ways(write: Callable, changed: Callable) -> None:
    both = LISTS.replace("columns: [tailnum]", "columns: [tailnum, carrier]")
    assert load_spec(write(changed(ONE, both)), environ={}).pipeline.features


def test_naive_bayes_cannot_take_components(faults: Callable, changed: Callable) -> None:
    text = changed(ONE, "features:\n  pca: {columns: [a, b], k: 1}").replace("  models:\n", "  models:\n    naive_bayes: {}\n")
    [(_, key, message)] = faults(text)
    assert key == "training.models.naive_bayes"
    assert "those of pca are" in message


def test_the_schema_for_editors_knows_both_forms() -> None:
    numeric = json_schema()["$defs"]["Features"]["properties"]["numeric"]["anyOf"]
    assert {"$ref": "#/$defs/Numeric"} in numeric
    assert {"type": "array", "items": {"$ref": "#/$defs/Numeric"}} in numeric
