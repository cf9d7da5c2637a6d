"""The logit of a probability, minus or plus infinity where it is 0 or 1: as a column, and of arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column


def logit(p: Column) -> Column:
    """Return the logit of a column."""
    return F.when(p <= 0, -F.lit(math.inf)).when(p >= 1, F.lit(math.inf)).otherwise(F.log(p) - F.log1p(-p))


def logits(p: np.ndarray) -> np.ndarray:
    """Return the logits of an array."""
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.log(p) - np.log1p(-p)
    return found
