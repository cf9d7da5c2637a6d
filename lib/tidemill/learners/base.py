"""The interface of learners for the engine ``tasks``: they fit models on arrays, and the models predict arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import scipy.sparse as sp

from tidemill.runtime.caching import WORKER_CACHE
from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from tidemill.families.space import Scalar


Result = TypeVar("Result")
Matrix: TypeAlias = "np.ndarray | sp.csr_matrix"
Layout = Literal["dense", "any"]


@dataclass(frozen=True)
class Rows:
    """Vectors with their labels.

    ``features``: one row per example, one column per slot. ``labels``: class index or value. ``nominal``: categorical slot → number of
    categories. ``weights``: those of the rows; None: all are 1. ``key`` identifies the rows, so that the data structures of a library can
    be cached.
    """

    features: Matrix
    labels: np.ndarray
    nominal: Mapping[int, int] = field(default_factory=dict)
    key: str = ""
    weights: np.ndarray | None = None

    @property
    def total(self) -> float:
        """The total weight of the rows."""
        return float(len(self.labels) if self.weights is None else self.weights.sum())

    def get_cached(self, what: str, make: Callable[[], Result]) -> Result:
        """Return the result of ``make`` for these rows, cached for the next fits on them; without a ``key`` nothing is cached."""
        return WORKER_CACHE.get(f"{self.key}/{what}" if self.key else "", make)


@dataclass(frozen=True)
class Setting:
    """The parameters of a fit, and the parts of the problem that it needs.

    ``monotone``: 1, -1 or 0 (unconstrained) for each slot; empty where no slot is constrained.
    ``target``: ``log`` where labels and predictions are logarithms.
    """

    params: Mapping[str, Scalar]
    task: TaskKind
    n_classes: int
    seed: int
    loss: str = "squared"
    quantile: float | None = None
    monotone: tuple[int, ...] = ()
    target: str = "identity"

    def __post_init__(self) -> None:
        """Convert the name of a task to its `TaskKind`."""
        object.__setattr__(self, "task", TaskKind(self.task))


class Predictor(Protocol):
    """The result of a fit for one setting."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return values (n), or class probabilities (n, classes)."""
        ...


class Scorer(Predictor, Protocol):
    """A fitted model, in the worker."""

    def dump(self) -> bytes:
        """Return the model in the library's own format."""
        ...

    def gains(self) -> np.ndarray:
        """Return the total gain of each slot over all splits."""
        ...


@dataclass(frozen=True)
class Linear:
    """A fitted linear model: ``weights`` (classes or 1, slots) and ``biases``; a stage of MLlib makes its final predictions."""

    weights: np.ndarray
    biases: np.ndarray
    task: str

    def predict(self, features: Matrix) -> np.ndarray:
        """Return values, or the softmax of the margins."""
        margins = np.asarray(features @ self.weights.T) + self.biases
        if TaskKind(self.task).predicts_number:
            return margins[:, 0]
        if margins.shape[1] == 1:
            margins = np.hstack([np.zeros_like(margins), margins])
        margins -= margins.max(axis=1, keepdims=True)
        exponentials = np.exp(margins)
        return exponentials / exponentials.sum(axis=1, keepdims=True)


class Learner(Protocol):
    """The interface of a learner for the engine ``tasks``; any object with these members is one."""

    @property
    def package(self) -> str:
        """The distribution whose parameters the learner takes."""
        ...

    @property
    def layout(self) -> Layout:
        """The matrices that it takes: only dense ones, or any."""
        ...

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters among ``names`` that it does not support."""
        ...

    def fitting_package(self, task: str, slots: int) -> str:
        """Return the distribution that does the work, given so many slots."""
        ...

    def fit(self, rows: Rows, setting: Setting) -> Scorer | Linear:
        """Fit ``rows`` on one core; the same rows and setting give the same model."""
        ...

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return the parameters in which settings that share one fit may differ, for so many slots; None where each needs a fit."""
        ...

    def fit_each(self, rows: Rows, settings: Sequence[Setting], unseen: Callable[[], Rows] | None = None) -> Iterable[Predictor]:
        """Return the models of settings that differ only in shared parameters, in their order; each is the model that `fit` would return.

        ``unseen`` returns the held-out rows, for settings with early stopping.
        """
        ...


@dataclass(frozen=True)
class Sharing:
    """Settings that differ only in ``parameters`` share one fit, at most ``most`` of them; None sets no limit."""

    parameters: tuple[str, ...]
    most: int | None = None


_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def within_float32(features: Matrix) -> Matrix:
    """Clip the features to the range of float32, for a library that stores them as float32 and accepts no infinities."""
    if isinstance(features, sp.csr_matrix):
        return sp.csr_matrix((_clip(features.data), features.indices, features.indptr), shape=features.shape)
    return _clip(features)


def _clip(values: np.ndarray) -> np.ndarray:
    if not values.size or max(np.fmax.reduce(values, axis=None), -np.fmin.reduce(values, axis=None)) <= _MAX_FLOAT32:
        return values
    return np.clip(values, -_MAX_FLOAT32, _MAX_FLOAT32)


class SingleFitLearner(ABC):
    """A learner that needs one fit per setting."""

    package: str

    def fitting_package(self, task: str, slots: int) -> str:
        """Return the distribution that does the work, given so many slots."""
        return self.package

    @abstractmethod
    def fit(self, rows: Rows, setting: Setting) -> Scorer | Linear:
        """Fit on one core."""

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return None."""
        return None

    def fit_each(self, rows: Rows, settings: Sequence[Setting], unseen: Callable[[], Rows] | None = None) -> Iterable[Predictor]:
        """Fit each setting."""
        return [self.fit(rows, setting) for setting in settings]


@runtime_checkable
class Loader(Learner, Protocol):
    """A learner of non-linear models, which are saved in the format of their library."""

    def load(self, dump: bytes, task: str) -> Scorer:
        """Read the model of a dump."""
        ...


# Another distribution of the same library, without GPU support.
_ALTERNATIVE_DISTRIBUTIONS = {"xgboost": "xgboost-cpu"}


@cache
def library(package: str) -> str:
    """Return the name and version of a package; the name alone where it is not installed."""
    for distribution in (package, _ALTERNATIVE_DISTRIBUTIONS.get(package, package)):
        with suppress(PackageNotFoundError):
            return f"{package} {version(distribution)}"
    return package


def is_installed(module: str) -> bool:
    """Return True where ``module`` can be imported."""
    return find_spec(module) is not None


_TRUSTED = ("sklearn", "numpy")


def dump_skops(model: Any, n_classes: int) -> bytes:
    """Serialise a model and its number of classes in the format of skops."""
    from skops import io

    return bytes(io.dumps((model, n_classes)))


def load_skops(dump: bytes) -> tuple[Any, int]:
    """Return the model and the number of classes of a dump.

    Raises:
        Exception: the dump has a type that is neither scikit-learn's nor numpy's.
    """
    from skops import io

    unknown_types = io.get_untrusted_types(data=dump)
    trusted = [name for name in unknown_types if name.partition(".")[0] in _TRUSTED or name == "functools.partial"]
    model, n_classes = io.loads(dump, trusted=trusted)
    return model, n_classes


def expand_classes(probabilities: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return probabilities with one column per class; a class without training rows has probability 0."""
    if probabilities.shape[1] == n_classes:
        return probabilities
    expanded = np.zeros((len(probabilities), n_classes))
    expanded[:, classes.astype(int)] = probabilities
    return expanded
