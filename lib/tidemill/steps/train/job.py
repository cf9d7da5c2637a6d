"""A training run on features: its rows, label, features and problem, and what is done with them one after the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.families import Family, find_family
from tidemill.features import FeaturePlan, plan_features, reserved_columns
from tidemill.learners.custom import EstimatorFamily
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.locks import scratch
from tidemill.spec.models import CustomFamily, Features, seconds
from tidemill.steps.result import StepContext
from tidemill.steps.train.feature_variants import Variants, declared_spaces, feature_space, may_need_parts
from tidemill.steps.train.register_model import Trained
from tidemill.steps.train.search import PastTrials, failures, searched
from tidemill.training.balance import balance_of
from tidemill.training.calibration import calibrate_scores, fit_calibrations
from tidemill.training.engines.choice import Engines, Resources, choose_engines, max_copy_bytes
from tidemill.training.ensembles.ensemble import Tried, try_ensemble
from tidemill.training.ensembles.refit import refit_ensemble
from tidemill.training.folds import WEIGHT
from tidemill.training.labels import Labels, free_labels, labelled, read_labels
from tidemill.training.monotone import check_monotone
from tidemill.training.out_of_fold import MAX_CALIBRATED_CLASSES, choose_threshold
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.rows import check_folds, training_rows
from tidemill.training.tuning import staged_boosting
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.tune import Tuned

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What a search came to: all trials, what is chosen of them, and how its probabilities are to be adjusted."""

    tuned: Tuned
    tried: Tried
    adjustment: Mapping[str, Any]


@dataclass
class TrainingJob:
    """One training run on features.

    ``rows`` are the labelled training rows with all columns, ``frame`` the same as the search reads them, cached; ``folds`` is the number
    of rows of each fold.
    """

    context: StepContext
    dataset: DataFrame
    rows: DataFrame
    labels: Labels
    plan: FeaturePlan
    frame: DataFrame
    folder: str
    folds: Mapping[int, int]
    problem: Problem
    total: int
    notes: list[str] = field(default_factory=list)

    @staticmethod
    @contextmanager
    def open(context: StepContext) -> Iterator[TrainingJob]:
        """Read the label, plan the features, cache the training rows and state the problem.

        Raises:
            StepError: there are too few labelled training rows, or a fold lacks a class.
            SpecError: a feature column or a family is unknown.
        """
        pipeline = context.spec.pipeline
        declared, rule = pipeline.dataset, pipeline.dataset.split_rule()
        dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
        rows = labelled(dataset.where(F.col("split") == "train"), declared, pipeline.task_kind)
        labels = _read_labels(context, dataset, rows)
        plan = _plan(context, rows, labels, pipeline.features)
        # Rows of one group are in one part, as they are in one fold.
        parted_by = ([rule.group] if rule.group else declared.key) if plan.needs_parts or may_need_parts(pipeline.training) else ()
        with (
            cache_frame(training_rows(rows, declared.key, labels, plan.columns, parted_by, declared.weight)) as frame,
            scratch(context.lake.engine_root) as folder,
        ):
            folds, notes = check_folds(frame, labels, pipeline.selection_metric, rule)
            problem = _state_problem(context, frame, labels)
            yield TrainingJob(context, dataset, rows, labels, plan, frame, folder, folds, problem, frame.count(), [*plan.notes, *notes])

    def start_search(self) -> tuple[Search, PastTrials]:
        """Choose the engines, and return the search with what is known from one that was cut short."""
        training = self.context.spec.pipeline.training
        spaces = declared_spaces(self.context.spec)
        past = PastTrials(self.context, self.plan.columns, self.problem)
        search = Search(
            self.frame,
            Variants(
                self.context.spec.pipeline.features, self.plan, lambda features: _plan(self.context, self.rows, self.labels, features)
            ),
            spaces,
            self.problem,
            engines=self._choose_engines(),
            done=past.keep,
            known=past.known(),
            parallelism=training.tuner.parallelism,
            limit=seconds(training.tuner.trial_timeout),
        )
        return search, past

    def _choose_engines(self) -> Engines:
        engines = choose_engines(
            self.context.spec.pipeline.training.found_engine,
            declared_spaces(self.context.spec),
            self.problem,
            Resources(scratch=self.folder, rows=self.total, columns=len(self.plan.columns), most_bytes=max_copy_bytes(self.context.spark)),
        )
        logger.info("engines: %s", "; ".join([*(f"{name}: {engine}" for name, engine in engines.of.items()), *engines.notes]))
        return engines

    def choose(self, search: Search, past: PastTrials) -> Choice:
        """Search, choose, and see what is to be done to the probabilities; every trial is recorded, whatever comes of it.

        Raises:
            StepError: no trial succeeded.
        """
        training, folds = self.context.spec.pipeline.training, list(self.folds)
        adjusts, kind = training.calibrate != "none" or training.threshold is not None, training.ensemble
        tuned_spaces = {name: {**feature_space(training), **space} for name, space in declared_spaces(self.context.spec).items()}
        try:
            tuned, result = searched(training, tuned_spaces, search, past, folds, self.total, is_last=not adjusts and kind == "none")
            tried = Tried(result)
            if kind != "none":
                spark = self.context.spark
                tried = try_ensemble(kind, spark, search, tried.result, tuned.trials, folds, scratch=self.folder, with_counts=adjusts)
                past.record(tried.result.rows)
            return Choice(tuned, tried, self._adjust(search, tried) if adjusts else self._fixed_adjustment())
        finally:
            search.close()

    def _fixed_adjustment(self) -> Mapping[str, Any]:
        kind, training = self.problem.task, self.context.spec.pipeline.training
        return {"threshold": 1 - training.contamination} if kind.finds_anomalies else {}

    def _adjust(self, search: Search, tried: Tried) -> Mapping[str, Any]:
        """Return the calibration and the threshold that the candidate's predictions of unseen rows ask for."""
        training = self.context.spec.pipeline.training
        known = tried.ensemble.counts if tried.ensemble else None
        counts = search.out_of_fold(tried.result.best, list(self.folds)) if known is None else known
        if self.problem.is_weighted:  # by the measure of rows, so that half a row is half a row in any unit of the weights
            counts = [histogram.scale(sum(self.folds.values()) / histogram.rows.sum()) for histogram in counts]
        adjustment: dict[str, Any] = {}
        if training.calibrate != "none":
            adjustment["calibrations"] = calibrations = fit_calibrations(training.calibrate, counts)
            counts = [calibrate_scores(*pair) for pair in zip(counts, calibrations, strict=True)]
        if training.threshold is not None:
            adjustment["threshold"] = choose_threshold(training.threshold, counts[0])
        return adjustment

    def refit(self, search: Search, choice: Choice) -> Trained:
        """Fit what was chosen on all training rows."""
        tried, result = choice.tried, choice.tried.result
        plan: FeaturePlan = search.plan_of(tried.parts[0].variant)
        options = {"memo": search.folds.of_all_rows, "limit": search.limit, **choice.adjustment}
        model: PipelineModel
        if tried.ensemble:
            model = refit_ensemble(self.frame, plan, tried.ensemble, self.problem, search.engines, **options)
        else:
            model = refit(self.frame, plan, result.best, self.problem, search.engines, **options)
        types = {name: self.dataset.schema[name].dataType.simpleString() for name in self.plan.columns}
        libraries = result.libraries({trial.number for trial in tried.parts})
        families = [trial.family for trial in tried.parts]
        return Trained(model, result, self.labels, types, plan, self.problem, libraries, families)

    def describe(self, search: Search, choice: Choice) -> tuple[str, ...]:
        """Return notes on the rows and features, on what was fitted, on families without a trial and on trials that failed."""
        pipeline, tuned, tried = self.context.spec.pipeline, choice.tuned, choice.tried
        families = {trial.family for trial in tuned.trials}
        untried = [name for name in pipeline.families if name not in families]
        notes = [*self.notes, *search.engines.notes, *tuned.notes]
        notes += [f"left out: {lack}" for lack in pipeline.left_out.values()]
        notes += [f"{', '.join(untried)}: not tried, training.tuner.trials is {len(tuned.trials)}"] if untried else []
        wanted = len({(row.trial, row.fold, row.share) for row in tuned.rows})
        notes.append(
            f"{wanted} fits of features and a model were asked for: {search.folds.fits} of features and {search.fits} of models were made"
        )
        if pipeline.training.features:
            learned = f"{search.folds.learnt} of {search.folds.asked} things that they ask of the rows were learnt"
            notes.append(f"variants of the features share what they have in common: {learned}")
        early = staged_boosting.remarks(tried.parts, tried.result.rows)
        return (*notes, *failures(tuned), *tried.notes, *early)


def _read_labels(context: StepContext, dataset: DataFrame, rows: DataFrame) -> Labels:
    pipeline = context.spec.pipeline
    kind, training = pipeline.task_kind, pipeline.training
    if not kind.learns_label:
        return free_labels(dataset, pipeline.dataset, kind, pipeline.selection_metric)
    labels = read_labels(rows, pipeline.dataset, kind, training.target)
    if training.calibrate != "none" and labels.n_classes > MAX_CALIBRATED_CLASSES:
        raise StepError(f"train: `calibrate` is for up to {MAX_CALIBRATED_CLASSES} classes, found {labels.n_classes}; leave it out")
    return labels


def _plan(context: StepContext, rows: DataFrame, labels: Labels, features: Literal["auto"] | Features) -> FeaturePlan:
    pipeline = context.spec.pipeline
    learns = pipeline.task_kind.learns_label
    plan = plan_features(
        features,
        rows,
        exclude=reserved_columns(pipeline.dataset),
        load=context.spec.function,
        classes=labels.classes if learns else None,
        learns_label=learns,
    )
    check_monotone(plan, pipeline.training.monotone, str(context.spec.file))
    return plan


def _state_problem(context: StepContext, frame: DataFrame, labels: Labels) -> Problem:
    pipeline = context.spec.pipeline
    training = pipeline.training
    return Problem(
        pipeline.task_kind,
        pipeline.selection_metric,
        labels.n_classes,
        training.tuner.seed,
        pipeline.dataset.split_rule().is_expanding,
        balance_of(training.balance, _class_counts(frame), labels.n_classes) if training.balance != "none" else None,
        _own_families(context),
        target=training.target,
        loss=training.loss_kind,
        quantile=training.quantile,
        monotone=training.monotone,
        is_weighted=pipeline.dataset.weight is not None,
        own_metrics=tuple(metric for metric in pipeline.own_metrics if metric.name == pipeline.selection_metric),
    )


def _own_families(context: StepContext) -> dict[str, Family]:
    """Return the families that are named by a dotted path, and those of an estimator that is; threads of the search know no folder."""
    families: dict[str, Family] = {}
    for name, declared in context.spec.pipeline.families.items():
        if isinstance(declared, CustomFamily):
            families[name] = EstimatorFamily.of(name, declared.python, context.spec.function(declared.python), declared.space)
        elif "." in name:
            families[name] = find_family(name, context.spec.pipeline.task_kind)
    return families


def _class_counts(frame: DataFrame) -> dict[int, float]:
    """Return what the rows of each class count for."""
    counts = F.sum(WEIGHT) if WEIGHT in frame.columns else F.count("*")
    return {int(row["label"]): row["n"] for row in frame.groupBy("label").agg(counts.alias("n")).collect()}
