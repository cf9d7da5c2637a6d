"""The step evaluate: test metrics beside the constant baseline, and the gates' word on the candidate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.errors import GateRefused, StepError, TidemillError
from tidemill.evaluation import baseline_metrics, compute_metrics
from tidemill.evaluation.gates import Gate, GateResult, default_gate, parse_gate
from tidemill.lake.ops import MetricRow
from tidemill.model_registry import Deployments, Manifest, load_model
from tidemill.model_registry.predict import encode_label, labelled_predictions
from tidemill.spec.models import RECOMMENDATION
from tidemill.steps.evaluate.ranking import RankedTest, other_rows
from tidemill.steps.evaluate.unsupervised import cluster_rows, free_baseline, free_metrics, told_sizes
from tidemill.steps.result import StepContext, StepResult

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame


Metrics = dict[str, float]
BASELINE_VERSION = 0


@dataclass(frozen=True)
class _Champion:
    version: int
    metrics: Metrics


def evaluate(context: StepContext) -> StepResult:
    """Measure the candidate on the labelled test rows and let the gates decide: CHALLENGER, or REJECTED.

    Writes ``ops.metrics``: the candidate, the constant baseline (of a recommendation, the popular items) as version 0 and, where a gate
    asks for it, the reigning champion on the same rows. Safe to repeat.

    Raises:
        GateRefused: a gate said no; all that did are named.
        StepError: there are no labelled test rows, or a binary label has a value that training did not know.
    """
    pipeline = context.spec.pipeline
    version = context.inputs[pipeline.model_name]
    model, manifest = load_model(context.lake, context.pipeline, version)
    dataset = context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])
    judge = RankedTest(context, dataset) if manifest.task == RECOMMENDATION else _ScoredTest(context, dataset)
    rows = judge.rows(manifest)
    gates = _gates(context)
    deployments = Deployments(context.lake.ledger, context.pipeline)

    metrics = judge.measure(model, manifest)
    baseline = judge.baseline(manifest)
    sizes = cluster_rows(model, manifest, dataset) if manifest.task == "clustering" else []
    champion = _reigning(context, deployments, judge, version) if any(gate.needs_champion for gate in gates) else None
    _record(
        context, {version: metrics, BASELINE_VERSION: baseline} | ({champion.version: champion.metrics} if champion else {}), version, sizes
    )
    results = [gate.evaluate(metrics, baseline, champion.metrics if champion else None) for gate in gates]
    remarks = other_rows(metrics, champion.metrics) if champion and manifest.task == RECOMMENDATION else ()
    notes = _decide(context, deployments, version, results, _evidence(results, metrics, baseline, champion), remarks)
    return StepResult(outputs={pipeline.model_name: version}, rows_in=rows, rows_out=rows, notes=(*notes, *told_sizes(sizes)))


def _gates(context: StepContext) -> list[Gate]:
    pipeline = context.spec.pipeline
    declared = pipeline.evaluation.gates
    texts = [default_gate(pipeline.selection_metric)] if declared is None else declared
    gates = [parse_gate(text, pipeline.training.task) for text in texts]
    sliced = [gate.text for gate in gates if gate.needs_slices]
    if sliced:
        raise StepError(f"evaluation.gates: metrics of slices are not built yet, found {'; '.join(sliced)}; gate the metrics of all rows")
    return gates


def _labels(df: DataFrame, label: str, manifest: Manifest, weight: str | None = None) -> DataFrame:
    weights = [column(weight).cast("double").alias("weight")] if weight else []
    return df.select(encode_label(manifest, column(label)).alias("label"), *weights).where(F.col("label").isNotNull())


def _count(test: DataFrame, label: str, manifest: Manifest) -> int:
    """Return the number of labelled test rows; refuse a test set that cannot be measured."""
    is_unknown = F.lit(manifest.classes is not None) & (F.col("label") >= manifest.n_classes)
    row = _labels(test, label, manifest).agg(F.count("*").alias("rows"), F.count_if(is_unknown).alias("unknown")).first()
    rows, unknown = (row["rows"], row["unknown"]) if row is not None else (0, 0)
    if rows == 0:
        raise StepError(f"dataset: no test row has a {label}, expected some to evaluate on; check dataset.split and the label")
    if unknown and manifest.task == "binary":
        known = ", ".join(map(str, manifest.classes or ()))
        raise StepError(
            f"dataset: {label} has a value beside {known} in {unknown} test rows, expected two classes; use `task: multiclass` or clean it"
        )
    return int(rows)


class _Judge(Protocol):
    """What a task measures a model by, on the test rows."""

    def rows(self, manifest: Manifest) -> int:
        """Return how many rows are measured; refuse a test set that cannot be."""
        ...

    def measure(self, model: PipelineModel, manifest: Manifest) -> Metrics:
        """Return the metrics of a model."""
        ...

    def baseline(self, manifest: Manifest) -> Metrics:
        """Return the metrics of what a model must beat."""
        ...


class _ScoredTest:
    """The test rows of a task that scores each row by itself, and may compare what it says with a label."""

    def __init__(self, context: StepContext, dataset: DataFrame) -> None:
        self._test, self._train = (dataset.where(F.col("split") == split) for split in ("test", "train"))
        self._declared, self._learns = context.spec.pipeline.dataset, context.spec.pipeline.task_kind.learns_label
        self._label, self._quantile = str(self._declared.label), context.spec.pipeline.training.quantile
        self._weight = "weight" if self._declared.weight else None

    def rows(self, manifest: Manifest) -> int:
        return _count(self._test, self._label, manifest) if self._learns else self._test.count()

    def measure(self, model: PipelineModel, manifest: Manifest) -> Metrics:
        if not self._learns:
            return free_metrics(model, manifest, self._test, self._declared)
        predictions = labelled_predictions(model, manifest, self._test, self._label, self._declared.weight)
        known = predictions.where(F.col("label").isNotNull())
        return compute_metrics(known, manifest.task, manifest.n_classes, weight=self._weight, quantile=self._quantile)

    def baseline(self, manifest: Manifest) -> Metrics:
        if not self._learns:
            return free_baseline(manifest, self._test, self._declared.label)
        known, asked = (_labels(rows, self._label, manifest, self._declared.weight) for rows in (self._train, self._test))
        return baseline_metrics(known, asked, manifest.task, manifest.n_classes, weight=self._weight, quantile=self._quantile)


def _reigning(context: StepContext, deployments: Deployments, judge: _Judge, candidate: int) -> _Champion | None:
    """Measure the reigning champion on the candidate's test rows."""
    version = deployments.champion()
    if version == candidate:  # evaluated once more: it is held against the one that it took over from
        version = deployments.champion_before(candidate)
    if version is None:
        return None
    try:
        model, manifest = load_model(context.lake, context.pipeline, version)
        return _Champion(version, judge.measure(model, manifest))
    except TidemillError as error:
        raise StepError(
            f"evaluation.gates: champion {version} cannot be measured on the new test rows ({error}); leave `champion` out once"
        ) from error


def _record(context: StepContext, measured: Mapping[int, Metrics], candidate: int, sizes: Sequence[Mapping[str, Any]]) -> None:
    run = context.run_columns
    rows = [
        MetricRow(**run, split="test", model_version=version, metric=metric, value=value if math.isfinite(value) else None)
        for version, metrics in measured.items()
        for metric, value in metrics.items()
    ]
    rows += [MetricRow(**run, model_version=candidate, **size) for size in sizes]
    context.lake.ledger.put(MetricRow, rows, where=run)


def _evidence(results: list[GateResult], metrics: Metrics, baseline: Metrics, champion: _Champion | None) -> dict[str, object]:
    against = dataclasses.asdict(champion) if champion else None
    return {"gates": [dataclasses.asdict(result) for result in results], "metrics": metrics, "baseline": baseline, "champion": against}


def _decide(
    context: StepContext,
    deployments: Deployments,
    version: int,
    results: list[GateResult],
    evidence: dict[str, object],
    remarks: tuple[str, ...],
) -> tuple[str, ...]:
    """Record what follows from the gates and return the notes; a version that a person or an earlier run deployed keeps its state.

    ``remarks`` are what is to be known of the figures.
    """
    refused = [result.sentence for result in results if not result.passed]
    state = deployments.state(version)
    if refused:
        reason = "; ".join((*refused, *remarks))
        if state not in ("CHAMPION", "RETIRED"):
            deployments.move(version, "REJECTED", run_id=context.run_id, reason=reason, evidence=evidence)
        raise GateRefused(f"model {version} of {context.pipeline} was refused by {len(refused)} of {len(results)} gates: {reason}")
    if state in ("CHAMPION", "RETIRED"):
        return (f"model {version} is {state} already and stays so", *remarks)
    deployments.move(version, "CHALLENGER", run_id=context.run_id, reason=f"passed {len(results)} gates", evidence=evidence)
    return (*(result.sentence for result in results if result.left is None), *remarks)
