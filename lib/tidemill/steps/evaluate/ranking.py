"""Evaluation of recommendations: the relevance of new items in the test rows, and the errors of predicted ratings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation import Measurement
from tidemill.evaluation.recommendations import (
    popularity_scores,
    predict_popular_ratings,
    ranking_metrics,
    rating_metrics,
    recommend_popular,
    top_unseen_items,
)
from tidemill.model_registry.predict import predict
from tidemill.runtime.caching import cache_frame
from tidemill.steps.evaluate.evaluator import Evaluator
from tidemill.training.recommendation.preferences import Preferences
from tidemill.training.recommendation.recommend import recommend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.model_registry import Manifest
    from tidemill.steps.result import StepContext
    from tidemill.tasks import Metric


class RankingEvaluator(Evaluator):
    """Measures recommendations on the test rows, without the pairs of the training rows."""

    def __init__(self, context: StepContext, dataset: DataFrame, own_metrics: Sequence[Metric]) -> None:
        """Select the rows; nothing is computed yet."""
        self._preferences = Preferences.of(context.spec.pipeline.training, context.spec.pipeline.dataset)
        test, train = (dataset.where(F.col("split") == split) for split in ("test", "train"))
        self._test = test
        self._held_out, self._train = self._preferences.rows(test), self._preferences.pairs(self._preferences.rows(train))

    def count_rows(self, manifest: Manifest) -> int:
        """Return the number of test rows with user, item and rating.

        Raises:
            StepError: there are none.
        """
        count = self._held_out.count()
        if not count:
            preferences = self._preferences
            raise StepError(
                f"dataset: no test row has {preferences.user}, {preferences.item} and {preferences.label}; check dataset.split and the SQL"
            )
        return count

    def measure(self, model: PipelineModel, manifest: Manifest) -> Measurement:
        """Return the metrics of a model; a user unknown to it gets no recommendation, and counts as 0."""
        preferences = self._preferences
        scored = preferences.rows(predict(model, manifest, self._test), "prediction")
        errors = rating_metrics(scored, is_implicit=preferences.is_implicit)
        with cache_frame(self._train) as train, cache_frame(preferences.relevant_pairs(self._held_out, train)) as relevant:
            ranked = recommend(model, preferences.k, seen=train, users=relevant)
            return Measurement.of_values({**ranking_metrics(ranked, relevant, preferences.k), **errors})

    def baseline(self, manifest: Manifest) -> Measurement:
        """Return the metrics of recommending popular items to the users of the training rows."""
        preferences = self._preferences
        with cache_frame(self._train) as train, cache_frame(preferences.relevant_pairs(self._held_out, train)) as relevant:
            items = popularity_scores(train, is_implicit=preferences.is_implicit)
            users = relevant.select("user").join(train, on="user", how="left_semi").distinct()
            ranked = top_unseen_items(recommend_popular(items), users, train, preferences.k)
            rated = predict_popular_ratings(self._held_out, train, items)
            errors = rating_metrics(rated, is_implicit=preferences.is_implicit)
            return Measurement.of_values({**ranking_metrics(ranked, relevant, preferences.k), **errors})

    def compare(self, candidate: Mapping[str, float], champion: Mapping[str, float]) -> tuple[str, ...]:
        """Return a note where the errors of two models are of different rows, since they know different users or items."""
        own, other = candidate["coverage"], champion["coverage"]
        if "rmse" not in candidate or own == other:
            return ()
        return (
            f"rmse and mae are of the test rows whose user and item a model knows: {own:.1%} for the candidate, {other:.1%} for the "
            "champion, so they are not of the same rows",
        )
