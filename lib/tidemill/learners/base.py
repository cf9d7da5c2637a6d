"""What a family brings for the engine ``tasks``: how it learns from arrays, and what it makes of rows afterwards."""

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


Made = TypeVar("Made")
Matrix: TypeAlias = "np.ndarray | sp.csr_matrix"
Layout = Literal["dense", "any"]


@dataclass(frozen=True)
class Rows:
    """Vectors with their labels.

    ``features``: a row an example, a column a slot. ``labels``: class index or value. ``nominal``: slots that are category indices, and
    how many there are. ``weights``: what a row counts for; None: all alike. ``key`` names the rows, so that what a library makes of
    them before it learns can be kept.
    """

    features: Matrix
    labels: np.ndarray
    nominal: Mapping[int, int] = field(default_factory=dict)
    key: str = ""
    weights: np.ndarray | None = None

    @property
    def total(self) -> float:
        """What all rows together count for."""
        return float(len(self.labels) if self.weights is None else self.weights.sum())

    def kept(self, what: str, make: Callable[[], Made]) -> Made:
        """Return what ``make`` makes of these rows, kept for the next fits on them; rows without a ``key`` keep nothing."""
        return WORKER_CACHE.get(f"{self.key}/{what}" if self.key else "", make)


@dataclass(frozen=True)
class Setting:
    """What a fit is to be: the parameters, and of the problem what an estimator needs to know.

    ``monotone``: for each slot 1 or -1 where predictions may only rise or fall with it, else 0; empty where all are free.
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
        """Take the name of a kind of task for the kind."""
        object.__setattr__(self, "task", TaskKind(self.task))


class Predictor(Protocol):
    """What a fit gives for a setting."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return values (n), or the probabilities of the classes (n, classes)."""
        ...


class Scorer(Predictor, Protocol):
    """A fitted model, in the worker."""

    def dump(self) -> bytes:
        """Return the model in the library's own format."""
        ...

    def gains(self) -> np.ndarray:
        """Return what each slot gained in all splits by it."""
        ...


@dataclass(frozen=True)
class Linear:
    """A fitted linear model: ``weights`` (classes or 1, slots) and ``biases``; what it predicts is a matter of MLlib's own stages."""

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
        raised = np.exp(margins)
        return raised / raised.sum(axis=1, keepdims=True)


class Learner(Protocol):
    """How a family learns in the engine ``tasks``; anything with these members can be one."""

    @property
    def package(self) -> str:
        """The distribution whose parameters these are."""
        ...

    @property
    def layout(self) -> Layout:
        """What matrices it takes: dense ones alone, or any."""
        ...

    def unknown_parameters(self, names: Mapping[str, object], task: str) -> list[str]:
        """Return the parameters among ``names`` that it does not know."""
        ...

    def fitting_package(self, task: str, slots: int) -> str:
        """Return the distribution that does the work, given so many slots."""
        ...

    def fit(self, rows: Rows, setting: Setting) -> Scorer | Linear:
        """Learn from ``rows`` on one core; the same rows and setting give the same model."""
        ...

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return what settings may differ in for one fit to serve them all, given so many slots; None where each needs its own."""
        ...

    def fit_each(self, rows: Rows, settings: Sequence[Setting], unseen: Callable[[], Rows] | None = None) -> Iterable[Predictor]:
        """Return the models of settings that differ by what is shared alone, in their order, each as `fit` would give it.

        ``unseen`` gives rows that are not learned from, for settings that say to stop where those are told no better.
        """
        ...


@dataclass(frozen=True)
class Sharing:
    """Settings that differ by the values of ``parameters`` alone are served by one fit, at most ``most`` of them where that is said."""

    parameters: tuple[str, ...]
    most: int | None = None


_GREATEST_FLOAT32 = float(np.finfo(np.float32).max)


def within_float32(features: Matrix) -> Matrix:
    """Return the features for a library that keeps them in 32 bits and takes no infinities: what passes its range becomes its end."""
    if isinstance(features, sp.csr_matrix):
        return sp.csr_matrix((_clipped(features.data), features.indices, features.indptr), shape=features.shape)
    return _clipped(features)


def _clipped(values: np.ndarray) -> np.ndarray:
    if not values.size or max(np.fmax.reduce(values, axis=None), -np.fmin.reduce(values, axis=None)) <= _GREATEST_FLOAT32:
        return values
    return np.clip(values, -_GREATEST_FLOAT32, _GREATEST_FLOAT32)


class OneByOne(ABC):
    """Learners of which each setting needs a fit of its own."""

    package: str

    def fitting_package(self, task: str, slots: int) -> str:
        """Return the distribution that does the work, given so many slots."""
        return self.package

    @abstractmethod
    def fit(self, rows: Rows, setting: Setting) -> Scorer | Linear:
        """Learn on one core."""

    def sharing(self, task: str, slots: int) -> Sharing | None:
        """Return None."""
        return None

    def fit_each(self, rows: Rows, settings: Sequence[Setting], unseen: Callable[[], Rows] | None = None) -> Iterable[Predictor]:
        """Fit each by itself."""
        return [self.fit(rows, setting) for setting in settings]


@runtime_checkable
class Loader(Learner, Protocol):
    """A learner whose models are not linear, and so are kept in a format of their library's."""

    def load(self, dump: bytes, task: str) -> Scorer:
        """Return the model that ``dump`` wrote."""
        ...


# Another distribution of the same library, without what graphics cards need.
_ALSO = {"xgboost": "xgboost-cpu"}


@cache
def library(package: str) -> str:
    """Return the name and version of a package; the name alone where it is not installed."""
    for distribution in (package, _ALSO.get(package, package)):
        with suppress(PackageNotFoundError):
            return f"{package} {version(distribution)}"
    return package


def is_installed(module: str) -> bool:
    """Return True where ``module`` is there to be imported."""
    return find_spec(module) is not None


_TRUSTED = ("sklearn", "numpy")


def dumped(model: Any, n_classes: int) -> bytes:
    """Return the model, and how many classes its problem has."""
    from skops import io

    return bytes(io.dumps((model, n_classes)))


def loaded(dump: bytes) -> tuple[Any, int]:
    """Return what ``dumped`` wrote.

    Raises:
        Exception: it holds a type that is neither scikit-learn's nor numpy's.
    """
    from skops import io

    found = io.get_untrusted_types(data=dump)
    own = [name for name in found if name.partition(".")[0] in _TRUSTED or name == "functools.partial"]
    model, n_classes = io.loads(dump, trusted=own)
    return model, n_classes


def spread(found: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the probabilities with a column for each class, also for one that no row had."""
    if found.shape[1] == n_classes:
        return found
    whole = np.zeros((len(found), n_classes))
    whole[:, classes.astype(int)] = found
    return whole
