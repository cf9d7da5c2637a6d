"""The dataset's block: lookups, aggregates and splits, and what is said of those that cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tidemill.spec import load_spec
from tidemill.spec.loading.grammar import json_schema
from tidemill.spec.models import AggregateMeasure, Split, column_names, parse_measure
from tidemill.workflow.fingerprint import fingerprint_definition
from tidemill.workflow.graph import build_graph

WEATHER = """lookups:
    weather: {table: silver.weather, by: [origin], time: observed_at, at_most: 2h, latest_by: station}
  aggregates: {over: silver.past, by: [tailnum], time: at,
    windows: [1d, 7d], known_at: arrived_at, features: {flights: count, mean_delay: avg(arr_delay)}}
  exclude: [arr_time]"""
TABLES = "tables:\n  weather: {sql: SELECT * FROM bronze.flights}\n  past: {sql: SELECT * FROM bronze.flights}\n"


@pytest.fixture
def with_history(changed: Callable[..., str]) -> Callable[..., str]:
    """The good spec with a lookup and an aggregate, and lines replaced."""

    def make(*pairs: str) -> str:
        text = changed("exclude: [arr_time]", WEATHER, "tables:\n", TABLES)
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    return make


def test_what_is_looked_into_is_read_and_is_part_of_the_definition(write: Callable[..., Path], with_history: Callable[..., str]) -> None:
    spec = load_spec(write(with_history()), environ={})
    dataset = spec.pipeline.dataset
    assert dataset.joined_tables == ("silver.weather", "silver.past")
    node = build_graph(spec)["dataset"]
    assert node.reads == ("silver.flights", "silver.past", "silver.weather")
    assert set(node.needs) == {"prepare.flights", "prepare.past", "prepare.weather"}
    other = load_spec(write(with_history("at_most: 2h", "at_most: 3h")), environ={})
    assert fingerprint_definition(spec, node) != fingerprint_definition(other, node)
    assert fingerprint_definition(spec, node) == fingerprint_definition(load_spec(write(with_history()), environ={}), node)


def test_aggregates_are_one_block_or_several_by_name(write: Callable[..., Path], with_history: Callable[..., str]) -> None:
    one = load_spec(write(with_history()), environ={}).pipeline.dataset.aggregate_blocks
    assert list(one) == [""]
    more = "    more: {over: silver.flights, by: [a], time: b, windows: [3], features: {n: count}}\n  exclude"
    text = with_history("aggregates: {over", "aggregates:\n    past: {over", "  exclude", more)
    spec = load_spec(write(text), environ={})
    assert list(spec.pipeline.dataset.aggregate_blocks) == ["past", "more"]
    assert spec.pipeline.dataset.aggregate_blocks["past"] == one[""]
    assert build_graph(spec)["dataset"].reads == ("silver.flights", "silver.past", "silver.weather")
    assert set(json_schema()["$defs"]["Aggregate"]["properties"]) == {"over", "by", "time", "known_at", "windows", "features"}


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("table: silver.weather", "table: silver.wether", "dataset.lookups.weather.table", "did you mean 'silver.weather'?"),
        ("over: silver.past", "over: silver.pass", "dataset.aggregates.over", "did you mean 'silver.past'?"),
        ("at_most: 2h", "atmost: 2h", "dataset.lookups.weather.atmost", "unknown key; did you mean 'at_most'?"),
        ("windows: [1d, 7d]", "window: [1d]", "dataset.aggregates.window", "unknown key; did you mean 'windows'?"),
        ("over: silver.past, ", "", "dataset.aggregates.over", "missing; `over:` is required"),
        ("at_most: 2h", "at_most: soon", "dataset.lookups.weather.at_most", "a duration such as 30m, 2h or 1d"),
        ("[1d, 7d]", "[1d, 0d]", "dataset.aggregates.windows.1", "a window of no length holds nothing"),
        ("[1d, 7d]", "[1d, 1 d]", "dataset.aggregates.windows.1", "listed twice"),
        ("avg(arr_delay)", "average(arr_delay)", "dataset.aggregates.features.mean_delay", "expected one of count, sum, avg"),
        ("avg(arr_delay)", "sum(DISTINCT x)", "dataset.aggregates.features.mean_delay", "no DISTINCT"),
        ("avg(arr_delay)", "avg(sum(x))", "dataset.aggregates.features.mean_delay", "another aggregate"),
        ("avg(arr_delay)", "avg((SELECT 1))", "dataset.aggregates.features.mean_delay", "subquery"),
        ("avg(arr_delay)", "avg(", "dataset.aggregates.features.mean_delay", "does not parse"),
        ("avg(arr_delay)", "avg(x) + 1", "dataset.aggregates.features.mean_delay", "expected one of count, sum"),
    ],
)  # fmt: skip
def test_faults_of_lookups_and_aggregates(
    faults: Callable, with_history: Callable[..., str], old: str, new: str, key: str, message: str
) -> None:
    text = with_history(old, new)
    [(line, actual, fault_message)] = faults(text)
    assert actual == key
    assert message in fault_message
    place = "weather:" if "lookups" in key else "aggregates" if "over" in key else "window"
    assert line is not None
    assert place in text.splitlines()[line - 1]


def test_both_need_an_event_time(faults: Callable, with_history: Callable[..., str]) -> None:
    text = with_history("  event_time: scheduled_at\n", "", 'split: {by: time, test: "2013-11-01"}', "split: {by: hash}")
    assert [key for _, key, _ in faults(text)] == ["dataset.lookups", "dataset.aggregates"]


@pytest.mark.parametrize(
    ("split", "key", "message"),
    [
        ("{by: hash, gap: 7d}", "gap", "this split is `by: hash`"),
        ("{by: time, gap: 0d}", "gap", "expected more than 0"),
        ("{by: time, gap: long}", "gap", "a duration such as"),
        ("{by: group, group: tailnum, stratified: true}", "stratified", "a group stays together"),
        ("{by: hash, group: tailnum, folds_by: group, stratified: true}", "stratified", "a group stays together"),
        ("{by: time, stratified: true}", "stratified", "a split by time cannot be stratified; leave it out, or give `folds_by: hash`"),
        ("{by: time, folds_by: expand}", "folds_by", "did you mean 'expanding'?"),
    ],
)
def test_faults_of_splits(faults: Callable, changed: Callable[..., str], split: str, key: str, message: str) -> None:
    [(line, actual, fault_message)] = faults(changed('{by: time, test: "2013-11-01"}', split))
    assert (line, actual) == (20, f"dataset.split.{key}")
    assert message in fault_message


def test_splits_that_are_valid_are_loaded_as_written(write: Callable[..., Path], changed: Callable[..., str]) -> None:
    for text in (
        "{by: time, gap: 7d, folds_by: expanding}", "{by: hash, folds_by: time, gap: 7d}", "{by: hash, stratified: true}",
        "{by: time, folds_by: hash, stratified: true}", '{by: time, test: "200", gap: 5}',
    ):  # fmt: skip
        split = load_spec(write(changed('{by: time, test: "2013-11-01"}', text)), environ={}).pipeline.dataset.split
        assert split.model_dump(exclude_unset=True).items() >= yaml.safe_load(text).items()


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("count", AggregateMeasure("count")),
        ("COUNT( * )", AggregateMeasure("count")),
        ("count(tailnum)", AggregateMeasure("count", "tailnum", ("tailnum",))),
        ("mean(arr_delay)", AggregateMeasure("avg", "arr_delay", ("arr_delay",))),
        ("avg(arr_delay > dep_delay)", AggregateMeasure("avg", "arr_delay > dep_delay", ("arr_delay", "dep_delay"))),
        ("max(coalesce(a, b))", AggregateMeasure("max", "coalesce(a, b)", ("a", "b"))),
        ("stddev(`a b`)", AggregateMeasure("stddev", "`a b`", ("a b",))),
    ],
)
def test_measures_are_taken_apart_by_the_parser(text: str, measure: AggregateMeasure) -> None:
    assert parse_measure(text) == measure


def test_columns_are_named_by_feature_and_window() -> None:
    assert column_names({"n": "count", "m": "avg(x)"}, ["1d", "36 h", 7, 0.5]) == [
        "n_1d", "n_36h", "n_7", "n_0_5", "m_1d", "m_36h", "m_7", "m_0_5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("split", "remedy"),
    [
        ({"by": "time"}, "split.folds_by: hash"), ({"by": "group", "group": "g"}, "split.folds_by: hash"),
        ({"by": "hash"}, "split.stratified: true"),
        ({"by": "time", "folds_by": "hash"}, "split.stratified: true"), ({"by": "hash", "stratified": True}, "add rows of the rarer class"),
        ({"by": "group", "group": "g", "folds_by": "hash"}, "add rows of the rarer class"),
    ],
)  # fmt: skip
def test_what_is_in_force_is_no_remedy_for_a_fold_without_a_class(split: dict[str, object], remedy: str) -> None:
    assert remedy in Split(**split).remedy_for_missing_classes  # type: ignore[arg-type]
