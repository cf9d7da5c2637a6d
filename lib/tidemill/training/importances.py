"""What counts in a fitted model: a figure for each slot of its feature vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pyspark.ml import PipelineModel, Transformer

from tidemill.learners.model import shares
from tidemill.learners.xgboost import booster_gains
from tidemill.training.ensembles.combined import AsidePredictions

# A vocabulary may have more slots than anybody reads: those that count most are kept.
MOST_SLOTS = 1000


@dataclass(frozen=True)
class Importance:
    """One slot.

    ``kind`` is gain (of all splits by the slot; the sum over slots is 1) or coefficient (of scaled numbers; the mean of the absolute ones
    where there are more than two classes). ``rank`` counts from 1, by absolute value; ``column`` is the raw column.
    """

    slot: str
    column: str | None
    kind: str
    importance: float
    rank: int

    def row(self) -> dict[str, Any]:
        """Return the columns of ``ops.importances``."""
        return {"column_name" if name == "column" else name: value for name, value in asdict(self).items()}


def importances(model: PipelineModel, slots: Sequence[str], columns: Sequence[str]) -> list[Importance]:
    """Return the slots by what they count for in the model, at most 1000; empty where the family tells nothing of the kind.

    Where each class has its own trees, it is the mean of theirs; of an ensemble nothing is told, whose members read other slots.
    """
    figures = [] if any(isinstance(stage, AsidePredictions) for stage in model.stages) else _figures(model, len(slots))
    if not figures:
        return []
    kind, values = figures[-1]
    if kind == "gain":
        values = np.mean([gains for other, gains in figures if other == kind], axis=0)
    order = np.argsort(-np.abs(values), kind="stable")[:MOST_SLOTS]
    return [
        Importance(slots[place], _column(slots[place], columns), kind, float(values[place]), rank)
        for rank, place in enumerate(order, start=1)
    ]


def _figures(model: PipelineModel, size: int) -> list[tuple[str, np.ndarray]]:
    """Return what the stages say of so many slots, in order; those that read what others say of a row are not asked."""
    found = []
    for stage in model.stages:
        if _reads_predictions(stage):
            continue
        if hasattr(stage, "get_booster"):  # XGBoost's own stage tells no figures of slots
            found.append(("gain", shares(booster_gains(stage.get_booster()))))
        elif hasattr(stage, "featureImportances"):
            found.append(("gain", stage.featureImportances.toArray()))
        elif hasattr(stage, "coefficientMatrix"):
            matrix = stage.coefficientMatrix.toArray()
            found.append(("coefficient", matrix[0] if len(matrix) == 1 else np.abs(matrix).mean(axis=0)))
        elif hasattr(stage, "coefficients"):
            found.append(("coefficient", stage.coefficients.toArray()))
    return [(kind, values) for kind, values in found if len(values) == size]


def _reads_predictions(stage: Transformer) -> bool:
    read = str(stage.getOrDefault("featuresCol")) if stage.hasParam("featuresCol") else ""
    return read == "probability" or read.startswith("_tidemill_")


def _column(slot: str, columns: Sequence[str]) -> str | None:
    """Return the raw column of a slot: its name up to ``=``, ``.`` or ``[``; None where a stage made it of several."""
    found = [name for name in columns if slot == name or slot.startswith((f"{name}=", f"{name}.", f"{name}["))]
    return max(found, key=len, default=None)
