"""The task recommendation through the steps: a planted taste is found, the cold are named, and everybody gets what is new to them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from tidemill.evaluation.recommendations import popularity_scores, ranking_metrics, recommend_popular, top_unseen_items
from tidemill.lake import Lake
from tidemill.model_registry import Deployments, load_model, read_manifest
from tidemill.runtime.caching import cache_frame
from tidemill.spec import Spec
from tidemill.spec.models import Pipeline
from tidemill.steps.deploy import deploy
from tidemill.steps.evaluate.ranking import RankingEvaluator
from tidemill.steps.evaluate.step import evaluate
from tidemill.steps.monitor.step import monitor
from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.score.step import score, write_recommendations
from tidemill.steps.train.step import train
from tidemill.training.problem import Problem
from tidemill.training.recommendation.preferences import Preferences, RatingVectors, compute_fold_metrics, fit_als, unpersist_factors

pytestmark = pytest.mark.long("its tests share a model and what the steps did with it; the first pays for it")

K, NOISE = 5, 0.2
SCHEMA = "rating_id INT, user_id STRING, film_id BIGINT, rating DOUBLE, split STRING, fold INT"
BIG = 10**12  # ids that no INT holds


def spec(**training):
    return {
        "pipeline": "films",
        "sources": {"raw": {"format": "csv", "path": "raw.csv"}},
        "dataset": {"from": "silver.ratings", "key": ["rating_id"], "label": "rating"},
        "training": {
            "task": "recommendation",
            "user": "user_id",
            "item": "film_id",
            "at": K,
            "folds": 2,
            "tuner": {"strategy": "grid"},
            "models": {"als": {"rank": 3, "regParam": [0.02, 5.0], "maxIter": 6}},
            **training,
        },
    }


def ratings():
    """Who rates what goes by chance, how by two traits; of the test rows one has a new user, one a new film, one nobody at all.

    Two rows of one user lie in a gap, and one of them has no rating.
    """
    rng = np.random.default_rng(8)
    users, films = 50, 40
    truth = 3 + rng.normal(size=(users, 2)) @ rng.normal(size=(2, films)) * 0.7
    user, film = np.nonzero(rng.random((users, films)) < 0.8)
    part = rng.random(len(user))
    rows = pd.DataFrame(
        {
            "user_id": [f"user {number}" for number in user],
            "film_id": BIG + film,
            "rating": truth[user, film] + NOISE * rng.normal(size=len(user)),
            "split": np.where(part < 0.25, "test", "train"),
            "fold": np.where(part < 0.25, np.nan, (part * 1000).astype(int) % 2),
        }
    )
    cold = pd.DataFrame({"user_id": ["nobody", "user 1", None], "film_id": [BIG, 7, BIG], "rating": [5.0, 5.0, 4.0], "split": "test"})
    lost = pd.DataFrame({"user_id": [None], "film_id": [BIG], "rating": [4.0], "split": "train", "fold": [0.0]})
    free = BIG + np.setdiff1d(np.arange(films), film[user == 2])[:2]
    gap = pd.DataFrame({"user_id": "user 2", "film_id": free, "rating": [4.0, np.nan], "split": "gap"})
    return pd.concat([rows, gap, cold, lost], ignore_index=True).rename_axis("rating_id").reset_index()


class Films:
    """A lake with the dataset, and the steps on it."""

    def __init__(self, spark, root: Path, rows: pd.DataFrame, declared: dict) -> None:
        self.spark, self.lake = spark, Lake(str(root / "lake"))
        self.spec = Spec(pipeline=Pipeline.model_validate(declared), file=root / "pipeline.yml", folder=root)
        columns = ["rating_id", "user_id", "film_id", "rating", "split", "fold"]
        records = [
            (int(key), user, int(film), float(rating), side, None if math.isnan(fold) else int(fold))
            for key, user, film, rating, side, fold in rows[columns].itertuples(index=False)
        ]
        self.inputs = {"gold.films_dataset": self.lake.replace(spark.createDataFrame(records, SCHEMA), "gold.films_dataset", meta={})}

    def step(self, function, run_id="r1"):
        from tidemill.runtime.session import child_session

        context = StepContext(child_session(self.spark), self.spec, self.lake, self.inputs, run_id, function.__name__)
        result = function(context)
        if isinstance(result, StepResult):
            self.inputs |= {name: version for name, version in result.outputs.items() if name.startswith("models.")}
        return result

    def table(self, name):
        return self.lake.read(self.spark, name).toPandas()

    def metrics(self):
        rows = self.lake.ledger.rows("ops.metrics", pipeline="films")
        return {version: {row["metric"]: row["value"] for row in rows if row["model_version"] == version} for version in (0, 1)}


def products(films):
    """What the model's vectors say of every pair: a row a user, a column a film."""
    ids, als = load_model(films.lake, "films", 1)[0].stages
    users, items = (frame.toPandas().sort_values("number")["id"] for frame in (ids.users, ids.items))
    vectors = [np.stack(frame.toPandas().sort_values("id")["features"]) for frame in (als.userFactors, als.itemFactors)]
    return pd.DataFrame(vectors[0] @ vectors[1].T, index=users, columns=items)


def best_of_the_rest(scores, rows):
    """For each user the scores of the best films that they have in none of the rows."""
    had = rows.groupby("user_id")["film_id"].agg(set)
    return {user: of_user.drop(had.get(user, ()), errors="ignore").nlargest(K) for user, of_user in scores.iterrows()}


@pytest.fixture(scope="module")
def films(spark, tmp_path_factory):
    """The pipeline of explicit ratings, run once, with what its steps said."""
    made = Films(spark, tmp_path_factory.mktemp("films"), ratings(), spec())
    made.said = {step.__name__: made.step(step) for step in (train, evaluate, deploy, score, monitor)}
    return made


def test_the_search_finds_the_better_penalty_and_says_who_takes_no_part(films):
    manifest = read_manifest(films.lake, "films", 1)
    trials = films.lake.ledger.rows("ops.trials", pipeline="films")
    assert {(row["trial"], row["fold"], row["state"]) for row in trials} == {(n, fold, "SUCCEEDED") for n in (0, 1) for fold in (0, 1)}
    assert {(row["metric"], row["library"], row["engine"]) for row in trials} == {("rmse", manifest.library, "spark")}
    assert (manifest.params["regParam"], manifest.feature_columns) == (0.02, {"user_id": "string", "film_id": "bigint"})
    assert "1 labelled training rows have no user_id or no film_id, and are left out" in films.said["train"].notes
    assert Deployments(films.lake.ledger, "films").champion() == 1


def test_the_model_is_near_the_noise_and_far_above_what_is_popular(films):
    found = films.metrics()
    rows = ratings().dropna(subset=["user_id"])
    train_rows, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    known = test[test["user_id"].isin(train_rows["user_id"]) & test["film_id"].isin(train_rows["film_id"])]
    predicted = known.merge(films.table("gold.films_predictions"), on="rating_id")
    errors = predicted["prediction"] - predicted["rating"]
    assert found[1]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert found[1]["mae"] == pytest.approx(errors.abs().mean())
    assert found[1]["rmse"] < 2 * NOISE < found[0]["rmse"]
    assert found[1]["coverage"] == found[0]["coverage"] == pytest.approx(len(known) / len(test))
    assert found[1]["ndcgAtK"] > 1.5 * found[0]["ndcgAtK"] > 0


def test_ranking_metrics_are_those_of_numpy_on_the_best_films_that_are_not_in_the_training_rows(films):
    rows, found = ratings().dropna(subset=["user_id"]), films.metrics()[1]
    train_rows, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    liked = test[test["rating"] >= train_rows["rating"].mean()]
    top = best_of_the_rest(products(films), train_rows)
    ndcg, recall = [], []
    for user, wanted in liked.groupby("user_id")["film_id"].agg(set).items():
        hits = np.array([film in wanted for film in top[user].index] if user in top else [0] * K, dtype=float)
        discount = 1 / np.log2(np.arange(K) + 2)
        ndcg.append((hits * discount).sum() / discount[: min(len(wanted), K)].sum())
        recall.append(hits.sum() / len(wanted))
    assert (found["ndcgAtK"], found["recallAtK"]) == pytest.approx((np.mean(ndcg), np.mean(recall)))


def test_every_user_gets_the_best_films_that_no_row_of_the_dataset_has_them_with(films):
    rows = ratings().dropna(subset=["user_id"])
    frame = films.lake.read(films.spark, "gold.films_recommendations")
    types = {field.name: field.dataType.simpleString() for field in frame.schema}
    stamps = {"model_version": "int", "run_id": "string", "scored_at": "timestamp"}
    assert types == {"user_id": "string", "rank": "int", "film_id": "bigint", "score": "double", **stamps}
    found = frame.toPandas()
    assert set(rows["split"]) == {"train", "test", "gap"} and found.merge(rows, on=["user_id", "film_id"]).empty
    scores = products(films)
    expected = best_of_the_rest(scores, rows)
    assert set(found["user_id"]) == {user for user, best in expected.items() if len(best)}
    for user, mine in found.sort_values("rank").groupby("user_id"):
        assert mine["film_id"].tolist() == expected[user].index.tolist()
        assert mine["rank"].tolist() == list(range(1, len(mine) + 1))
        assert np.allclose(mine["score"], expected[user], atol=1e-5)
    predicted = rows.merge(films.table("gold.films_predictions"), on="rating_id").dropna(subset=["prediction"])
    same = [scores.loc[user, film] for user, film in zip(predicted["user_id"], predicted["film_id"], strict=True)]
    assert np.allclose(predicted["prediction"], same, atol=1e-5)


def test_cold_rows_are_in_the_predictions_with_a_reason(films):
    rows = ratings()
    found = films.table("gold.films_predictions").merge(rows, on="rating_id")
    assert len(found) == len(rows) == films.said["score"].rows_out
    cold = found[found["prediction"].isna()].sort_values("rating_id")
    assert cold["score_error"].tolist() == [
        "user nobody (user_id) is not in the training rows",
        "item 7 (film_id) is not in the training rows",
        "user_id, the user, is null",
        "user_id, the user, is null",
    ]
    assert found["probability"].isna().all()
    assert found[found["prediction"].notna()]["score_error"].isna().all()


def test_a_repeat_gives_the_same_and_seen_films_may_be_kept(films):
    before = [films.table(name).drop(columns=["run_id", "scored_at"]) for name in ("gold.films_predictions", "gold.films_recommendations")]
    films.step(score, "r2")
    after = [films.table(name).drop(columns=["run_id", "scored_at"]) for name in ("gold.films_predictions", "gold.films_recommendations")]
    for one, other, key in zip(before, after, (["rating_id"], ["user_id", "rank"]), strict=True):
        pd.testing.assert_frame_equal(*(frame.sort_values(key).reset_index(drop=True) for frame in (one, other)))
    assert films.said["monitor"].rows_out == 0

    scoring = films.spec.pipeline.scoring.model_copy(update={"seen": True})
    films.spec = replace(films.spec, pipeline=films.spec.pipeline.model_copy(update={"scoring": scoring}))
    films.step(lambda context: write_recommendations(context, *load_model(films.lake, "films", 1)), "r3")
    kept = films.table("gold.films_recommendations")
    assert len(kept) == 50 * K > len(before[1])
    assert kept.groupby("user_id")["score"].max().ge(before[1].groupby("user_id")["score"].max() - 1e-6).all()
    assert not kept.merge(ratings().query("split == 'train'"), on=["user_id", "film_id"]).empty


def test_a_model_is_measured_on_ids_that_have_become_text(films):
    film = F.col("film_id")
    texts = films.lake.read(films.spark, "gold.films_dataset").withColumn(
        "film_id", F.when(film == 7, "seven").otherwise(film.cast("string"))
    )
    found = films.step(lambda context: RankingEvaluator(context, texts, ()).measure(*load_model(films.lake, "films", 1))).values
    assert found == pytest.approx(films.metrics()[1])


def test_errors_of_two_models_that_are_of_different_rows_are_told_as_such():
    candidate, champion = {"rmse": 1.0, "coverage": 0.9}, {"rmse": 1.1, "coverage": 0.75}
    compare = RankingEvaluator.__new__(RankingEvaluator).compare  # it reads no rows
    (note,) = compare(candidate, champion)
    assert "90.0% for the candidate, 75.0% for the champion" in note
    assert compare(candidate, {**champion, "coverage": 0.9}) == compare({"coverage": 0.9}, {"coverage": 0.75}) == ()


def test_rows_that_have_just_arrived_are_scored(films, score_input, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text(f"user_id,film_id\nuser 3,{BIG + 4}\nuser 3,seven\nnobody,{BIG}\n")
    found = score_input(films.spec, films.lake, file, at="dataset").to_dict("records")
    assert [row["prediction"] is None for row in found] == [False, True, True]
    assert "film_id is not a value of type bigint: user 3,seven" in found[1]["score_error"]
    assert found[2]["score_error"] == "user nobody (user_id) is not in the training rows"


def test_what_is_done_often_tells_a_taste(spark):
    rng = np.random.default_rng(2)
    user, film = np.meshgrid(np.arange(40), np.arange(24), indexing="ij")
    is_done = rng.random(user.shape) < np.where(user % 4 == film % 4, 0.7, 0.04)
    done = pd.DataFrame({"user": user[is_done], "item": film[is_done]}).astype("int32")
    done["rating"] = rng.integers(1, 5, len(done)).astype(float)
    is_test = rng.random(len(done)) < 0.3
    problem, preferences = Problem("recommendation", "recallAtK", 0, seed=7), Preferences("user", "item", "rating", True, k=K)
    before = set(spark.sparkContext._jsc.getPersistentRDDs())

    def persisted():
        return {rdd.name() for number, rdd in spark.sparkContext._jsc.getPersistentRDDs().items() if number not in before}

    with cache_frame(preferences.pairs(spark.createDataFrame(done[~is_test]))) as train_pairs:
        held_out = spark.createDataFrame(done[is_test])
        relevant = preferences.relevant_pairs(held_out, train_pairs)
        model = fit_als(train_pairs, {"rank": 4, "alpha": 10.0, "maxIter": 5}, problem, is_implicit=True)
        found = compute_fold_metrics(model, RatingVectors(train_pairs, held_out, relevant), preferences, ["recallAtK", "coverage"])
        assert persisted() > {"userFactors", "itemFactors"}
        unpersist_factors(model)
        assert not persisted() & {"userFactors", "itemFactors"}
        items = popularity_scores(train_pairs, is_implicit=True)
        ranked = top_unseen_items(recommend_popular(items), relevant.select("user").distinct(), train_pairs, K)
        baseline = ranking_metrics(ranked, relevant, K)
    assert set(found) == {"ndcgAtK", "meanAveragePrecisionAtK", "precisionAtK", "recallAtK", "coverage"}
    assert found["coverage"] == 1
    assert found["recallAtK"] > 2 * baseline["recallAtK"] > 0
