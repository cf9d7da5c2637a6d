"""What counts in a fitted model: a figure for each slot of its feature vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer

from tidemill.training.adjusted import AdjustedProbabilities

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
    """Return the slots by what they count for in the last stage, at most 1000; empty where the family tells nothing of the kind."""
    for kind, values in _figures(model):
        if len(values) == len(slots):
            order = np.argsort(-np.abs(values), kind="stable")[:MOST_SLOTS]
            return [
                Importance(slots[place], _column(slots[place], columns), kind, float(values[place]), rank)
                for rank, place in enumerate(order, start=1)
            ]
    return []


def _figures(model: PipelineModel) -> Iterator[tuple[str, np.ndarray]]:
    # What adjusts probabilities, or brings a target back, comes behind the model.
    stage = model.stages[-2] if isinstance(model.stages[-1], AdjustedProbabilities | SQLTransformer) else model.stages[-1]
    if hasattr(stage, "featureImportances"):
        yield "gain", stage.featureImportances.toArray()
    elif hasattr(stage, "coefficientMatrix"):
        matrix = stage.coefficientMatrix.toArray()
        yield "coefficient", matrix[0] if len(matrix) == 1 else np.abs(matrix).mean(axis=0)
    elif hasattr(stage, "coefficients"):
        yield "coefficient", stage.coefficients.toArray()


def _column(slot: str, columns: Sequence[str]) -> str | None:
    """Return the raw column of a slot: its name up to ``=``, ``.`` or ``[``; None where a stage made it of several."""
    found = [name for name in columns if slot == name or slot.startswith((f"{name}=", f"{name}.", f"{name}["))]
    return max(found, key=len, default=None)
