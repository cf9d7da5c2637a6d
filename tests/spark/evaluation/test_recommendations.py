"""Ranking metrics against numpy and MLlib's evaluator on the same rows; what is new to a user; the popular items."""

import math

import numpy as np
import pandas as pd
import pytest
from pyspark.ml.evaluation import RankingEvaluator

from tidemill.evaluation.recommendations import (
    aggregate_pairs,
    popularity_scores,
    predict_popular_ratings,
    ranking_metrics,
    rating_metrics,
    recommend_popular,
    relevant_pairs,
    top_items,
    top_unseen_items,
)

K = 5


def by_hand(ranked, relevant, k):
    """The four metrics, user by user, as the textbooks have them."""
    actual = []
    for user, wanted in relevant.items():
        hits = np.array([item in wanted for item in ranked.get(user, [])[:k]], dtype=float)
        hits = np.pad(hits, (0, k - len(hits)))
        discount = 1 / np.log2(np.arange(k) + 2)
        ideal = discount[: min(len(wanted), k)].sum()
        precisions = np.cumsum(hits) / (np.arange(k) + 1) * hits
        actual.append([(hits * discount).sum() / ideal, precisions.sum() / min(len(wanted), k), hits.sum() / k, hits.sum() / len(wanted)])
    return dict(zip(["ndcgAtK", "meanAveragePrecisionAtK", "precisionAtK", "recallAtK"], np.mean(actual, axis=0), strict=True))


def test_metrics_are_those_of_numpy_and_of_mllib(spark):
    rng = np.random.default_rng(3)
    relevant = {f"u{user}": set(rng.choice(20, size=rng.integers(1, 9), replace=False).tolist()) for user in range(30)}
    ranked = {user: rng.permutation(20)[: rng.integers(0, 8)].tolist() for user in list(relevant)[:25]}  # five get nothing
    rows = [(user, item, rank) for user, items in ranked.items() for rank, item in enumerate(items, start=1)]
    wanted = spark.createDataFrame([(user, item) for user, items in relevant.items() for item in items], "user string, item int")
    actual = ranking_metrics(spark.createDataFrame(rows, "user string, item int, rank int"), wanted, K)
    assert actual == pytest.approx(by_hand(ranked, relevant, K))
    lists = [([float(item) for item in ranked.get(user, [])], [float(item) for item in items]) for user, items in relevant.items()]
    frame = spark.createDataFrame(lists, "prediction array<double>, label array<double>")
    for name, value in actual.items():
        assert value == pytest.approx(RankingEvaluator(metricName=name, k=K).evaluate(frame)), name


def test_nobody_to_ask_is_no_number(spark):
    nothing = spark.createDataFrame([], "user string, item int, rank int")
    assert all(math.isnan(value) for value in ranking_metrics(nothing, nothing.select("user", "item"), K).values())


def test_ids_of_another_type_are_taken_as_those_of_the_model_and_what_is_none_is_unknown(spark):
    ranked = spark.createDataFrame([(7, 1, 1), (7, 2, 2), (8, 3, 1)], "user int, item bigint, rank int")
    liked = [("07", "1"), ("7", "9"), ("8", "three"), ("x", "1"), ("y", "1")]
    actual = ranking_metrics(ranked, spark.createDataFrame(liked, "user string, item string"), K)
    assert actual == pytest.approx(by_hand({7: [1, 2], 8: [3]}, {7: {1, 9}, 8: {"three"}, "x": {1}, "y": {1}}, K))
    assert actual["recallAtK"] == 1 / 8


def test_equal_scores_go_by_the_item_whatever_order_they_come_in(spark):
    items = spark.createDataFrame([(item, 1.0) for item in range(40)], "item int, score double")

    def best(users, count):
        return users.crossJoin(items.orderBy("score", (items["item"] * 7) % 40).limit(count))

    users = spark.createDataFrame([(1,)], "user int")
    assert [row["item"] for row in top_items(best, users, K).orderBy("rank").collect()] == [0, 1, 2, 3, 4]


def test_everybody_gets_the_best_of_what_is_new_to_them(spark):
    rng = np.random.default_rng(5)
    scores = {item: float(rng.integers(0, 40)) for item in range(120)}  # with ties
    # The heaviest user has seen almost all, another one nothing.
    had = {user: set(rng.choice(120, size=size, replace=False).tolist()) for user, size in enumerate([0, 3, 16, 17, 64, 65, 118])}
    items = spark.createDataFrame(list(scores.items()), "item int, score double")
    seen = spark.createDataFrame([(user, item) for user, items_ in had.items() for item in items_], "user int, item int")
    users = spark.createDataFrame([(user,) for user in had], "user int")
    actual = top_unseen_items(recommend_popular(items), users, seen, K).toPandas().sort_values(["user", "rank"])
    for user, items_ in had.items():
        order = sorted(set(scores) - items_, key=lambda item: (-scores[item], item))[:K]
        mine = actual[actual["user"] == user]
        assert mine["item"].tolist() == order
        assert mine["rank"].tolist() == list(range(1, len(order) + 1))


def test_counts_add_up_ratings_are_averaged_and_what_was_had_is_not_liked_anew(spark):
    rows = spark.createDataFrame([("a", 1, 2.0), ("a", 1, 4.0), ("a", 2, 5.0), ("b", 1, 0.0)], "user string, item int, rating double")
    ratings = {(row.user, row.item): row.rating for row in aggregate_pairs(rows, is_implicit=False).collect()}
    assert ratings == {("a", 1): 3.0, ("a", 2): 5.0, ("b", 1): 0.0}
    counts = aggregate_pairs(rows, is_implicit=True)
    assert {row.rating for row in counts.collect()} == {6.0, 5.0, 0.0}
    train = spark.createDataFrame([("a", 2, 1.0)], "user string, item int, rating double")
    assert [tuple(row) for row in relevant_pairs(counts, train, None).collect()] == [("a", 1)]
    assert [tuple(row) for row in relevant_pairs(aggregate_pairs(rows, is_implicit=False), train, 3.5).collect()] == []


def test_errors_are_those_of_known_rows_and_coverage_says_how_many(spark):
    train = pd.DataFrame({"user": list("aabbc"), "item": [1, 2, 1, 3, 1], "rating": [5.0, 3.0, 4.0, 1.0, 2.0]})
    held_out = [("a", 3, 2.0), ("c", 2, 5.0), ("z", 1, 4.0), ("a", 9, 1.0)]
    frame = spark.createDataFrame(train)
    items = popularity_scores(frame, is_implicit=False)
    mean = train["rating"].mean()
    expected = {item: (group.sum() + 5 * mean) / (len(group) + 5) for item, group in train.groupby("item")["rating"]}
    assert {row.item: row.score for row in items.collect()} == pytest.approx(expected)
    actual = rating_metrics(
        predict_popular_ratings(spark.createDataFrame(held_out, "user string, item long, rating double"), frame, items), is_implicit=False
    )
    errors = np.array([expected[3] - 2.0, expected[2] - 5.0])
    assert actual == pytest.approx({"rmse": np.sqrt((errors**2).mean()), "mae": np.abs(errors).mean(), "coverage": 0.5})
    counts = spark.createDataFrame([*train.itertuples(index=False), ("c", 2, 0.0), ("c", 4, 0.0)], frame.schema)
    assert {row.item: row.score for row in popularity_scores(counts, is_implicit=True).collect()} == {1: 3.0, 2: 1.0, 3: 1.0, 4: 0.0}
