"""The common part of learners of boosted trees: parameter names, categories, shared fits and early stopping."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from tidemill.families import PATIENCE
from tidemill.learners.base import Layout, Predictor, Rows, Scorer, Setting, Sharing, SingleFitLearner, is_installed

# Slots with more categories are numeric for all three libraries, since a bin is one byte.
_MAX_CATEGORIES = 254


def categorical_slots(rows: Rows) -> list[int]:
    """Return the categorical slots."""
    return [slot for slot, count in rows.nominal.items() if count <= _MAX_CATEGORIES]


@cache
def _parameters(module: str, name: str) -> frozenset[str]:
    return frozenset(getattr(import_module(module), name)().get_params())


class Library(SingleFitLearner):
    """A learner of another library: maps the parameter names of a spec to those of the library."""

    module: str
    estimator: str
    renamed: Mapping[str, str]  # a spec's name → the library's; empty: the spec's names are the library's
    layout: Layout

    def names(self) -> frozenset[str]:
        """Return the parameters that a spec may name."""
        return frozenset(self.renamed) or _parameters(self.module, self.estimator)

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters that the library does not support."""
        known = self.names()
        return [name for name in names if name not in known]

    def missing(self) -> str | None:
        """Return how to install the library, None where it is installed."""
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
        """Return the parameters of the library's Spark estimator for a loss other than the squared one, and for monotone slots."""
        return {}

    def library_params(self, setting: Setting) -> dict[str, Any]:
        """Return the parameters under the library's names."""
        return {self.renamed.get(name, name): value for name, value in setting.params.items()}


class StagedScorer(Scorer, Protocol):
    """A boosted model, which can predict with its first rounds only."""

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, with only the first ``rounds`` where these are given."""
        ...


@dataclass(frozen=True)
class FirstRounds:
    """The first ``rounds`` of a longer model: the same as a model fitted with so many rounds."""

    longest_model: StagedScorer
    rounds: int

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict with the first rounds."""
        return self.longest_model.predict(features, self.rounds)


class EarlyStoppedModel(FirstRounds):
    """A model with early stopping: ``rounds`` has the least loss on the held-out rows."""


@dataclass(frozen=True)
class Boosting(Library):
    """A learner of boosted trees: ``rounds`` names its parameter for the number of rounds; fits are shared, and may stop early."""

    package: str
    module: str
    estimator: str
    rounds: str
    renamed: Mapping[str, str] = field(default_factory=dict)  # a spec's name → the library's; empty: the spec's names are the library's
    layout: Layout = "dense"

    def names(self) -> frozenset[str]:
        """Return the parameters that a spec may name; with the library's own names also the one for early stopping."""
        return super().names() if self.renamed else super().names() | {PATIENCE}

    @abstractmethod
    def fit(self, rows: Rows, setting: Setting) -> StagedScorer:
        """Fit on one core."""

    @abstractmethod
    def fit_until(self, rows: Rows, setting: Setting, unseen: Rows, patience: int) -> tuple[StagedScorer, Sequence[float]]:
        """Fit until the loss of the ``unseen`` rows has not fallen for ``patience`` rounds; return also that loss after each round."""

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return the parameter of rounds: the first 30 rounds of a model of 60 are a model of 30."""
        return Sharing((self.rounds,))

    def fit_each(self, rows: Rows, settings: Sequence[Setting], unseen: Callable[[], Rows] | None = None) -> Iterable[Predictor]:
        """Fit the greatest number of rounds, and return for each setting its first rounds, or the best ones with early stopping."""
        counts = [int(setting.params.get(self.rounds, 0)) for setting in settings]
        longest_setting = settings[counts.index(max(counts))]
        params = {name: value for name, value in longest_setting.params.items() if name != PATIENCE}
        if unseen is None or params == longest_setting.params:
            longest_model = self.fit(rows, longest_setting)
            return [longest_model if count == max(counts) else FirstRounds(longest_model, count) for count in counts]
        longest_model, losses = self.fit_until(
            rows, replace(longest_setting, params=params), unseen(), int(longest_setting.params[PATIENCE])
        )
        return [EarlyStoppedModel(longest_model, 1 + int(np.argmin(losses[: count or None]))) for count in counts]
