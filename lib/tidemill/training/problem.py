"""What is learned, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.families import ON_CLUSTER, Family, Requirements, find_family, unsupported_reason
from tidemill.learners.custom import EstimatorFamily
from tidemill.tasks import Metric, TaskKind
from tidemill.training.balance import Balance


@dataclass(frozen=True)
class Problem:
    """What is learned and how it is judged; ``n_classes`` is 0 for a regression.

    ``is_expanding``: a fold is validated by models of the folds before it alone, and the first by none.
    ``balance``: what the rows of each class count for in a fit; what a model says is brought back to the classes as they are.
    ``target``: ``log`` where the label that is learned is the logarithm of one more than the label; metrics are of the label itself.
    ``loss``: squared, absolute or quantile, and then of which. ``monotone``: raw column → increasing or decreasing.
    ``is_weighted``: rows have weights of their own, besides those of ``balance``. ``own_metrics`` are measured besides the built-in ones.
    """

    task: TaskKind
    metric: str
    n_classes: int
    seed: int
    is_expanding: bool = False
    balance: Balance | None = None
    own: Mapping[str, Family] = field(default_factory=dict)
    target: str = "identity"
    loss: str = "squared"
    quantile: float | None = None
    monotone: Mapping[str, str] = field(default_factory=dict)
    is_weighted: bool = False
    own_metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        """Take the name of a kind of task for the kind."""
        object.__setattr__(self, "task", TaskKind(self.task))

    def family(self, name: str) -> Family:
        """Return the family of that name: one of the user's ``own``, or a built-in one.

        Raises:
            SpecError: there is none, or it does not suit the task.
        """
        return self.own[name] if name in self.own else find_family(name, self.task)

    def unsupported_on_cluster(self, name: str) -> str | None:
        """Return what the family's estimator cannot do of this problem; weights are refused by the fit itself."""
        family = self.family(name)
        required = Requirements(ON_CLUSTER, bool(self.monotone), self.loss)
        return None if isinstance(family, EstimatorFamily) else unsupported_reason(name, family, required)

    @property
    def asked(self) -> list[object]:
        """All that its figures depend on, as plain values."""
        around = [self.target, self.loss, self.quantile, dict(self.monotone), self.is_weighted]
        return [self.task, self.metric, self.n_classes, self.seed, self.is_expanding, self.balance, *around]
