"""What learners of boosted trees share: names of parameters, categories, and where their library is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from tidemill.families import PATIENCE
from tidemill.learners.base import Layout, OneByOne, Predictor, Rows, Scorer, Setting, Sharing, is_installed

# More categories than this are taken as numbers by all three alike: bins are single bytes.
_MOST_CATEGORIES = 254


def nominal(rows: Rows) -> list[int]:
    """Return the slots that are taken as categories."""
    return [slot for slot, count in rows.nominal.items() if count <= _MOST_CATEGORIES]


@cache
def _parameters(module: str, name: str) -> frozenset[str]:
    return frozenset(getattr(import_module(module), name)().get_params())


class Library(OneByOne):
    """What learners of other libraries share: how parameters of a spec are named, and which are a library's own."""

    module: str
    estimator: str
    renamed: Mapping[str, str]  # a spec's name → the library's; empty: the spec's names are the library's
    layout: Layout

    def names(self) -> frozenset[str]:
        """Return the parameters that a spec may name."""
        return frozenset(self.renamed) or _parameters(self.module, self.estimator)

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that the library does not know."""
        known = self.names()
        return [name for name in names if name not in known]

    def missing(self) -> str | None:
        """Return what to do where the library is not installed, None where it is."""
        if is_installed(self.module.partition(".")[0]):
            return None
        return f"{self.package} is not installed here; pip install 'tidemill[tasks]'"

    @abstractmethod
    def fit(self, rows: Rows, setting: Setting) -> Scorer:
        """Fit on one core."""

    @abstractmethod
    def load(self, dump: bytes, task: str) -> Scorer:
        """Return the model that ``dump`` wrote."""

    def loss_params(self, loss: str, quantile: float | None, monotone: Sequence[int]) -> Mapping[str, Any]:
        """Return the parameters of the library's estimator on Spark for a loss other than the squared one, and for monotone slots."""
        return {}

    def given(self, setting: Setting) -> dict[str, Any]:
        """Return the parameters by the library's names."""
        return {self.renamed.get(name, name): value for name, value in setting.params.items()}


class Staged(Scorer, Protocol):
    """A boosted model, which is the sum of its rounds."""

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, of the first ``rounds`` alone where they are given."""
        ...


@dataclass(frozen=True)
class FirstRounds:
    """The first ``rounds`` of a longer model: exactly what a fit of so many rounds gives."""

    whole: Staged
    rounds: int

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return what the first rounds predict."""
        return self.whole.predict(features, self.rounds)


class Stopped(FirstRounds):
    """The rounds after which rows that were not learned from are told best."""


@dataclass(frozen=True)
class Boosting(Library):
    """What the three share: which parameter counts the ``rounds``, that a model holds those of fewer, and when enough are enough."""

    package: str
    module: str
    estimator: str
    rounds: str
    renamed: Mapping[str, str] = field(default_factory=dict)  # a spec's name → the library's; empty: the spec's names are the library's
    layout: Layout = "dense"

    def names(self) -> frozenset[str]:
        """Return the parameters that a spec may name; where they are the library's own, the one that stops early is among them."""
        return super().names() if self.renamed else super().names() | {PATIENCE}

    @abstractmethod
    def fit(self, rows: Rows, setting: Setting) -> Staged:
        """Fit on one core."""

    @abstractmethod
    def fit_until(self, rows: Rows, setting: Setting, unseen: Rows, patience: int) -> tuple[Staged, Sequence[float]]:
        """Fit until the loss of ``unseen`` rows has not fallen for so many rounds; return that loss after each round, too."""

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return the number of rounds: a model of 30 is the first 30 of one of 60."""
        return Sharing((self.rounds,))

    def fit_each(self, rows: Rows, settings: Sequence[Setting], unseen: Callable[[], Rows] | None = None) -> Iterable[Predictor]:
        """Fit as many rounds as any setting asks for, and return the first of them for each: all, or those that are best."""
        counts = [int(setting.params.get(self.rounds, 0)) for setting in settings]
        longest = settings[counts.index(max(counts))]
        params = {name: value for name, value in longest.params.items() if name != PATIENCE}
        if unseen is None or params == longest.params:
            whole = self.fit(rows, longest)
            return [whole if count == max(counts) else FirstRounds(whole, count) for count in counts]
        whole, losses = self.fit_until(rows, replace(longest, params=params), unseen(), int(longest.params[PATIENCE]))
        return [Stopped(whole, 1 + int(np.argmin(losses[: count or None]))) for count in counts]
