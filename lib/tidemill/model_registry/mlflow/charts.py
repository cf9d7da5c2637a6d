"""The evaluation of a run as files: metrics, gates, curves and the confusion matrix, as CSV and JSON, and as images."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.lake.ops import CurveRow, OpsRow
from tidemill.model_registry.mlflow.history import RecordedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_NOT_SHOWN = frozenset({"pipeline", "seq", "recorded_at"})
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Axis:
    """How a curve is drawn: its title and labels, and the line that it is compared with."""

    title: str
    x: str
    y: str
    reference: str | None = None


_AXES = {
    "roc": Axis("ROC curve", "false positive rate", "true positive rate", "diagonal"),
    "pr": Axis("precision-recall curve", "recall", "precision"),
    "calibration": Axis("calibration", "mean predicted probability", "share of positive rows", "diagonal"),
    "gain": Axis("gain", "share of rows, highest scores first", "share of positives found", "diagonal"),
    "lift": Axis("lift", "share of rows, highest scores first", "lift", "one"),
    "precision": Axis("by threshold", "threshold", "precision"),
    "recall": Axis("by threshold", "threshold", "recall"),
    "share_flagged": Axis("by threshold", "threshold", "share of rows flagged"),
    "residuals": Axis("residuals", "prediction", "residual", "zero"),
    "learning": Axis("learning curve", "training rows", "metric"),
}
_THRESHOLDS = ("precision", "recall", "share_flagged")


def write_evaluation(folder: Path, run: RecordedRun) -> bool:
    """Write the files of a run's evaluation into a folder; return False where the run measured nothing.

    ``metrics.csv`` and ``gates.csv`` have the rows of ``ops.metrics`` and ``ops.gates``, ``curves/<curve>.csv`` those of ``ops.curves``;
    images lie beside them where matplotlib, which MLflow brings, is installed.
    """
    if not (run.metrics or run.gates or run.curves):
        return False
    _write_rows(folder / "metrics.csv", run.metrics)
    _write_rows(folder / "gates.csv", run.gates)
    for name, points in run.curves.items():
        _write_rows(folder / "curves" / f"{name}.csv", points)
    matrix = confusion_matrix(run)
    if matrix is not None:
        labels = ["negative", "positive"]
        text = json.dumps({"labels": labels, "rows are the label, columns the prediction": True, "matrix": matrix}, indent=2)
        (folder / "confusion_matrix.json").write_text(text + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is not None:
        _draw(folder, run.curves, matrix)
    return True


def confusion_matrix(run: RecordedRun) -> list[list[int]] | None:
    """Return the test rows of two classes by label and prediction at the threshold; None where the metrics do not tell them.

    It follows from accuracy, recall and specificity, which are exact, and the number of rows; precision has to agree, as it does not where
    rows are weighted.
    """
    test = [row for row in run.metrics if row.slice is None and row.split == "test" and row.model_version]
    values = {str(row.metric): row.value for row in test}
    step = run.steps.get("evaluate")
    rows = next((row.rows for row in test if row.rows is not None), step.rows_in if step else None)
    accuracy, recall, specificity, precision = (values.get(name) for name in ("accuracy", "recall", "specificity", "precision"))
    if accuracy is None or recall is None or specificity is None or precision is None or not rows or recall == specificity:
        return None
    positives = round(rows * (accuracy - specificity) / (recall - specificity))
    hits, rejections = round(positives * recall), round((rows - positives) * specificity)
    alarms = rows - positives - rejections
    flagged = hits + alarms
    is_consistent = (
        0 <= positives <= rows
        and abs((hits + rejections) / rows - accuracy) < _TOLERANCE
        and abs((hits / flagged if flagged else 0.0) - precision) < _TOLERANCE
    )
    return [[rejections, alarms], [positives - hits, hits]] if is_consistent else None


def _write_rows(file: Path, rows: Sequence[OpsRow]) -> None:
    if not rows:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = [{name: value for name, value in row.cells().items() if name not in _NOT_SHOWN} for row in rows]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(cells[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)


def _draw(folder: Path, curves: Mapping[str, Sequence[CurveRow]], matrix: list[list[int]] | None) -> None:
    """Draw each curve, those over the threshold in one image, and the confusion matrix."""
    single = {name: points for name, points in curves.items() if name not in _THRESHOLDS}
    for name, points in single.items():
        _draw_curves(folder / "curves" / f"{name}.png", {name: points})
    over_threshold = {name: curves[name] for name in _THRESHOLDS if name in curves}
    if over_threshold:
        _draw_curves(folder / "curves" / "threshold.png", over_threshold)
    if matrix is not None:
        _draw_matrix(folder / "confusion_matrix.png", matrix)


def _draw_curves(file: Path, curves: Mapping[str, Sequence[CurveRow]]) -> None:
    first = next(iter(curves))
    axis = _AXES.get(first, Axis(first.replace("_", " "), "x", "y"))
    figure, plot = _figure()
    for name, points in curves.items():
        x = [float(point.x or 0.0) for point in points]
        plot.plot(x, [float(point.y or 0.0) for point in points], label=name, marker="o" if len(points) <= 20 else None, markersize=3)
        bounds = [(point.lower, point.upper) for point in points if point.lower is not None and point.upper is not None]
        if len(bounds) == len(points):
            plot.fill_between(x, [low for low, _ in bounds], [high for _, high in bounds], alpha=0.2)
    if axis.reference == "diagonal":
        plot.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color="grey")
    elif axis.reference is not None:
        plot.axhline({"zero": 0.0, "one": 1.0}[axis.reference], linestyle="--", linewidth=1, color="grey")
    if len(curves) > 1:
        plot.legend(frameon=False)
    plot.set(title=axis.title, xlabel=axis.x, ylabel=axis.y if len(curves) == 1 else "")
    plot.grid(alpha=0.3)
    figure.savefig(file)


def _draw_matrix(file: Path, matrix: list[list[int]]) -> None:
    figure, plot = _figure()
    shares = [[cell / max(sum(row), 1) for cell in row] for row in matrix]
    plot.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for y, row in enumerate(matrix):
        for x, cell in enumerate(row):
            text = f"{cell:,}\n{shares[y][x]:.1%}"
            plot.text(x, y, text, ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black")
    names = ["negative", "positive"]
    plot.set(
        title="confusion matrix", xlabel="prediction", ylabel="label", xticks=[0, 1], yticks=[0, 1], xticklabels=names, yticklabels=names
    )
    figure.savefig(file)


def _figure() -> tuple[Any, Axes]:
    """Return a figure without a display, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
