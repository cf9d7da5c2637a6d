"""What counts in a fitted model: a figure for each slot of its feature vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from pyspark.ml import PipelineModel, Transformer

from tidemill.training.combined import AsidePredictions

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

    def row(self) -> dict[str, object]:
        """Return the columns by name."""
        return asdict(self)


def importances(model: PipelineModel, slots: Sequence[str], columns: Sequence[str]) -> list[Importance]:
    """Return the slots by what they count for in the model, at most 1000; empty where the family tells nothing of the kind.

    Where each class has a model of its own, it is the mean of theirs; of an ensemble nothing is told, whose members read other slots.
    """
    for kind, values in _figures(model):
        if len(values) == len(slots):
            order = np.argsort(-np.abs(values), kind="stable")[:MOST_SLOTS]
            return [
                Importance(slots[place], _column(slots[place], columns), kind, float(values[place]), rank)
                for rank, place in enumerate(order, start=1)
            ]
    return []


def _figures(model: PipelineModel) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what the stages that read the slots say of them, each way that it can be read; nothing of several models that are combined."""
    if any(isinstance(stage, AsidePredictions) for stage in model.stages):
        return
    stages = [stage for stage in model.stages if _reads_slots(stage)]
    gains = [stage.featureImportances.toArray() for stage in stages if hasattr(stage, "featureImportances")]
    if gains:  # several where each class has its own trees
        yield "gain", np.mean(gains, axis=0)
        return
    for stage in stages:
        if hasattr(stage, "coefficientMatrix"):
            matrix = stage.coefficientMatrix.toArray()
            yield "coefficient", matrix[0] if len(matrix) == 1 else np.abs(matrix).mean(axis=0)
        elif hasattr(stage, "coefficients"):
            yield "coefficient", stage.coefficients.toArray()


def _reads_slots(stage: Transformer) -> bool:
    """Return False where a stage reads what other models say; of a stage of somebody's own it is not known."""
    return not stage.hasParam("featuresCol") or str(stage.getOrDefault("featuresCol")).startswith("features_")


def _column(slot: str, columns: Sequence[str]) -> str | None:
    """Return the raw column of a slot: its name up to ``=``, ``.`` or ``[``; None where a stage made it of several."""
    found = [name for name in columns if slot == name or slot.startswith((f"{name}=", f"{name}.", f"{name}["))]
    return max(found, key=len, default=None)
