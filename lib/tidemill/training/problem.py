"""What is learned, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """What is learned and how it is judged; ``n_classes`` is 0 for a regression.

    ``is_expanding``: a fold is validated by models of the folds before it alone, and the first by none.
    """

    task: str
    metric: str
    n_classes: int
    seed: int
    is_expanding: bool = False
