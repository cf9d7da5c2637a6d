"""The evaluator of tasks that learn a label from features: metrics, intervals, slices, fairness and curves of the labelled test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.errors import StepError
from tidemill.evaluation import Measurement, SliceMeasurement, fit_constant
from tidemill.evaluation.curve_points import CONFUSION
from tidemill.evaluation.fairness import compare_groups
from tidemill.evaluation.measurement import ALL_ROWS, OF_CLASS, MeasuredSlice, Pass, measure_slices
from tidemill.evaluation.row_kinds import ClassifiedRows, RegressionRows, RowKind, ScoredRows
from tidemill.evaluation.slices import limit_slices, name_slices, slice_titles, split_name
from tidemill.evaluation.sql_metrics import SqlMetrics
from tidemill.lake.aggregate_sql import parse_aggregate
from tidemill.model_registry.predict import EvaluationColumns, EvaluationRows, constant_evaluation_rows, encode_label, evaluation_rows
from tidemill.runtime.caching import cache_frame
from tidemill.runtime.spark_errors import format_spark_error
from tidemill.steps.evaluate.evaluator import UNIT, Evaluator, hash_units

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

    from tidemill.evaluation.estimates import Estimate
    from tidemill.model_registry import Manifest
    from tidemill.steps.result import StepContext
    from tidemill.tasks import Metric

_SLICES = "_tidemill_slices"


class LabelEvaluator(Evaluator):
    """Compares predictions with the labels of the labelled test rows."""

    def __init__(self, context: StepContext, dataset: DataFrame, own_metrics: Sequence[Metric]) -> None:
        """Select the rows; nothing is computed yet."""
        self._context, self._own = context, own_metrics
        self._pipeline = pipeline = context.spec.pipeline
        self._test, self._train = (dataset.where(F.col("split") == split) for split in ("test", "train"))
        self._label, self._weight, self._quantile = str(pipeline.dataset.label), pipeline.dataset.weight, pipeline.training.quantile
        declared = pipeline.evaluation
        self._by = list(declared.fairness.by) if declared.fairness else []
        self._slices = [*declared.slices, *(name for name in self._by if name not in declared.slices)]
        texts = {name: metric for name, metric in declared.metrics.items() if isinstance(metric, str)}
        self._sql = SqlMetrics({name: parse_aggregate(text) for name, text in texts.items()})

    def count_rows(self, manifest: Manifest) -> int:
        """Return the number of labelled test rows.

        Raises:
            StepError: there are none, or a binary label has a value that is not in the training rows.
        """
        is_unknown = F.lit(manifest.classes is not None) & (F.col("label") >= manifest.n_classes)
        row = self._select_labels(self._test, manifest).agg(F.count("*").alias("rows"), F.count_if(is_unknown).alias("unknown")).first()
        rows, unknown = (row["rows"], row["unknown"]) if row is not None else (0, 0)
        if rows == 0:
            raise StepError(f"dataset: no test row has a {self._label}, expected some to evaluate on; check dataset.split and the label")
        if unknown and manifest.kind.has_two_classes:
            known = ", ".join(map(str, manifest.classes or ()))
            raise StepError(
                f"dataset: {self._label} has a value beside {known} in {unknown} test rows, expected two classes; "
                "use `task: multiclass` or clean it"
            )
        return int(rows)

    def measure(self, model: PipelineModel, manifest: Manifest) -> Measurement:
        """Return the metrics of a model, of all rows and of each slice."""
        return self._measure(evaluation_rows(model, manifest, self._rows_with_units, self._columns), manifest)

    def baseline(self, manifest: Manifest) -> Measurement:
        """Return the metrics of the best constant prediction by the training rows."""
        train = self._select_labels(self._train, manifest)
        weight = "weight" if self._weight else None
        constant = fit_constant(train, manifest.task, manifest.n_classes, weight=weight, quantile=self._quantile)
        rows = constant_evaluation_rows(constant.prediction, constant.probability, manifest, self._rows_with_units, self._columns)
        return self._measure(rows, manifest)

    def without_training_rows(self, champion: Manifest) -> Evaluator:
        """Return an evaluator of the test rows that the champion was not trained on.

        Raises:
            StepError: the dataset that the champion was trained on is gone, or has other keys.
        """
        context, table, key = self._context, self._pipeline.dataset_table, self._pipeline.dataset.key
        if champion.dataset_version == context.inputs.get(table):
            return self
        places = {name: f"_tidemill_key_{place}" for place, name in enumerate(key)}
        try:
            trained = context.lake.read(context.spark, table, champion.dataset_version).where(F.col("split") == "train")
            keys = trained.select(*[column(name).alias(place) for name, place in places.items()])
            is_same = reduce(and_, [column(name) == F.col(place) for name, place in places.items()])
            if self._test.join(keys, on=is_same, how="left_semi").isEmpty():
                return self
        except Exception as error:
            raise StepError(
                f"version {champion.dataset_version} of {table}, which it was trained on, cannot be compared: {format_spark_error(error)}"
            ) from error
        fresh = copy(self)
        fresh.__dict__.pop("_rows_with_units", None)
        fresh._test = self._test.join(keys, on=is_same, how="left_anti")
        return fresh

    @cached_property
    def _rows_with_units(self) -> DataFrame:
        """The test rows with their resampling unit and the names of their slices."""
        return self._test.select("*", hash_units(self._pipeline.dataset).alias(UNIT), name_slices(self._slices).alias(_SLICES))

    @property
    def _columns(self) -> EvaluationColumns:
        return EvaluationColumns(self._label, self._weight, carried=(UNIT, _SLICES), terms=self._sql.terms)

    def _measure(self, evaluated: EvaluationRows, manifest: Manifest) -> Measurement:
        rows = evaluated.rows.withColumnsRenamed({UNIT: "unit", _SLICES: "slices"})
        with cache_frame(rows) as cached:
            limited, notes = limit_slices(cached, self._slices) if self._slices else (cached, ())
            plan = Pass(
                manifest.kind,
                self._row_kind(manifest, cached),
                manifest.n_classes,
                self._pipeline.evaluation.bootstrap,
                self._own,
                len(self._sql.terms),
            )
            measured = measure_slices(limited, plan)
        try:
            by_sql = self._sql.evaluate(self._context.spark, measured)
            others = self._sql.aggregate_others(evaluated.named, _SLICES)
        except Exception as error:
            raise StepError(f"evaluation.metrics: {format_spark_error(error)}") from error
        own = {name: {**estimates, **others.get(name, {})} for name, estimates in by_sql.items()}
        return replace(self._build(measured, own, manifest), notes=notes)

    def _row_kind(self, manifest: Manifest, rows: DataFrame) -> RowKind:
        if manifest.kind.has_two_classes:
            return ScoredRows()
        if manifest.kind.has_many_classes:
            return ClassifiedRows(manifest.n_classes)
        mean = rows.agg(F.avg("label")).first()
        return RegressionRows(self._quantile, mean[0] or 0.0 if mean else 0.0)

    def _build(self, measured: Mapping[str, MeasuredSlice], own: Mapping[str, Mapping[str, Estimate]], manifest: Manifest) -> Measurement:
        whole = measured[ALL_ROWS]
        metrics = {name: estimate for name, estimate in whole.estimates.items() if OF_CLASS not in name}
        points = [point for point in whole.points if point.curve != CONFUSION]
        classes = manifest.classes or ()
        confusion = {
            (_class_of(classes, point.x), _class_of(classes, point.y)): float(point.threshold or 0.0)
            for point in whole.points
            if point.curve == CONFUSION
        }
        slices = {}
        for name in sorted(measured.keys() - {ALL_ROWS}):
            part, (place, title) = measured[name], split_name(name)
            columns = tuple(slice_titles(self._slices[place]))
            slices[title] = SliceMeasurement(part.rows, {**part.estimates, **own[name]}, columns, part.bounds)
        slices |= self._list_classes(whole, confusion, manifest)
        slices |= self._compare_groups(slices)
        return Measurement(whole.rows, {**metrics, **own[ALL_ROWS]}, slices, points, confusion, bounds=whole.bounds)

    def _list_classes(
        self, whole: MeasuredSlice, confusion: Mapping[tuple[object, object], float], manifest: Manifest
    ) -> dict[str, SliceMeasurement]:
        """Return precision, recall and F1 of each class, as slices of the label."""
        details: dict[str, dict[str, Estimate]] = {}
        for name, estimate in whole.estimates.items():
            metric, _, place = name.partition(OF_CLASS)
            if place:
                details.setdefault(place, {})[metric] = estimate
        slices = {}
        for place, estimates in details.items():
            value = _class_of(manifest.classes or (), int(place))
            rows = sum(weight for (label, _), weight in confusion.items() if label == value)
            slices[f"{self._label}={value}"] = SliceMeasurement(round(rows), estimates, (self._label,))
        return slices

    def _compare_groups(self, slices: Mapping[str, SliceMeasurement]) -> dict[str, SliceMeasurement]:
        """Return the differences and ratios of the rates between the groups of each column of ``fairness.by``, named as the column."""
        compared = {}
        for name in self._by:
            groups = [part for part in slices.values() if part.columns == (name,)]
            compared[name] = SliceMeasurement(
                min((group.rows for group in groups), default=0), compare_groups([g.estimates for g in groups])
            )
        return compared

    def _select_labels(self, rows: DataFrame, manifest: Manifest) -> DataFrame:
        weights = [column(self._weight).cast("double").alias("weight")] if self._weight else []
        return rows.select(encode_label(manifest, column(self._label)).alias("label"), *weights).where(F.col("label").isNotNull())


def _class_of(classes: Sequence[object], place: float) -> object:
    """Return the class of an index; None for a label that the model does not know."""
    return classes[int(place)] if int(place) < len(classes) else None
