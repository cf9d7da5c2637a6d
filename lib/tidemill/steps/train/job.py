"""A training run on features: its rows, label, features and problem, and its stages: search, adjustment, refit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.dataset.splits import hash_columns
from tidemill.errors import StepError
from tidemill.families import Family, find_family
from tidemill.features import FeaturePlan, plan_features, reserved_columns
from tidemill.learners.custom import EstimatorFamily
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.locks import scratch
from tidemill.spec.models import CustomFamily, Features, Space, seconds
from tidemill.steps.result import StepContext
from tidemill.steps.train.feature_variants import FeatureVariants, build_feature_space, may_need_parts, resolve_declared_spaces
from tidemill.steps.train.register_model import TrainedModel
from tidemill.steps.train.search import PastTrials, cross_validate_and_select, describe_failures
from tidemill.training.balance import compute_balance
from tidemill.training.calibration import calibrate_scores, fit_calibrations
from tidemill.training.engines.choice import Engines, Resources, choose_engines, max_copy_bytes
from tidemill.training.ensembles.ensemble import EnsembleResult, try_ensemble
from tidemill.training.ensembles.refit import refit_ensemble
from tidemill.training.folds import WEIGHT
from tidemill.training.labels import LabelEncoding, filter_labelled, read_labels, read_unsupervised_labels
from tidemill.training.monotone import check_monotone
from tidemill.training.out_of_fold import MAX_CALIBRATED_CLASSES, choose_threshold
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.rows import check_folds, select_training_rows
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.staged_boosting import describe_rounds
from tidemill.training.tuning.tune import TuningResult
from tidemill.training.tuning.tuner import Trial

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

logger = logging.getLogger(__name__)

_SHARE, _SHARES = "share of the training rows", 1_000_000


@dataclass(frozen=True)
class Choice:
    """The result of a search: all trials, the selected candidate, and the adjustment of its probabilities."""

    tuning: TuningResult
    ensemble_result: EnsembleResult
    adjustment: Mapping[str, Any]


@dataclass(frozen=True)
class TrainingJob:
    """One training run on features.

    ``spaces`` are the search spaces of the families. ``rows`` are the labelled training rows with all columns, ``frame`` the same rows as
    the search reads them, cached; ``folds`` is the number of rows by fold.
    """

    context: StepContext
    spaces: Mapping[str, Space]
    dataset: DataFrame
    rows: DataFrame
    labels: LabelEncoding
    plan: FeaturePlan
    frame: DataFrame
    folder: str
    folds: Mapping[int, int]
    problem: Problem
    total: int
    notes: tuple[str, ...]

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
        spaces = resolve_declared_spaces(context.spec)
        dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
        rows = filter_labelled(dataset.where(F.col("split") == "train"), declared, pipeline.task_kind)
        labels = _read_labels(context, dataset, rows)
        plan = _plan(context, rows, labels, pipeline.features)
        with (
            cache_frame(_select_columns(context, rows, labels, plan)) as frame,
            scratch(context.lake.engine_root) as folder,
        ):
            folds, notes = check_folds(frame, labels, pipeline.selection_metric, rule)
            problem = _state_problem(context, frame, labels)
            remarks = (*plan.notes, *notes)
            yield TrainingJob(context, spaces, dataset, rows, labels, plan, frame, folder, folds, problem, frame.count(), remarks)

    def start_search(self) -> tuple[Search, PastTrials]:
        """Choose the engines, and return the search with the results of an interrupted one."""
        training = self.context.spec.pipeline.training
        past = PastTrials(self.context, self.plan.columns, self.problem)
        search = Search(
            self.frame,
            self._plan_variants(),
            self.spaces,
            self.problem,
            engines=self._choose_engines(),
            done=past.append,
            known=past.known(),
            parallelism=training.tuner.parallelism,
            limit=seconds(training.tuner.trial_timeout),
        )
        return search, past

    def refit_share(self, trial: Trial, share: float) -> tuple[PipelineModel, int]:
        """Fit a trial on about a share of the training rows; return also their number.

        They are the first by a hash of the key, or of the group where the split is by group, whose rows stay together: the rows of a
        smaller share are among those of a greater one, and of all periods.

        Raises:
            StepError: the fit failed, such as for want of rows of a class.
        """
        declared = self.context.spec.pipeline.dataset
        rule, by_key = declared.split_rule(), hash_columns(declared.key, 0, stream=_SHARE)
        order = (
            F.coalesce(F.when(column(rule.group).isNotNull(), hash_columns([rule.group], 0, stream=_SHARE)), by_key)
            if rule.group
            else by_key
        )
        some = self.rows.where(F.pmod(order, F.lit(_SHARES)) < round(share * _SHARES))
        plan = self._plan_variants()(trial.variant)
        limit = seconds(self.context.spec.pipeline.training.tuner.trial_timeout)
        with cache_frame(_select_columns(self.context, some, self.labels, plan)) as frame:
            return refit(frame, plan, trial, self.problem, self._choose_engines(), limit=limit), frame.count()

    def _plan_variants(self) -> FeatureVariants:
        features = self.context.spec.pipeline.features
        return FeatureVariants(features, self.plan, lambda changed: _plan(self.context, self.rows, self.labels, changed))

    def _choose_engines(self) -> Engines:
        """Return the engine of each family: the recorded one of a search that is made again, else as the spec says."""
        recorded = {str(row.family): str(row.engine) for row in self.context.recorded_trials if row.family in self.spaces}
        if recorded:
            return Engines(recorded, self.folder, max_copy_bytes(self.context.spark), is_free=True)
        engines = choose_engines(
            self.context.spec.pipeline.training.engine_definition,
            self.spaces,
            self.problem,
            Resources(scratch=self.folder, rows=self.total, columns=len(self.plan.columns), most_bytes=max_copy_bytes(self.context.spark)),
        )
        logger.info("engines: %s", "; ".join([*(f"{name}: {engine}" for name, engine in engines.by_family.items()), *engines.notes]))
        return engines

    def choose(self, search: Search, past: PastTrials) -> Choice:
        """Search, select_trial, and see what is to be done to the probabilities; every trial is recorded, whatever comes of it.

        Raises:
            StepError: no trial succeeded.
        """
        training, folds = self.context.spec.pipeline.training, list(self.folds)
        adjusts, kind = training.calibrate != "none" or training.threshold is not None, training.ensemble
        tuned_spaces = {name: {**build_feature_space(training), **space} for name, space in self.spaces.items()}
        try:
            tuning, result = cross_validate_and_select(
                training, tuned_spaces, search, past, folds, self.total, is_last=not adjusts and kind == "none"
            )
            ensemble_result = EnsembleResult(result)
            if kind != "none":
                spark = self.context.spark
                ensemble_result = try_ensemble(
                    kind, spark, search, ensemble_result.result, tuning.trials, folds, scratch=self.folder, with_counts=adjusts
                )
                past.record(ensemble_result.result.rows)
            return Choice(tuning, ensemble_result, self._adjust(search, ensemble_result) if adjusts else self._fixed_adjustment())
        finally:
            search.close()

    def _fixed_adjustment(self) -> Mapping[str, Any]:
        kind, training = self.problem.task, self.context.spec.pipeline.training
        return {"threshold": 1 - training.contamination} if kind.finds_anomalies else {}

    def _adjust(self, search: Search, ensemble_result: EnsembleResult) -> Mapping[str, Any]:
        """Fit the calibration and the threshold on the candidate's out-of-fold predictions."""
        training = self.context.spec.pipeline.training
        ensemble_counts = ensemble_result.ensemble.counts if ensemble_result.ensemble else None
        counts = search.out_of_fold(ensemble_result.result.best, list(self.folds)) if ensemble_counts is None else ensemble_counts
        if self.problem.is_weighted:  # scaled to the number of rows, so that the unit of the weights does not matter
            counts = [histogram.scale(sum(self.folds.values()) / histogram.rows.sum()) for histogram in counts]
        adjustment: dict[str, Any] = {}
        if training.calibrate != "none":
            adjustment["calibrations"] = calibrations = fit_calibrations(training.calibrate, counts)
            counts = [calibrate_scores(*pair) for pair in zip(counts, calibrations, strict=True)]
        if training.threshold is not None:
            adjustment["threshold"] = choose_threshold(training.threshold, counts[0])
        return adjustment

    def refit(self, search: Search, choice: Choice) -> TrainedModel:
        """Fit the candidate on all training rows."""
        ensemble_result, result = choice.ensemble_result, choice.ensemble_result.result
        plan: FeaturePlan = search.plan_of(ensemble_result.candidate_trials[0].variant)
        options = {"cache": search.folds.all_rows_cache, "limit": search.limit, **choice.adjustment}
        model: PipelineModel
        if ensemble_result.ensemble:
            model = refit_ensemble(self.frame, plan, ensemble_result.ensemble, self.problem, search.engines, **options)
        else:
            model = refit(self.frame, plan, result.best, self.problem, search.engines, **options)
        types = {name: self.dataset.schema[name].dataType.simpleString() for name in self.plan.columns}
        libraries = result.libraries({trial.number for trial in ensemble_result.candidate_trials})
        families = [trial.family for trial in ensemble_result.candidate_trials]
        return TrainedModel(model, result, self.labels, types, plan, self.problem, libraries, families)

    def describe(self, search: Search, choice: Choice) -> tuple[str, ...]:
        """Return notes on rows and features, on the number of fits, on families without a trial, and on failed trials."""
        pipeline, tuning, ensemble_result = self.context.spec.pipeline, choice.tuning, choice.ensemble_result
        families = {trial.family for trial in tuning.trials}
        families_without_trials = [name for name in pipeline.families if name not in families]
        notes = [*self.notes, *search.engines.notes, *tuning.notes]
        notes += [f"left out: {reason}" for reason in pipeline.left_out.values()]
        notes += (
            [f"{', '.join(families_without_trials)}: not tried, training.tuner.trials is {len(tuning.trials)}"]
            if families_without_trials
            else []
        )
        n_fits = len({(row.trial, row.fold, row.share) for row in tuning.rows})
        notes.append(
            f"{n_fits} fits of features and a model were needed: {search.folds.fits} of features and {search.fits} of models were made"
        )
        if pipeline.training.features:
            computed = f"{search.folds.misses} of {search.folds.requests} statistics of the rows were computed"
            notes.append(f"variants of the features share their statistics: {computed}")
        rounds = describe_rounds(ensemble_result.candidate_trials, ensemble_result.result.rows)
        return (*notes, *describe_failures(tuning), *ensemble_result.notes, *rounds)


def _select_columns(context: StepContext, rows: DataFrame, labels: LabelEncoding, plan: FeaturePlan) -> DataFrame:
    """Return the training rows as the search reads them."""
    pipeline = context.spec.pipeline
    declared = pipeline.dataset
    # The rows of a group share a part, as they share a fold.
    parted_by = declared.unit_columns if plan.needs_parts or may_need_parts(pipeline.training) else ()
    return select_training_rows(rows, declared.key, labels, plan.columns, parted_by, declared.weight)


def _read_labels(context: StepContext, dataset: DataFrame, rows: DataFrame) -> LabelEncoding:
    pipeline = context.spec.pipeline
    kind, training = pipeline.task_kind, pipeline.training
    if not kind.learns_label:
        return read_unsupervised_labels(dataset, pipeline.dataset, kind, pipeline.selection_metric)
    labels = read_labels(rows, pipeline.dataset, kind, training.target)
    if training.calibrate != "none" and labels.n_classes > MAX_CALIBRATED_CLASSES:
        raise StepError(f"train: `calibrate` is for up to {MAX_CALIBRATED_CLASSES} classes, found {labels.n_classes}; leave it out")
    return labels


def _plan(context: StepContext, rows: DataFrame, labels: LabelEncoding, features: Literal["auto"] | Features) -> FeaturePlan:
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


def _state_problem(context: StepContext, frame: DataFrame, labels: LabelEncoding) -> Problem:
    pipeline = context.spec.pipeline
    training = pipeline.training
    return Problem(
        pipeline.task_kind,
        pipeline.selection_metric,
        labels.n_classes,
        training.tuner.seed,
        pipeline.dataset.split_rule().is_expanding,
        compute_balance(training.balance, _class_counts(frame), labels.n_classes) if training.balance != "none" else None,
        _own_families(context),
        target=training.target,
        loss=training.loss_kind,
        quantile=training.quantile,
        monotone=training.monotone,
        is_weighted=pipeline.dataset.weight is not None,
        own_metrics=tuple(metric for metric in pipeline.own_metrics if metric.name == pipeline.selection_metric),
    )


def _own_families(context: StepContext) -> dict[str, Family]:
    """Load the families of a dotted path, and those of an estimator of one, before threads of the search need them."""
    families: dict[str, Family] = {}
    for name, declared in context.spec.pipeline.families.items():
        if isinstance(declared, CustomFamily):
            families[name] = EstimatorFamily.of(name, declared.python, context.spec.function(declared.python), declared.space)
        elif "." in name:
            families[name] = find_family(name, context.spec.pipeline.task_kind)
    return families


def _class_counts(frame: DataFrame) -> dict[int, float]:
    """Return the number, or the weight, of the rows of each class."""
    counts = F.sum(WEIGHT) if WEIGHT in frame.columns else F.count("*")
    return {int(row["label"]): row["n"] for row in frame.groupBy("label").agg(counts.alias("n")).collect()}
