"""Registration of a trained model as a version: its files, manifest, importances, and last its state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.features import FeaturePlan, slot_names
from tidemill.features.custom import CustomStage, is_user_code
from tidemill.lake.ops import ImportanceRow
from tidemill.learners.custom import EstimatorFamily
from tidemill.model_registry import Deployments, Manifest, read_manifest, save_model
from tidemill.model_registry.approval import find_system_user
from tidemill.model_registry.manifest import model_fault
from tidemill.model_registry.sample import take_sample, to_parquet
from tidemill.model_registry.versions import next_version, saved_versions
from tidemill.spec.models import DeclaredGroup
from tidemill.steps.result import StepContext
from tidemill.steps.train.evidence import collect_evidence
from tidemill.steps.train.feature_spec import declared_features, record_choices
from tidemill.training.importances import list_importances
from tidemill.training.labels import LabelEncoding
from tidemill.training.problem import Problem
from tidemill.training.selection import SearchResult

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel


@dataclass(frozen=True)
class TrainedModel:
    """The model of all training rows, and the data of its manifest."""

    model: PipelineModel
    search_result: SearchResult
    labels: LabelEncoding
    types: Mapping[str, str]  # raw column → Spark type
    plan: FeaturePlan
    problem: Problem
    library: str
    families: Sequence[str]  # the family of the model, or those of the members of an ensemble


def register_model(context: StepContext, trained: TrainedModel) -> int:
    """Save the model as a new version with the state CANDIDATE; the version exists from that row of the ledger on."""
    pipeline, search_result, labels, plan = context.spec.pipeline, trained.search_result, trained.labels, trained.plan
    families = [trained.problem.family(name) for name in trained.families]
    own = [UserCode(family.python, family.kind) for family in families if isinstance(family, EstimatorFamily)]
    own += [UserCode(name, type(trained.problem.family(name))) for name in trained.families if "." in name]
    encodings = dict.fromkeys(family.encoding for family in families) if plan.columns or plan.custom else {}
    slots = dict.fromkeys(name for encoding in encodings for name in slot_names(trained.model, encoding))
    deployments = Deployments(context.lake.ledger, context.pipeline)
    metric = pipeline.selection_metric
    manifest = Manifest(
        pipeline=context.pipeline,
        version=next_version(context.lake, context.pipeline),
        task=str(pipeline.task_kind),
        family=search_result.best.family,
        params=search_result.best.params,
        metric=metric,
        cv_value=search_result.best_value,
        classes=None if labels.classes is None else list(labels.classes),
        label_type=labels.type,
        positive=labels.positive if pipeline.task_kind.has_positive_class else None,
        feature_columns=trained.types,
        run_id=context.run_id,
        dataset_version=context.inputs[pipeline.dataset_table],
        dataset_inputs=_dataset_inputs(context),
        features=declared_features(pipeline.features),
        code=_code(context, [*plan.groups, *plan.custom, *own]),
        library=trained.library,
        slots=list(slots),
        chosen=[choice.row() for choice in plan.choices],
        author=find_system_user(),
    )
    version = _same_candidate(context, deployments, manifest)
    if version is None:
        version = manifest.version
        _save(context, trained.model, manifest)
    manifest = dataclasses.replace(manifest, version=version)
    record_choices(context, plan)
    _record_importances(context, trained.model, manifest, plan)
    evidence = {
        "metric": metric,
        "cv_value": search_result.best_value,
        "family": search_result.best.family,
        "params": search_result.best.params,
        "library": trained.library,
        "author": manifest.author,
        "trials": len({row.trial for row in search_result.rows}),
    }
    reason = (
        f"best of {evidence['trials']} trials: {search_result.best.family}, {metric} {search_result.best_value:.4g} in cross-validation"
    )
    deployments.move(version, "CANDIDATE", run_id=context.run_id, reason=reason, evidence=evidence)
    return version


@dataclass(frozen=True)
class UserCode:
    """A user-defined class: its dotted path in the spec, and the class (``kind``)."""

    python: str
    kind: Callable[..., object]


def _code(context: StepContext, parts: Sequence[DeclaredGroup | CustomStage | UserCode]) -> dict[str, str]:
    """Return the source of each module beside the spec, after the modules that it imports; it is saved with the model."""
    own = [part for part in parts if is_user_code(part)]
    imported = {name: text for part in own for name, text in context.spec.own_imports(part.python).items()}
    return imported | {str(part.kind.__module__): context.spec.source_code(part.python) for part in own}


def _save(context: StepContext, model: PipelineModel, manifest: Manifest) -> None:
    """Save the model with a sample of rows and predictions, and with the evidence of the training."""
    declared, table = context.spec.pipeline.dataset, context.spec.pipeline.dataset_table
    dataset = context.lake.read(context.spark, table, context.inputs[table])
    sample = take_sample(model, manifest, dataset, declared.key, declared.label)
    save_model(context.lake, model, manifest, to_parquet(sample), collect_evidence(context, manifest, dataset, sample))


def _dataset_inputs(context: StepContext) -> dict[str, int]:
    """Return the tables and versions that the dataset was built from, by its commit; empty where the commit does not say."""
    table = context.spec.pipeline.dataset_table
    version = context.inputs[table]
    for meta in context.lake.metadata(table, limit=None):
        if meta["version"] == version and isinstance(meta.get("inputs"), Mapping):
            return {str(name): int(str(table_version)) for name, table_version in meta["inputs"].items()}  # type: ignore[attr-defined]
    return {}


def _record_importances(context: StepContext, model: PipelineModel, manifest: Manifest, plan: FeaturePlan) -> None:
    """Write ``ops.importances``, one row per slot."""
    run = context.run_columns
    rows = [
        ImportanceRow(**run, model_version=manifest.version, **importance.row())
        for importance in list_importances(model, manifest.slots, plan.columns)
    ]
    context.lake.ledger.put(ImportanceRow, rows, where=run)


def _same_candidate(context: StepContext, deployments: Deployments, manifest: Manifest) -> int | None:
    """Return a version of the same model that a killed run saved without registering it; None where there is none."""
    lake, states = context.lake, deployments.states()
    for version in reversed(saved_versions(lake, context.pipeline)):
        if states.get(version, "CANDIDATE") != "CANDIDATE" or model_fault(lake, context.pipeline, version):
            continue
        if read_manifest(lake, context.pipeline, version).is_same_model(manifest):
            return version
    return None
