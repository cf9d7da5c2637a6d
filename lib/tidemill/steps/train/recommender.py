"""The step train of the task recommendation: ALS over pairs of users and items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.features import FeaturePlan
from tidemill.runtime.caching import cache_frame
from tidemill.spec.models import seconds
from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.train.feature_variants import declared_spaces
from tidemill.steps.train.register_model import Trained, register
from tidemill.steps.train.search import PastTrials, failures, searched
from tidemill.training.labels import Labels, labelled
from tidemill.training.problem import Problem
from tidemill.training.recommendation.ids import known_ids
from tidemill.training.recommendation.preferences import Preferences
from tidemill.training.recommendation.search import RatingSearch, refit_pairs
from tidemill.training.rows import check_folds

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


_NUMBERS = ("_user", "_item")


def train_recommender(context: StepContext) -> StepResult:
    """Choose the parameters of ALS by cross-validation on the training rows and register what they make of all of them.

    Writes what ``train`` writes for other tasks; there are no features, and so no importances.

    Raises:
        StepError: there are too few training rows, or no trial succeeded.
        SpecError: a family or a parameter is unknown.
    """
    pipeline = context.spec.pipeline
    training, rule = pipeline.training, pipeline.dataset.split_rule()
    preferences = Preferences.of(training, pipeline.dataset)
    spaces = declared_spaces(context.spec)
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    declared = labelled(dataset.where(F.col("split") == "train"), pipeline.dataset, pipeline.task_kind)
    rows = preferences.rows(declared, "fold")
    problem = Problem(pipeline.task_kind, pipeline.selection_metric, 0, training.tuner.seed, rule.is_expanding)
    labels = Labels(str(pipeline.dataset.label), "double", None)
    with known_ids(rows, "user", "item") as ids, cache_frame(_numbered(ids.transform(rows))) as frame:
        folds, notes = check_folds(frame, labels, problem.metric, rule)
        total = frame.count()
        without = declared.count() - total
        past = PastTrials(context, [preferences, pipeline.dataset.event_time], problem)
        finder = RatingSearch(
            frame,
            spaces,
            problem,
            preferences,
            done=past.keep,
            known=past.known(),
            parallelism=training.tuner.parallelism,
            limit=seconds(training.tuner.trial_timeout),
        )
        try:
            tuned, found = searched(training, spaces, finder, past, list(folds), total)
        finally:
            finder.close()
        named = ids.copy()
        named._set(userCol=preferences.user, itemCol=preferences.item)
        model = refit_pairs(frame, named, found.best, problem, preferences, finder.limit)
        library = found.libraries({found.best.number})
        types = {name: dataset.schema[name].dataType.simpleString() for name in (preferences.user, preferences.item)}
        version = register(context, Trained(model, found, labels, types, FeaturePlan(), problem, library, [found.best.family]))
    lost = [f"{without:,} labelled training rows have no {preferences.user} or no {preferences.item} and take no part"] if without else []
    remarks = (*notes, *lost, *finder.engines.notes, *tuned.notes, *failures(tuned))
    return StepResult(outputs={pipeline.model_name: version}, rows_in=total + without, rows_out=total, notes=remarks)


def _numbered(rows: DataFrame) -> DataFrame:
    user, item = (F.col(number).alias(name) for number, name in zip(_NUMBERS, ("user", "item"), strict=True))
    return rows.select(user, item, "rating", F.col("fold").cast("int").alias("fold"))
