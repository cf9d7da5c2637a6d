"""The task recommendation in a spec: what it needs, and what does not go with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.families import resolve_spaces
from tidemill.spec import load_spec
from tidemill.workflow.graph import build_graph

FILMS = """\
pipeline: films
sources:
  ratings: {format: csv, path: ratings.csv, options: {header: true}}
dataset:
  sql: SELECT * FROM bronze.ratings
  key: [rating_id]
  label: rating
training:
  task: recommendation
  user: user_id
  item: film_id
"""


def test_ten_lines_are_a_spec(write: Callable[..., Path]) -> None:
    pipeline = load_spec(write(FILMS), environ={}).pipeline
    assert (pipeline.selection_metric, pipeline.training.items_each) == ("rmse", 10)
    counted = load_spec(write(FILMS + "  implicit: true\n"), environ={}).pipeline
    assert counted.selection_metric == "ndcgAtK"
    assert list(pipeline.families) == ["als"]
    assert pipeline.recommendations_table == "gold.films_recommendations"


def test_score_reads_the_dataset_wherever_its_rows_come_from(write: Callable[..., Path]) -> None:
    for scoring, reads in (("", ("gold.films_dataset", "models.films")),
                           ("scoring: {from: bronze.ratings}\n", ("bronze.ratings", "gold.films_dataset", "models.films"))):  # fmt: skip
        node = build_graph(load_spec(write(FILMS + scoring), environ={}))["score"]
        assert node.reads == reads
        assert "dataset" in node.needs


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("  item: film_id\n", "", "training.item", "missing; `task: recommendation` needs `item: <column of the dataset>`"),
        ("item: film_id", "item: user_id", "training.item", "'user_id' is also the `user`"),
        ("item: film_id", "item: rating", "training.item", "'rating' is also the label, which is the rating or the count"),
        ("item: film_id", "item: score", "training.item",
         "'score' is a column of the recommendations' own; rename it in the dataset's SQL"),
        ("user: user_id", "user: _user", "training.user",
         "'_user' is a name that the model needs for itself; rename the column in the dataset's SQL"),
        ("item: film_id", "item: Prediction", "training.item",
         "'Prediction' is a name that the model needs for itself; rename the column in the dataset's SQL"),
        ("training:", "features: {numeric: {columns: [age]}}\ntraining:", "features",
         "`task: recommendation` reads `training.user` and `training.item` alone; leave `features` out"),
        ("  item:", "  features: {numeric.scale: [standard, none]}\n  item:", "training.features",
         "tunes feature groups, and `task: recommendation` has none; leave it out"),
        ("  item:", "  balance: weights\n  item:", "training.balance",
         "is for `task: binary` and `multiclass` alone, found `task: recommendation`; leave it out"),
        ("  item:", "  engine: tasks\n  item:", "training.engine",
         "ALS is fitted by the whole cluster; write `engine: spark`, or leave it out"),
        ("  item:", "  calibrate: isotonic\n  item:", "training.calibrate",
         "is for `task: binary` and `multiclass` alone, found `task: recommendation`; leave it out"),
        ("  label: rating", "  label: rating\n  weight: trust", "dataset.weight",
         "is for `task: binary`, `multiclass` and `regression` alone, found `task: recommendation`; leave it out"),
        ("  item:", "  threshold: {maximise: f1}\n  item:", "training.threshold",
         "is for `task: binary` alone, found `task: recommendation`; leave it out"),
        ("  item:", "  implicit: true\n  metric: rmse\n  item:", "training.metric",
         "'rmse' is for ratings, and `implicit: true` says there are none; known: "
         "ndcgAtK, meanAveragePrecisionAtK, precisionAtK, recallAtK"),
        ("  item:", "  implicit: true\n  relevant: 4\n  item:", "training.relevant",
         "is for ratings: with `implicit: true` whatever was done counts; leave it out"),
        ("  item:", "  metric: ndcg\n  item:", "training.metric",
         "'ndcg' does not fit `task: recommendation`; did you mean 'ndcgAtK'?; known: ndcgAtK, meanAveragePrecisionAtK, precisionAtK, "
         "recallAtK, rmse, mae, coverage"),
        ("  item:", "  models: {als: {alpha: [1.0]}}\n  item:", "training.models.als.alpha",
         "weights implicit feedback; write `training.implicit: true`, or leave it out"),
        ("  item:", "  models: {als: {implicitPrefs: true}}\n  item:", "training.models.als.implicitPrefs",
         "write `implicit: true` under `training:` instead"),
        ("  item:", "  models: {mine: {python: functions.Mine}}\n  item:", "training.models.mine",
         "a custom family reads features, and `task: recommendation` has none; write `als`"),
        ("  item:", "  models: {alz: {}}\n  item:", "training.models.alz",
         "unknown model family for `task: recommendation`; did you mean 'als'?; known: als"),
        ("task: recommendation", "task: regression", "training.user",
         "is for `task: recommendation` alone, found `task: regression`; leave it out"),
        ("  label: rating", "  label: rating\n  split: {stratified: true}", "dataset.split.stratified",
         "a recommendation has no classes; leave it out"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said(faults: Callable, old: str, new: str, key: str, said: str) -> None:
    assert FILMS.count(old) == 1
    actual = {at: message for _, at, message in faults(FILMS.replace(old, new))}
    assert actual[key] == said


def test_what_tidemill_sets_and_what_als_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="als has no parameter 'ranks'; did you mean 'rank'") as caught:
        resolve_spaces({"als": {"ranks": [8], "userCol": "u", "regParam": ["much"]}}, "recommendation")
    assert "'userCol' is set by tidemill" in str(caught.value)
    assert "'much' is no value for regParam" in str(caught.value)


def test_counts_are_weighed_where_the_spec_has_no_space_of_its_own() -> None:
    for declared, expected in (({}, ["rank", "regParam", "alpha"]), ({"rank": [8]}, ["rank"])):
        assert list(resolve_spaces({"als": declared}, "recommendation", is_implicit=True)["als"]) == expected
    assert "alpha" not in resolve_spaces({"als": {}}, "recommendation")["als"]
