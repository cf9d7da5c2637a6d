"""What finds rows unlike the others, by scikit-learn: forests that isolate them, and mixtures that find them improbable."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from tidemill.learners.base import Layout, Matrix, Rows, Setting, dumped, loaded, within_float32
from tidemill.learners.boosting import Library
from tidemill.learners.linear_learners import unconverged

# So many training rows, the first by the hash of their key, are a sample that tells shares to within 0.1 %.
MOST_ROWS = 100_000
_MOST_KNOTS = 4_000
_EXACT_AT_THE_TOP = 1_000


@dataclass(frozen=True)
class Quantiles:
    """Knots of the distribution of the training rows: figures, rising, and the share of rows that lies below each."""

    figures: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, figures: np.ndarray) -> Quantiles:
        """Return those of the training rows: every different figure where they are few, all of the greatest ones anyway.

        Raises:
            ValueError: a figure is no number.
        """
        if not np.isfinite(figures).all():
            raise ValueError("the strangeness of some training rows is no number; check the features for NaN or infinite values")
        different, counts = np.unique(figures, return_counts=True)
        shares = (np.cumsum(counts) - counts) / len(figures)
        last = len(different) - 1
        if last >= _MOST_KNOTS:
            even = np.linspace(0, last, _MOST_KNOTS - _EXACT_AT_THE_TOP).round().astype(int)
            kept = np.unique(np.concatenate([even, np.arange(last - _EXACT_AT_THE_TOP, last + 1)]))
            different, shares = different[kept], shares[kept]
        return cls(different, shares)

    def share(self, figures: np.ndarray) -> np.ndarray:
        """Return the share of training rows that are less strange, straight lines between knots.

        Behind the strangest training row the share rises on towards 1 and never reaches it, so that stranger rows stay apart.
        """
        inside = np.interp(figures, self.figures, self.shares)
        greatest, top = self.figures[-1], self.shares[-1]
        width = (greatest - self.figures[0]) or 1.0
        behind = np.maximum(figures - greatest, 0.0) / width
        return np.asarray(np.where(figures > greatest, top + (1 - top) * behind / (1 + behind), inside))


# What vectors may take that are spread out, in a task.
_MOST_CELLS = 100_000_000


def spread_out(features: Matrix) -> np.ndarray:
    """Return the vectors with their zeros, within what 32 bits hold.

    Raises:
        MemoryError: they are too many for that.
    """
    if not isinstance(features, sp.csr_matrix):
        return np.asarray(within_float32(features))
    rows, slots = features.shape
    if rows * slots > _MOST_CELLS:
        raise MemoryError(f"{rows:,} vectors of {slots:,} slots, most of them 0, are not spread out; use fewer slots, such as `hashing`")
    return np.asarray(within_float32(features.toarray()))


@dataclass(frozen=True)
class Strangeness:
    """A fitted model whose ``score_samples`` is the greater the less strange a row is, and what shares its figures stand for."""

    model: Any
    quantiles: Quantiles

    def predict(self, features: Matrix) -> np.ndarray:
        """Return (n, 2): one less the share of training rows that are less strange, and that share."""
        share = self.quantiles.share(-self.model.score_samples(spread_out(features)))
        return np.stack([1 - share, share], axis=1)

    def dump(self) -> bytes:
        """Return the model in the format of skops."""
        return dumped((self.model, self.quantiles.figures, self.quantiles.shares), 2)

    def gains(self) -> np.ndarray:
        """Return nothing: what a slot adds to strangeness is told by no split."""
        return np.zeros(0)


@dataclass(frozen=True)
class Outliers(Library):
    """What both share: the model is made, told of the rows, and its figures of them are kept as shares."""

    package: str
    module: str
    estimator: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    layout: Layout = "dense"

    @abstractmethod
    def model(self, setting: Setting) -> Any:
        """Return the model of scikit-learn, not fitted yet."""

    def fit(self, rows: Rows, setting: Setting) -> Strangeness:
        """Fit on one core; labels are not looked at."""
        features = rows.kept("spread out", lambda: spread_out(rows.features))
        with unconverged():
            model = self.model(setting).fit(features)
        return Strangeness(model, Quantiles.of(-model.score_samples(features[:MOST_ROWS])))

    def load(self, dump: bytes, task: str) -> Strangeness:
        """Return the model that ``dump`` wrote."""
        (model, figures, shares), _ = loaded(dump)
        return Strangeness(model, Quantiles(figures, shares))


class Isolation(Outliers):
    """Trees that split at random: the fewer splits set a row apart, the stranger it is.

    Source: Liu, Ting, Zhou: Isolation forest, ICDM 2008.
    """

    def model(self, setting: Setting) -> Any:
        """Return the forest; a tree sees no more rows than there are."""
        from sklearn.ensemble import IsolationForest

        return IsolationForest(random_state=setting.seed, n_jobs=1, **self.given(setting))

    def fit(self, rows: Rows, setting: Setting) -> Strangeness:
        """Fit on one core."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="max_samples")  # is bounded by the rows, as it says
            return super().fit(rows, setting)


class Mixture(Outliers):
    """A mixture of normal distributions: the less probable a row, the stranger it is (its negative log likelihood)."""

    def model(self, setting: Setting) -> Any:
        """Return the mixture; scaled numbers may all be the same within a component, so that its variances have a floor."""
        from sklearn.mixture import GaussianMixture

        return GaussianMixture(random_state=setting.seed, **{"reg_covar": 1e-3, **self.given(setting)})


ISOLATION = Isolation("scikit-learn", "sklearn.ensemble", "IsolationForest", layout="any")
MIXTURE = Mixture(
    "scikit-learn",
    "sklearn.mixture",
    "GaussianMixture",
    renamed={"k": "n_components", "maxIter": "max_iter", "covarianceType": "covariance_type", "regCovar": "reg_covar"},
    layout="any",
)
