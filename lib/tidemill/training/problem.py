"""The learning problem: task, metric, label and constraints of one training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.families import ON_CLUSTER, Family, Requirements, find_family, unsupported_reason
from tidemill.learners.custom import EstimatorFamily
from tidemill.tasks import Metric, TaskKind
from tidemill.training.balance import Balance


@dataclass(frozen=True)
class Problem:
    """The learning problem of one training run; ``n_classes`` is 0 for a regression.

    ``is_expanding``: a fold is predicted by models of the folds before it only; the first fold is not validated.
    ``balance``: class balancing in fits; predicted probabilities are corrected to the original class shares.
    ``target``: ``log`` where models learn log(1 + label); metrics are computed on the original label scale.
    ``loss``: squared, absolute or quantile, then with ``quantile``. ``monotone``: raw column → increasing or decreasing.
    ``is_weighted``: the dataset has a weight column, apart from ``balance``. ``own_metrics`` are computed besides the built-in ones.
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
        """Convert the name of a task to its `TaskKind`."""
        object.__setattr__(self, "task", TaskKind(self.task))

    def family(self, name: str) -> Family:
        """Return the family of that name: one of the user's ``own``, or a built-in one.

        Raises:
            SpecError: no family has that name, or it does not suit the task.
        """
        return self.own[name] if name in self.own else find_family(name, self.task)

    def unsupported_on_cluster(self, name: str) -> str | None:
        """Return why the family's estimator cannot fit this problem, None where it can; weights are checked by the fit itself."""
        family = self.family(name)
        required = Requirements(ON_CLUSTER, bool(self.monotone), self.loss)
        return None if isinstance(family, EstimatorFamily) else unsupported_reason(name, family, required)

    @property
    def dependencies(self) -> list[object]:
        """All that the results of a trial depend on, as plain values."""
        options = [self.target, self.loss, self.quantile, dict(self.monotone), self.is_weighted]
        return [self.task, self.metric, self.n_classes, self.seed, self.is_expanding, self.balance, *options]
