"""The evaluation of a run as files: metrics, gates, curves and the confusion matrix, as CSV and JSON, and as images."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.lake.ops import ConfusionRow, CurveRow, OpsRow
from tidemill.model_registry.mlflow.history import RecordedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_NOT_SHOWN = frozenset({"pipeline", "run_id", "seq", "recorded_at"})
_MOST_WRITTEN = 12  # classes: the cells of more have no figures


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
    "residual_quantiles": Axis("quantiles of the residuals", "quantile", "residual", "zero"),
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
    matrix = build_matrix(run.confusion)
    if matrix is not None:
        text = json.dumps({"labels": matrix.labels, "matrix": matrix.cells, "rows": "label", "columns": "prediction"}, indent=2)
        (folder / "confusion_matrix.json").write_text(text + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is not None:
        _draw(folder, run.curves, matrix)
    return True


@dataclass(frozen=True)
class ConfusionMatrix:
    """Weights of the test rows by label (rows) and prediction (columns); ``labels`` are the classes as text, in their order."""

    labels: Sequence[str]
    cells: Sequence[Sequence[float]]


def build_matrix(rows: Sequence[ConfusionRow]) -> ConfusionMatrix | None:
    """Return the matrix of the rows of ``ops.confusion``; None without any. A label that the model does not know is called unknown."""
    weights = {(row.label or "unknown", row.prediction or "unknown"): row.rows or 0.0 for row in rows}
    labels = sorted({name for cell in weights for name in cell}, key=_sort_key)
    cells = [[weights.get((label, prediction), 0.0) for prediction in labels] for label in labels]
    return ConfusionMatrix(labels, cells) if labels else None


def _sort_key(label: str) -> tuple[bool, float, str]:
    """Return what sorts numbers as numbers, other labels as texts, and the unknown one last."""
    try:
        return False, float(label), ""
    except ValueError:
        return label == "unknown", 0.0, label


def _write_rows(file: Path, rows: Sequence[OpsRow]) -> None:
    if not rows:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = [{name: value for name, value in row.cells().items() if name not in _NOT_SHOWN} for row in rows]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(cells[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)


def _draw(folder: Path, curves: Mapping[str, Sequence[CurveRow]], matrix: ConfusionMatrix | None) -> None:
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
        ends = [[math.nan if end is None else end for end in (point.lower, point.upper)] for point in points]
        if not all(math.isnan(end) for pair in ends for end in pair):
            plot.fill_between(x, [lower for lower, _ in ends], [upper for _, upper in ends], alpha=0.2)
    if axis.reference == "diagonal":
        plot.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color="grey")
    elif axis.reference is not None:
        plot.axhline({"zero": 0.0, "one": 1.0}[axis.reference], linestyle="--", linewidth=1, color="grey")
    if len(curves) > 1:
        plot.legend(frameon=False)
    plot.set(title=axis.title, xlabel=axis.x, ylabel=axis.y if len(curves) == 1 else "")
    plot.grid(alpha=0.3)
    figure.savefig(file)


def _draw_matrix(file: Path, matrix: ConfusionMatrix) -> None:
    """Draw the matrix; a colour is the share of the label's rows."""
    figure, plot = _figure()
    shares = [[cell / (sum(row) or 1.0) for cell in row] for row in matrix.cells]
    plot.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [label if len(label) <= 20 else f"{label[:19]}…" for label in matrix.labels]
    places = list(range(len(names)))
    if len(names) <= _MOST_WRITTEN:
        size = 10 if len(names) < 6 else 6
        for y, x in ((y, x) for y in places for x in places):
            text = f"{matrix.cells[y][x]:,.10g}" + (f"\n{shares[y][x]:.1%}" if len(names) < 6 else "")
            plot.text(x, y, text, ha="center", va="center", size=size, color="white" if shares[y][x] > 0.5 else "black")
    plot.set(title="confusion matrix", xlabel="prediction", ylabel="label")
    size = 10 if len(names) <= _MOST_WRITTEN else 5
    plot.set_xticks(places, names, rotation=0 if len(names) < 4 else 90, size=size)
    plot.set_yticks(places, names, size=size)
    figure.savefig(file)


def _figure() -> tuple[Any, Axes]:
    """Return a figure without a display, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
