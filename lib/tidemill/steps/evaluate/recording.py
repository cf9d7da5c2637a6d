"""The rows of an evaluation: ``ops.metrics``, ``ops.curves`` and ``ops.confusion``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.evaluation import Measurement, SliceMeasurement
from tidemill.lake.ops import ConfusionRow, CurveRow, MetricRow

if TYPE_CHECKING:
    from tidemill.steps.result import StepContext

BASELINE_VERSION = 0


def record_measurements(
    context: StepContext, measurements: Mapping[int, Measurement], candidate: int, further_rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write the metrics of each version, and the curves and the confusion matrix of the candidate; safe to repeat.

    ``further_rows`` are rows of ``ops.metrics`` about the candidate, with split, slice, metric and value.
    """
    run, ledger, measured = context.run_columns, context.lake.ledger, measurements[candidate]
    rows = [row for version, each in measurements.items() for row in _list_metric_rows(context, version, each)]
    ledger.put(MetricRow, rows + [MetricRow(**run, model_version=candidate, **row) for row in further_rows], where=run)
    of_candidate = {**run, "model_version": candidate}
    if measured.points:
        points = [CurveRow(**of_candidate, split="test", **point._asdict()) for point in measured.points]
        ledger.put(CurveRow, points, where={**run, "split": "test"})
    cells = [
        ConfusionRow(**of_candidate, split="test", label=_text(label), prediction=_text(prediction), rows=weight)
        for (label, prediction), weight in measured.confusion.items()
    ]
    if cells:
        ledger.put(ConfusionRow, cells, where=run)


def _text(value: object) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _list_metric_rows(context: StepContext, version: int, measured: Measurement) -> Iterator[MetricRow]:
    """Yield the metrics of all rows and of the slices."""
    least = context.spec.pipeline.evaluation.min_slice_rows
    whole = SliceMeasurement(measured.rows, measured.estimates, bounds=measured.bounds)
    for name, part in ((None, whole), *measured.slices.items()):
        for metric, estimate in part.estimates.items():
            lower, upper = estimate.ends
            yield MetricRow(
                **context.run_columns,
                split="test",
                model_version=version,
                slice=name,
                metric=metric,
                value=estimate.number,
                lower=lower,
                upper=upper,
                rows=part.rows or None,
                is_small=None if name is None else part.rows < least,
                error_bound=part.bounds.get(metric),
            )
