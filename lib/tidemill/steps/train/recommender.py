"""The step train of the task recommendation: ALS over pairs of users and items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.features import FeaturePlan
from tidemill.runtime.caching import cache_frame
from tidemill.spec.models import seconds
from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.train.feature_variants import resolve_declared_spaces
from tidemill.steps.train.register_model import TrainedModel, register_model
from tidemill.steps.train.search import PastTrials, cross_validate_and_select, describe_failures
from tidemill.training.labels import LabelEncoding, filter_labelled
from tidemill.training.problem import Problem
from tidemill.training.recommendation.ids import known_ids
from tidemill.training.recommendation.preferences import Preferences
from tidemill.training.recommendation.search import RatingSearch, refit_pairs
from tidemill.training.rows import check_folds

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


_NUMBERS = ("_user", "_item")


def train_recommender(context: StepContext) -> StepResult:
    """Select the parameters of ALS by cross-validation, refit them on all training rows, and register the model.

    Writes the same tables as ``train`` for other tasks, except importances, since there are no features.

    Raises:
        StepError: there are too few training rows, or no trial succeeded.
        SpecError: a family or a parameter is unknown.
    """
    pipeline = context.spec.pipeline
    training, rule = pipeline.training, pipeline.dataset.split_rule()
    preferences = Preferences.of(training, pipeline.dataset)
    spaces = resolve_declared_spaces(context.spec)
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    labelled_rows = filter_labelled(dataset.where(F.col("split") == "train"), pipeline.dataset, pipeline.task_kind)
    rows = preferences.rows(labelled_rows, "fold")
    problem = Problem(pipeline.task_kind, pipeline.selection_metric, 0, training.tuner.seed, rule.is_expanding)
    labels = LabelEncoding(str(pipeline.dataset.label), "double", None)
    with known_ids(rows, "user", "item") as ids, cache_frame(_select_numbers(ids.transform(rows))) as frame:
        folds, fold_notes = check_folds(frame, labels, problem.metric, rule)
        total = frame.count()
        n_lost = labelled_rows.count() - total
        past = PastTrials(context, [preferences, pipeline.dataset.event_time], problem)
        search = RatingSearch(
            frame,
            spaces,
            problem,
            preferences,
            done=past.append,
            known=past.known(),
            parallelism=training.tuner.parallelism,
            limit=seconds(training.tuner.trial_timeout),
        )
        try:
            tuning, result = cross_validate_and_select(training, spaces, search, past, list(folds), total)
        finally:
            search.close()
        saved_ids = ids.copy()
        saved_ids._set(userCol=preferences.user, itemCol=preferences.item)
        model = refit_pairs(frame, saved_ids, result.best, problem, preferences, search.limit)
        library = result.libraries({result.best.number})
        types = {name: dataset.schema[name].dataType.simpleString() for name in (preferences.user, preferences.item)}
        version = register_model(context, TrainedModel(model, result, labels, types, FeaturePlan(), problem, library, [result.best.family]))
    lost_rows = (
        [f"{n_lost:,} labelled training rows have no {preferences.user} or no {preferences.item}, and are left out"] if n_lost else []
    )
    notes = (*fold_notes, *lost_rows, *search.engines.notes, *tuning.notes, *describe_failures(tuning))
    return StepResult(outputs={pipeline.model_name: version}, rows_in=total + n_lost, rows_out=total, notes=notes)


def _select_numbers(rows: DataFrame) -> DataFrame:
    user, item = (F.col(number).alias(name) for number, name in zip(_NUMBERS, ("user", "item"), strict=True))
    return rows.select(user, item, "rating", F.col("fold").cast("int").alias("fold"))
