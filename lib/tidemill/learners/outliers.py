"""Anomaly detection by scikit-learn: isolation forests and Gaussian mixtures."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from tidemill.learners.base import Layout, Matrix, Rows, Setting, dump_skops, load_skops, within_float32
from tidemill.learners.boosting import Library
from tidemill.learners.linear_learners import ignore_convergence_warnings

# A sample of so many training rows, the first by the hash of their key, gives shares to within 0.1 %.
MAX_SCORED_ROWS = 100_000
_MAX_KNOTS = 4_000
_EXACT_TOP_KNOTS = 1_000


@dataclass(frozen=True)
class Quantiles:
    """Knots of the distribution of anomaly scores: ascending scores, and the share of training rows below each."""

    scores: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray) -> Quantiles:
        """Compute the quantiles of the scores of training rows: every distinct score, or, of many, a part that has all of the greatest.

        Raises:
            ValueError: a score is not finite.
        """
        if not np.isfinite(scores).all():
            raise ValueError("the strangeness of some training rows is no number; check the features for NaN or infinite values")
        distinct, counts = np.unique(scores, return_counts=True)
        shares = (np.cumsum(counts) - counts) / len(scores)
        last = len(distinct) - 1
        if last >= _MAX_KNOTS:
            even = np.linspace(0, last, _MAX_KNOTS - _EXACT_TOP_KNOTS).round().astype(int)
            knots = np.unique(np.concatenate([even, np.arange(last - _EXACT_TOP_KNOTS, last + 1)]))
            distinct, shares = distinct[knots], shares[knots]
        return cls(distinct, shares)

    def share(self, scores: np.ndarray) -> np.ndarray:
        """Return the share of training rows with a lower score, linear between knots.

        Above the greatest training score the share rises towards 1 without reaching it, so that higher scores still differ.
        """
        inside = np.interp(scores, self.scores, self.shares)
        greatest, top = self.scores[-1], self.shares[-1]
        width = (greatest - self.scores[0]) or 1.0
        excess = np.maximum(scores - greatest, 0.0) / width
        return np.asarray(np.where(scores > greatest, top + (1 - top) * excess / (1 + excess), inside))


# The most values of dense vectors in a task.
_MAX_DENSE_VALUES = 100_000_000


def to_dense(features: Matrix) -> np.ndarray:
    """Return dense vectors, clipped to the range of float32.

    Raises:
        MemoryError: the dense vectors would be too large.
    """
    if not isinstance(features, sp.csr_matrix):
        return np.asarray(within_float32(features))
    rows, slots = features.shape
    if rows * slots > _MAX_DENSE_VALUES:
        raise MemoryError(
            f"{rows:,} vectors of {slots:,} slots, most of them 0, are too large as dense vectors; use fewer slots, such as `hashing`"
        )
    return np.asarray(within_float32(features.toarray()))


@dataclass(frozen=True)
class AnomalyScorer:
    """A fitted model, whose ``score_samples`` is lower for anomalies, and the quantiles of its scores on training rows."""

    model: Any
    quantiles: Quantiles

    def predict(self, features: Matrix) -> np.ndarray:
        """Return (n, 2): for each row 1 - s and s, where s is the share of less anomalous training rows."""
        share = self.quantiles.share(-self.model.score_samples(to_dense(features)))
        return np.stack([1 - share, share], axis=1)

    def dump(self) -> bytes:
        """Return the model in the format of skops."""
        return dump_skops((self.model, self.quantiles.scores, self.quantiles.shares), 2)

    def gains(self) -> np.ndarray:
        """Return no gains: these models have none."""
        return np.zeros(0)


@dataclass(frozen=True)
class AnomalyLearner(Library):
    """A learner of anomalies: fits a model, and stores the quantiles of its scores on the training rows."""

    package: str
    module: str
    estimator: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    layout: Layout = "dense"

    @abstractmethod
    def build_model(self, setting: Setting) -> Any:
        """Return the unfitted model of scikit-learn."""

    def fit(self, rows: Rows, setting: Setting) -> AnomalyScorer:
        """Fit on one core, without labels."""
        features = rows.get_cached("spread out", lambda: to_dense(rows.features))
        with ignore_convergence_warnings():
            model = self.build_model(setting).fit(features)
        return AnomalyScorer(model, Quantiles.of(-model.score_samples(features[:MAX_SCORED_ROWS])))

    def load(self, dump: bytes, task: str) -> AnomalyScorer:
        """Read the model of a dump."""
        (model, scores, shares), _ = load_skops(dump)
        return AnomalyScorer(model, Quantiles(scores, shares))


class IsolationForestLearner(AnomalyLearner):
    """Isolation forest: the fewer random splits isolate a row, the more anomalous it is.

    Source: Liu, Ting, Zhou: Isolation forest, ICDM 2008.
    """

    def build_model(self, setting: Setting) -> Any:
        """Return the unfitted forest."""
        from sklearn.ensemble import IsolationForest

        return IsolationForest(random_state=setting.seed, n_jobs=1, **self.library_params(setting))

    def fit(self, rows: Rows, setting: Setting) -> AnomalyScorer:
        """Fit on one core."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="max_samples")  # scikit-learn lowers it to the number of rows
            return super().fit(rows, setting)


class GaussianMixtureLearner(AnomalyLearner):
    """Gaussian mixture: the score of a row is its negative log likelihood."""

    def build_model(self, setting: Setting) -> Any:
        """Return the unfitted mixture; variances have a floor, since scaled numbers may be constant within a component."""
        from sklearn.mixture import GaussianMixture

        return GaussianMixture(random_state=setting.seed, **{"reg_covar": 1e-3, **self.library_params(setting)})


ISOLATION = IsolationForestLearner("scikit-learn", "sklearn.ensemble", "IsolationForest", layout="any")
MIXTURE = GaussianMixtureLearner(
    "scikit-learn",
    "sklearn.mixture",
    "GaussianMixture",
    renamed={"k": "n_components", "maxIter": "max_iter", "covarianceType": "covariance_type", "regCovar": "reg_covar"},
    layout="any",
)
