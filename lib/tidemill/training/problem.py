"""What is learned, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.training.balance import Balance
from tidemill.training.families import Family, family_of


@dataclass(frozen=True)
class Problem:
    """What is learned and how it is judged; ``n_classes`` is 0 for a regression.

    ``is_expanding``: a fold is validated by models of the folds before it alone, and the first by none.
    ``balance``: what the rows of each class count for in a fit; what a model says is brought back to the classes as they are.
    """

    task: str
    metric: str
    n_classes: int
    seed: int
    is_expanding: bool = False
    balance: Balance | None = None
    own: Mapping[str, Family] = field(default_factory=dict)

    def family(self, name: str) -> Family:
        """Return the family of that name: one of the user's ``own``, or a built-in one.

        Raises:
            SpecError: there is none, or it does not suit the task.
        """
        return self.own[name] if name in self.own else family_of(name, self.task)
