"""Importances of a fitted model: one figure per feature slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pyspark.ml import PipelineModel, Transformer

from tidemill.learners.model import normalise_gains
from tidemill.learners.xgboost import booster_gains
from tidemill.training.ensembles.combined import AsidePredictions

# A vocabulary may have far more slots: the greatest importances are kept.
MAX_IMPORTANCES = 1000


@dataclass(frozen=True)
class Importance:
    """The importance of one feature slot.

    ``kind`` is gain (of all splits by the slot; the sum over slots is 1) or coefficient (of scaled numbers; for more than two classes the
    mean of the absolute values). ``rank`` counts from 1, by absolute value; ``column`` is the raw column, None for a slot of several.
    """

    slot: str
    column: str | None
    kind: str
    importance: float
    rank: int

    def row(self) -> dict[str, Any]:
        """Return the columns of ``ops.importances``."""
        return {"column_name" if name == "column" else name: value for name, value in asdict(self).items()}


def list_importances(model: PipelineModel, slots: Sequence[str], columns: Sequence[str]) -> list[Importance]:
    """Return the most important slots of the model, at most 1000; none where the family has no importances.

    Where each class has its own trees, their gains are averaged. An ensemble has none, since its members read different slots.
    """
    figures = [] if any(isinstance(stage, AsidePredictions) for stage in model.stages) else _read_figures(model, len(slots))
    if not figures:
        return []
    kind, values = figures[-1]
    if kind == "gain":
        values = np.mean([gains for other, gains in figures if other == kind], axis=0)
    order = np.argsort(-np.abs(values), kind="stable")[:MAX_IMPORTANCES]
    return [
        Importance(slots[place], find_raw_column(slots[place], columns), kind, float(values[place]), rank)
        for rank, place in enumerate(order, start=1)
    ]


def _read_figures(model: PipelineModel, size: int) -> list[tuple[str, np.ndarray]]:
    """Return the figures of the stages for ``size`` slots, in order; stages that read predictions of other stages are left out."""
    figures = []
    for stage in model.stages:
        if _reads_predictions(stage):
            continue
        if hasattr(stage, "get_booster"):  # XGBoost's own stage has no figures by slot
            figures.append(("gain", normalise_gains(booster_gains(stage.get_booster()))))
        elif hasattr(stage, "featureImportances"):
            figures.append(("gain", stage.featureImportances.toArray()))
        elif hasattr(stage, "coefficientMatrix"):
            matrix = stage.coefficientMatrix.toArray()
            figures.append(("coefficient", matrix[0] if len(matrix) == 1 else np.abs(matrix).mean(axis=0)))
        elif hasattr(stage, "coefficients"):
            figures.append(("coefficient", stage.coefficients.toArray()))
    return [(kind, values) for kind, values in figures if len(values) == size]


def _reads_predictions(stage: Transformer) -> bool:
    read = str(stage.getOrDefault("featuresCol")) if stage.hasParam("featuresCol") else ""
    return read == "probability" or read.startswith("_tidemill_")


def find_raw_column(slot: str, columns: Sequence[str]) -> str | None:
    """Return the raw column of a slot: its name up to ``=``, ``.`` or ``[``; None where a stage combines several."""
    candidates = [name for name in columns if slot == name or slot.startswith((f"{name}=", f"{name}.", f"{name}["))]
    return max(candidates, key=len, default=None)
