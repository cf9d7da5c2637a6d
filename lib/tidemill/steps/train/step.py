"""The step train: search, refit of the best parameters on all training rows, and a new model version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.families import Family, find_family
from tidemill.features import FeaturePlan, plan_features, reserved_columns
from tidemill.learners.custom import EstimatorFamily
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.locks import scratch
from tidemill.spec.models import RECOMMENDATION, CustomFamily, Features, Space, Training, seconds
from tidemill.steps.result import StepContext, StepResult
from tidemill.steps.train.feature_variants import Variants, declared_spaces, feature_space, may_need_parts
from tidemill.steps.train.recommender import train_recommender
from tidemill.steps.train.register_model import Trained, register
from tidemill.steps.train.search import PastTrials, failures, searched
from tidemill.training.balance import balance_of
from tidemill.training.calibration import calibrate_scores, fit_calibrations
from tidemill.training.engines.choice import choose_engines, room
from tidemill.training.ensembles.ensemble import Tried, try_ensemble
from tidemill.training.ensembles.refit import refit_ensemble
from tidemill.training.folds import WEIGHT
from tidemill.training.labels import free_labels, labelled, read_labels
from tidemill.training.monotone import check_monotone
from tidemill.training.out_of_fold import MAX_CALIBRATED_CLASSES, choose_threshold
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.rows import check_folds, training_rows
from tidemill.training.tuning import staged_boosting as early_stopping
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.tune import Tuned

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def train(context: StepContext) -> StepResult:
    """Choose a family and its parameters by cross-validation on the training rows and register what they make of all of them.

    Writes ``ops.trials`` (one row per trial and fold), the model's files, ``ops.importances`` (one row per slot), and last the version's
    state CANDIDATE, without which a version does not exist: a killed train leaves nothing that a repeat does not write over.

    Raises:
        StepError: there are too few labelled training rows, a fold lacks a class, or no trial succeeded.
        SpecError: a feature column, a family or a parameter is unknown.
    """
    pipeline = context.spec.pipeline
    training, declared = pipeline.training, pipeline.dataset
    if training.task == RECOMMENDATION:
        return train_recommender(context)
    own = _own_families(context)
    spaces = declared_spaces(context.spec)
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    rows = labelled(dataset.where(F.col("split") == "train"), declared, training.task)
    metric, learns = pipeline.selection_metric, pipeline.task_kind.learns_label
    labels = (
        read_labels(rows, declared, training.task, training.target) if learns else free_labels(dataset, declared, training.task, metric)
    )
    if training.calibrate != "none" and labels.n_classes > MAX_CALIBRATED_CLASSES:
        raise StepError(f"train: `calibrate` is for up to {MAX_CALIBRATED_CLASSES} classes, found {labels.n_classes}; leave it out")

    def planned(features: Literal["auto"] | Features) -> FeaturePlan:
        made = plan_features(
            features,
            rows,
            exclude=reserved_columns(declared),
            load=context.spec.function,
            classes=labels.classes if learns else None,
            learns_label=learns,
        )
        check_monotone(made, training.monotone, str(context.spec.file))
        return made

    plan = planned(pipeline.features)
    plan_of = Variants(pipeline.features, plan, planned)
    rule = declared.split_rule()
    # Rows of one group are in one part, as they are in one fold.
    parted_by = ([rule.group] if rule.group else declared.key) if plan.needs_parts or may_need_parts(training) else ()
    with (
        cache_frame(training_rows(rows, declared.key, labels, plan.columns, parted_by, declared.weight)) as frame,
        scratch(context.lake.engine_root) as folder,
    ):
        folds, notes = check_folds(frame, labels, metric, rule)
        balance = balance_of(training.balance, _class_counts(frame), labels.n_classes) if training.balance != "none" else None
        problem = Problem(
            training.task,
            metric,
            labels.n_classes,
            training.tuner.seed,
            rule.is_expanding,
            balance,
            own,
            target=training.target,
            loss=training.loss_kind,
            quantile=training.quantile,
            monotone=training.monotone,
            is_weighted=declared.weight is not None,
        )
        total = frame.count()
        engines = choose_engines(
            training.engine,
            spaces,
            problem,
            scratch=folder,
            rows=total,
            columns=len(plan.columns),
            most_bytes=room(context.spark),
        )
        past = PastTrials(context, plan.columns, problem)
        finder = Search(
            frame,
            plan_of,
            spaces,
            problem,
            engines=engines,
            done=past.keep,
            known=past.known(),
            parallelism=training.tuner.parallelism,
            limit=seconds(training.tuner.trial_timeout),
        )
        tuned, tried, adjustment = _searched(context, spaces, finder, past, folds, total, folder)
        found, ensemble, best_plan = tried.result, tried.ensemble, plan_of(tried.parts[0].variant)
        memo = finder.folds.of_all_rows
        if ensemble:
            model = refit_ensemble(frame, best_plan, ensemble, problem, finder.engines, memo=memo, limit=finder.limit, **adjustment)
        else:
            model = refit(frame, best_plan, found.best, problem, finder.engines, memo=memo, limit=finder.limit, **adjustment)
    types = {name: dataset.schema[name].dataType.simpleString() for name in plan.columns}
    libraries = found.libraries({trial.number for trial in tried.parts})
    trained = Trained(model, found, labels, types, best_plan, problem, libraries, [trial.family for trial in tried.parts])
    version = register(context, trained)
    early = early_stopping.remarks(tried.parts, found.rows)
    return StepResult(
        outputs={pipeline.model_name: version},
        rows_in=total,
        rows_out=total,
        notes=(*plan.notes, *notes, *finder.engines.notes, *tuned.notes, *_remarks(context, tuned, finder), *tried.notes, *early),
    )


def _searched(
    context: StepContext,
    spaces: Mapping[str, Space],
    finder: Search,
    past: PastTrials,
    counts: Mapping[int, int],
    total: int,
    folder: str,
) -> tuple[Tuned, Tried, dict[str, Any]]:
    """Search, choose, and see what is to be done to the probabilities; every trial is recorded, whatever comes of it."""
    training = context.spec.pipeline.training
    fixed = {"threshold": 1 - training.contamination} if training.task == "anomaly" else {}
    adjusts, kind = training.calibrate != "none" or training.threshold is not None, training.ensemble
    try:
        tuned_spaces = {name: {**feature_space(training), **space} for name, space in spaces.items()}
        folds = list(counts)
        tuned, found = searched(training, tuned_spaces, finder, past, folds, total, is_last=not adjusts and kind == "none")
        tried = Tried(found)
        if kind != "none":
            tried = try_ensemble(kind, context.spark, finder, tried.result, tuned.trials, folds, scratch=folder, with_counts=adjusts)
            past.record(tried.result.rows)
        return tuned, tried, _adjustment(training, finder, tried, counts) if adjusts else fixed
    finally:
        finder.close()


def _own_families(context: StepContext) -> dict[str, Family]:
    """Return the families that are named by a dotted path, and those of an estimator that is; threads of the search know no folder."""
    families: dict[str, Family] = {}
    for name, declared in context.spec.pipeline.families.items():
        if isinstance(declared, CustomFamily):
            families[name] = EstimatorFamily.of(name, declared.python, context.spec.function(declared.python), declared.space)
        elif "." in name:
            families[name] = find_family(name, context.spec.pipeline.training.task)
    return families


def _class_counts(frame: DataFrame) -> dict[int, float]:
    """Return what the rows of each class count for."""
    counts = F.sum(WEIGHT) if WEIGHT in frame.columns else F.count("*")
    return {int(row["label"]): row["n"] for row in frame.groupBy("label").agg(counts.alias("n")).collect()}


def _adjustment(training: Training, finder: Search, tried: Tried, folds: Mapping[int, int]) -> dict[str, Any]:
    """Return the calibration and the threshold that the candidate's predictions of unseen rows ask for."""
    known = tried.ensemble.counts if tried.ensemble else None
    counts = finder.out_of_fold(tried.result.best, list(folds)) if known is None else known
    if finder.problem.is_weighted:  # by the measure of rows, so that half a row is half a row in any unit of the weights
        counts = [histogram.scale(sum(folds.values()) / histogram.rows.sum()) for histogram in counts]
    adjustment: dict[str, Any] = {}
    if training.calibrate != "none":
        adjustment["calibrations"] = calibrations = fit_calibrations(training.calibrate, counts)
        counts = [calibrate_scores(*pair) for pair in zip(counts, calibrations, strict=True)]
    if training.threshold is not None:
        adjustment["threshold"] = choose_threshold(training.threshold, counts[0])
    return adjustment


def _remarks(context: StepContext, tuned: Tuned, finder: Search) -> tuple[str, ...]:
    """Return notes on what was fitted, on families without a trial and on trials that failed."""
    tried = {trial.family for trial in tuned.trials}
    untried = [name for name in context.spec.pipeline.families if name not in tried]
    notes = [f"left out: {lack}" for lack in context.spec.pipeline.left_out.values()]
    notes += [f"{', '.join(untried)}: not tried, training.tuner.trials is {len(tuned.trials)}"] if untried else []
    asked = len({(row.trial, row.fold, row.share) for row in tuned.rows})
    made = f"{finder.folds.fits} of features and {finder.fits} of models were made"
    notes.append(f"{asked} fits of features and a model were asked for: {made}")
    if context.spec.pipeline.training.features:
        learnt = f"{finder.folds.learnt} of {finder.folds.asked} things that they ask of the rows were learnt"
        notes.append(f"variants of the features share what they have in common: {learnt}")
    return (*notes, *failures(tuned))
