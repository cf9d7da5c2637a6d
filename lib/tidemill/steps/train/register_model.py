"""A trained model becomes a version: its files, its manifest, what it weighs, and last its state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.features import FeaturePlan, slot_names
from tidemill.features.custom import CustomStage, is_user_code
from tidemill.lake.ops import ImportanceRow
from tidemill.learners.custom import EstimatorFamily
from tidemill.model_registry import Deployments, Manifest, load_manifest, save_model
from tidemill.model_registry.manifest import model_fault
from tidemill.model_registry.versions import next_version, saved_versions
from tidemill.spec.models import DeclaredGroup
from tidemill.steps.result import StepContext
from tidemill.steps.train.feature_spec import declared_features, record_choices
from tidemill.training.importances import importances
from tidemill.training.labels import Labels
from tidemill.training.problem import Problem
from tidemill.training.selection import SearchResult

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel


@dataclass(frozen=True)
class Trained:
    """What training came to: the model of all training rows, and all that is to be known of it."""

    model: PipelineModel
    found: SearchResult
    labels: Labels
    types: Mapping[str, str]  # Spark's types of the raw columns
    plan: FeaturePlan
    problem: Problem
    library: str
    families: Sequence[str]  # of which the model is made: one, or those of an ensemble's members


def register(context: StepContext, trained: Trained) -> int:
    """Save the model as a new version and make it CANDIDATE; the ledger's row is what makes it exist."""
    pipeline, found, labels, plan = context.spec.pipeline, trained.found, trained.labels, trained.plan
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
        family=found.best.family,
        params=found.best.params,
        metric=metric,
        cv_value=found.best_value,
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
    )
    version = _same_candidate(context, deployments, manifest)
    if version is None:
        version = manifest.version
        save_model(context.lake, trained.model, manifest)
    manifest = dataclasses.replace(manifest, version=version)
    record_choices(context, plan)
    _record_importances(context, trained.model, manifest, plan)
    evidence = {
        "metric": metric,
        "cv_value": found.best_value,
        "family": found.best.family,
        "params": found.best.params,
        "library": trained.library,
        "trials": len({row.trial for row in found.rows}),
    }
    reason = f"best of {evidence['trials']} trials: {found.best.family}, {metric} {found.best_value:.4g} in cross-validation"
    deployments.move(version, "CANDIDATE", run_id=context.run_id, reason=reason, evidence=evidence)
    return version


@dataclass(frozen=True)
class UserCode:
    """A class of the user's own: the dotted path of the spec, and what it is of (``kind``)."""

    python: str
    kind: Callable[..., object]


def _code(context: StepContext, parts: Sequence[DeclaredGroup | CustomStage | UserCode]) -> dict[str, str]:
    """Return the text of each module that lies beside the spec, after those that it imports: they are kept with the model."""
    own = [part for part in parts if is_user_code(part)]
    imported = {name: text for part in own for name, text in context.spec.own_imports(part.python).items()}
    return imported | {str(part.kind.__module__): context.spec.source_code(part.python) for part in own}


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
    run = context.run_columns
    rows = [
        ImportanceRow(**run, model_version=manifest.version, **importance.row())
        for importance in importances(model, manifest.slots, plan.columns)
    ]
    context.lake.ledger.put(ImportanceRow, rows, where=run)


def _same_candidate(context: StepContext, deployments: Deployments, manifest: Manifest) -> int | None:
    """Return the version that a killed run wrote of this very model, and of which nothing has come yet; None where there is none."""
    lake, states = context.lake, deployments.states()
    for version in reversed(saved_versions(lake, context.pipeline)):
        if states.get(version, "CANDIDATE") != "CANDIDATE" or model_fault(lake, context.pipeline, version):
            continue
        if load_manifest(lake, context.pipeline, version).is_same_model(manifest):
            return version
    return None
