"""The step train: search, refit of the best parameters on all training rows, and a new model version."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from tidemill.caching import cached
from tidemill.features import FeaturePlan, plan_features, reserved_columns, slot_names
from tidemill.features.custom import CustomStage, is_own
from tidemill.lake.names import is_local
from tidemill.registry import Deployments, Manifest, save_model
from tidemill.spec.models import CustomFamily, Space, Training
from tidemill.steps.feature_spec import declared_features, record_choices
from tidemill.steps.past_trials import PastTrials
from tidemill.steps.result import StepContext, StepResult
from tidemill.training import Problem, Search, SearchResult, refit, search_spaces
from tidemill.training.balance import balance_of
from tidemill.training.engines import choose_engines, room
from tidemill.training.families import family_of
from tidemill.training.families.own import OwnFamily
from tidemill.training.importances import importances
from tidemill.training.labels import Labels, labelled, read_labels
from tidemill.training.out_of_fold import calibration, moved, threshold
from tidemill.training.rows import check_folds, training_rows
from tidemill.training.selection import NoTrialSucceeded, choose
from tidemill.training.tune import Tuned, tune

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
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
    own = _own_families(context)
    spaces = _spaces(context, own)
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    rows = labelled(dataset.where(F.col("split") == "train"), declared, training.task)
    labels = read_labels(rows, declared, training.task)
    plan = plan_features(pipeline.features, rows, exclude=reserved_columns(declared), load=context.spec.function, classes=labels.classes)
    rule = declared.split_rule()
    # Rows of one group are in one part, as they are in one fold.
    parted_by = ([rule.group] if rule.group else declared.key) if plan.needs_parts else ()
    with cached(training_rows(rows, declared.key, labels, plan.columns, parted_by)) as frame, _scratch(context) as scratch:
        folds, notes = check_folds(frame, labels, training.selection_metric, is_expanding=rule.is_expanding, has_gap=rule.gap is not None)
        counts = {} if training.balance == "none" else _class_counts(frame)
        problem = Problem(
            training.task,
            training.selection_metric,
            labels.n_classes,
            training.tuner.seed,
            rule.is_expanding,
            balance_of(training.balance, counts, labels.n_classes),
            own,
        )
        total = frame.count()
        engines = choose_engines(
            training.engine,
            spaces,
            problem,
            scratch=scratch,
            rows=total,
            columns=len(plan.columns),
            most_bytes=room(context.spark),
        )
        past = PastTrials(context, plan, problem)
        finder = Search(
            frame,
            plan,
            spaces,
            problem,
            engines=engines,
            done=past.keep,
            known=past.known(),
            parallelism=training.tuner.parallelism,
        )
        try:
            adjusts = training.calibrate != "none" or training.threshold is not None
            tuned = tune(finder, spaces, training.tuner, list(folds), total, is_last=not adjusts)
            found = choose(tuned.rows, tuned.trials, problem.metric, folds=list(folds), rule=training.select)
            adjustment = _adjustment(training, finder, found, list(folds)) if adjusts else {}
        except NoTrialSucceeded as error:
            past.record(error.rows)
            raise
        finally:
            finder.close()
        past.record(found.rows)
        model = refit(frame, plan, found.best, problem, finder.engines, **adjustment)
    types = {name: dataset.schema[name].dataType.simpleString() for name in plan.columns}
    version = _register(
        context, model, found, labels, types, plan, finder.engines.library(found.best.family, problem), own.get(found.best.family)
    )
    return StepResult(
        outputs={pipeline.model_name: version},
        rows_in=total,
        rows_out=total,
        notes=(*plan.notes, *notes, *finder.engines.notes, *tuned.notes, *_remarks(context, found, tuned, finder)),
    )


def _own_families(context: StepContext) -> dict[str, OwnFamily]:
    """Return the families that are declared by a dotted path."""
    declared = context.spec.pipeline.families
    return {
        name: OwnFamily(name, family.python, context.spec.function(family.python), family.space)
        for name, family in declared.items()
        if isinstance(family, CustomFamily)
    }


def _spaces(context: StepContext, own: Mapping[str, OwnFamily]) -> dict[str, Space]:
    """Return what is searched, family by family, in the order of the spec."""
    pipeline = context.spec.pipeline
    built_in = {name: family for name, family in pipeline.families.items() if not isinstance(family, CustomFamily)}
    found = search_spaces(built_in, pipeline.training.task, str(context.spec.file), texts=pipeline.has_texts)
    return {name: own[name].declared if name in own else found[name] for name in pipeline.families}


def _class_counts(frame: DataFrame) -> dict[int, int]:
    return {int(row["label"]): int(row["count"]) for row in frame.groupBy("label").count().collect()}


def _adjustment(training: Training, finder: Search, found: SearchResult, folds: Sequence[int]) -> dict[str, Any]:
    """Return the calibration and the threshold that the best trial's predictions of unseen rows ask for."""
    counts = finder.out_of_fold(found.best, folds)
    adjustment: dict[str, Any] = {}
    if training.calibrate != "none":
        table = calibration(training.calibrate, counts)
        adjustment["table"] = [float(value) for value in table]
        counts = moved(counts, table)
    if training.threshold is not None:
        adjustment["threshold"] = threshold(training.threshold, counts)
    return adjustment


@contextmanager
def _scratch(context: StepContext) -> Iterator[str]:
    """Have a folder for copies of vectors, on the file system of the lake; empty where that is no folder that all executors see."""
    if not is_local(context.lake.root):
        yield ""
        return
    base = Path(context.lake.root) / ".scratch"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="train-", dir=base) as folder:
        yield folder


def _register(
    context: StepContext,
    model: PipelineModel,
    found: SearchResult,
    labels: Labels,
    types: Mapping[str, str],
    plan: FeaturePlan,
    library: str,
    own: OwnFamily | None,
) -> int:
    """Save the model as a new version and make it CANDIDATE; the ledger's row is what makes it exist."""
    pipeline = context.spec.pipeline
    deployments = Deployments(context.lake.ledger, context.pipeline)
    version = _own_candidate(deployments, context.run_id) or deployments.next_version()
    metric = pipeline.training.selection_metric
    manifest = Manifest(
        pipeline=context.pipeline,
        version=version,
        task=pipeline.training.task,
        family=found.best.family,
        params=found.best.params,
        metric=metric,
        cv_value=found.best_value,
        classes=None if labels.classes is None else list(labels.classes),
        label_type=labels.type,
        positive=labels.positive if pipeline.training.task == "binary" else None,
        feature_columns=types,
        run_id=context.run_id,
        dataset_version=context.inputs[pipeline.dataset_table],
        dataset_inputs=_dataset_inputs(context),
        features=declared_features(pipeline.features),
        code=_code(context, [*plan.custom, *([own] if own else [])]),
        library=library,
        slots=slot_names(model, (own or family_of(found.best.family, pipeline.training.task)).encoding),
        chosen=[choice.row() for choice in plan.choices],
    )
    save_model(context.lake, model, manifest)
    record_choices(context, plan)
    _record_importances(context, model, manifest, plan)
    evidence = {
        "metric": metric,
        "cv_value": found.best_value,
        "family": found.best.family,
        "params": found.best.params,
        "library": library,
        "trials": len({row.trial for row in found.rows}),
    }
    reason = f"best of {evidence['trials']} trials: {found.best.family}, {metric} {found.best_value:.4g} in cross-validation"
    deployments.move(version, "CANDIDATE", run_id=context.run_id, reason=reason, evidence=evidence)
    return version


def _code(context: StepContext, parts: Sequence[CustomStage | OwnFamily]) -> dict[str, str]:
    """Return the text of each module that lies beside the spec: it is kept with the model."""
    return {str(part.kind.__module__): context.spec.source_code(part.python) for part in parts if is_own(part)}


def _dataset_inputs(context: StepContext) -> dict[str, int]:
    """Return the tables that the dataset was made of with their versions, as its commit says; empty where it does not."""
    table = context.spec.pipeline.dataset_table
    version = context.inputs[table]
    for meta in context.lake.metadata(table, limit=None):
        if meta["version"] == version and isinstance(meta.get("inputs"), Mapping):
            return {str(name): int(str(found)) for name, found in meta["inputs"].items()}  # type: ignore[attr-defined]
    return {}


def _record_importances(context: StepContext, model: PipelineModel, manifest: Manifest, plan: FeaturePlan) -> None:
    """Write what counts in the model, one row a slot."""
    run = {"pipeline": context.pipeline, "run_id": context.run_id}
    found = importances(model, manifest.slots, plan.columns)
    rows = [{**run, "model_version": manifest.version, **importance.row()} for importance in found]
    context.lake.ledger.put("ops.importances", rows, where=run)


def _own_candidate(deployments: Deployments, run_id: str) -> int | None:
    """Return the version that this run made before it was killed, where nothing has come of it yet."""
    states = deployments.states()
    own = [int(str(row["model_version"])) for row in deployments.rows() if row["run_id"] == run_id and row["to_state"] == "CANDIDATE"]
    return next((version for version in reversed(own) if states[version] == "CANDIDATE"), None)


def _remarks(context: StepContext, found: SearchResult, tuned: Tuned, finder: Search) -> tuple[str, ...]:
    """Return notes on what was fitted, on families without a trial and on trials that failed."""
    tried = {trial.family for trial in tuned.trials}
    untried = [name for name in context.spec.pipeline.families if name not in tried]
    notes = [f"{', '.join(untried)}: not tried, training.tuner.trials is {len(tuned.trials)}"] if untried else []
    asked = len({(row.trial, row.fold, row.share) for row in found.rows})
    made = f"{finder.folds.fits} of features and {finder.fits} of models were made"
    notes.append(f"{asked} fits of features and a model were asked for: {made}")
    if found.failures:
        number, error = next(iter(sorted(found.failures.items())))
        notes.append(f"{len(found.failures)} of {len(tuned.trials)} trials failed; trial {number}: {error}")
    return tuple(notes)
