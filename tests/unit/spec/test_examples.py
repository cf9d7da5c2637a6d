"""The example pipelines: they load as they stand, and say what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.spec import Spec, load_spec

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture(scope="module")
def flights() -> Spec:
    return load_spec(CONF / "flight_delays" / "pipeline.yml", environ={})


def test_flight_delays_reads_its_order_from_its_sql(flights: Spec) -> None:
    assert {name: flights.table_inputs(name) for name in flights.pipeline.tables} == {
        "flights": ["bronze.flights"],
        "weather": ["bronze.weather"],
        "conditions": ["silver.weather"],
        "planes": ["bronze.planes"],
        "airports": ["bronze.airports"],
    }
    assert flights.dataset_inputs() == ["silver.airports", "silver.conditions", "silver.flights", "silver.planes"]
    assert flights.scoring_inputs() == ["gold.flight_delays_dataset"]


def test_flight_delays_sees_nothing_that_is_known_only_afterwards(flights: Spec) -> None:
    dataset, features = flights.pipeline.dataset, flights.pipeline.features
    assert {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"} == set(dataset.exclude)
    assert features != "auto"
    assert features.blocks("numeric")
    assert features.blocks("categorical")
    columns = {*features.blocks("numeric")[0].columns, *features.blocks("categorical")[0].columns}
    assert not columns & {*dataset.exclude, *dataset.key, dataset.label}
    sql = flights.sql_text("dataset.sql")
    assert all(column in sql for column in columns)


def test_flight_delays_reads_where_it_is_told_to() -> None:
    spec = load_spec(CONF / "flight_delays", environ={"DATA": "/raw", "TIDEMILL_LAKE": "/lake"}, set_values={"training.tuner.trials": "3"})
    assert spec.pipeline.sources["weather"].path == "/raw/weather.jsonl"
    assert (spec.pipeline.lake, spec.pipeline.training.tuner.trials) == ("/lake", 3)


def test_quickstart_is_taken_in_at_a_glance() -> None:
    file = CONF / "quickstart" / "pipeline.yml"
    assert len(file.read_text().splitlines()) <= 25
    spec = load_spec(file, environ={})
    assert spec.pipeline.features.is_auto
    path = spec.pipeline.sources["air_times"].path
    assert path is not None
    assert (CONF.parent / path).is_file()


@pytest.mark.parametrize("name", ["news_topics", "newsgroups"])
def test_the_text_examples_keep_the_published_split(name: str) -> None:
    spec = load_spec(CONF / name / "pipeline.yml", environ={"DATA": "/raw"})
    pipeline = spec.pipeline
    assert pipeline.sources[f"{name}_documents"].path == f"/raw/{name}/*.tab"
    assert (pipeline.dataset.split_rule().by, pipeline.dataset.split_rule().column) == ("column", "part")
    assert pipeline.has_texts
    assert list(pipeline.families) == ["linear_svm", "logistic_regression", "naive_bayes"]
    assert spec.table_inputs(name) == [f"bronze.{name}_documents"]
