"""What finds rows unlike the others, by scikit-learn: forests that isolate them, and mixtures that find them improbable."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from tidemill.training.tasks.boosting import Library
from tidemill.training.tasks.learner import Layout, Matrix, Rows, Setting, within_float32
from tidemill.training.tasks.linear import unconverged
from tidemill.training.tasks.skops_format import dumped, loaded
from tidemill.training.tasks.strangeness import MOST_ROWS, Quantiles

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
