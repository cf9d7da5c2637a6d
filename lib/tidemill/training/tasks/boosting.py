"""Boosted trees on one machine: scikit-learn's, XGBoost's and LightGBM's, on histograms, each with its own parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np

from tidemill.training.tasks.kept import kept
from tidemill.training.tasks.learner import Layout, Rows, Scorer, Setting, is_installed

# More categories than this are taken as numbers by all three alike: bins are single bytes.
_MOST_CATEGORIES = 254


def _nominal(rows: Rows) -> list[int]:
    return [slot for slot, count in rows.nominal.items() if count <= _MOST_CATEGORIES]


def _spread(found: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the probabilities with a column for each class, also for one that no row had."""
    if found.shape[1] == n_classes:
        return found
    whole = np.zeros((len(found), n_classes))
    whole[:, classes.astype(int)] = found
    return whole


@cache
def _parameters(module: str, name: str) -> frozenset[str]:
    return frozenset(getattr(import_module(module), name)().get_params())


@dataclass(frozen=True)
class Boosting(ABC):
    """What the three share: how parameters of a spec are named, and which are a library's own."""

    package: str
    module: str
    estimator: str
    renamed: Mapping[str, str] = field(default_factory=dict)  # a spec's name → the library's; empty: the spec's names are the library's
    layout: Layout = "dense"

    def names(self) -> frozenset[str]:
        """Return the parameters that a spec may name."""
        return frozenset(self.renamed) or _parameters(self.module, self.estimator)

    def refused(self, names: Mapping[str, object], task: str) -> list[str]:
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
    def load(self, dumped: bytes, task: str) -> Scorer:
        """Return the model that ``dump`` wrote."""

    def given(self, setting: Setting) -> dict[str, Any]:
        """Return the parameters by the library's names."""
        return {self.renamed.get(name, name): value for name, value in setting.params.items()}


class Histogram(Boosting):
    """scikit-learn's histogram boosting; kept in the format of skops."""

    def fit(self, rows: Rows, setting: Setting) -> HistogramScorer:
        """Fit on one core."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if setting.task == "regression" else HistGradientBoostingClassifier
        given = {"early_stopping": False, "categorical_features": _nominal(rows), **self.given(setting)}
        if "max_bins" in given:
            given["max_bins"] = min(int(given["max_bins"]), 255)
        if self.renamed and "max_depth" in given:
            given["max_leaf_nodes"] = None  # depth alone bounds the trees of MLlib
        model = kind(random_state=setting.seed, **given).fit(rows.features, rows.labels, rows.weights)
        return HistogramScorer(model, setting.task, setting.n_classes)

    def load(self, dumped: bytes, task: str) -> HistogramScorer:
        """Return the model that ``dump`` wrote; nothing but scikit-learn's and numpy's own types is made of it."""
        from skops import io

        found = io.get_untrusted_types(data=dumped)
        own = [name for name in found if name.partition(".")[0] in ("sklearn", "numpy") or name == "functools.partial"]
        model, n_classes = io.loads(dumped, trusted=own)
        return HistogramScorer(model, task, n_classes)


@dataclass(frozen=True)
class HistogramScorer:
    """A fitted model of scikit-learn's."""

    model: Any
    task: str
    n_classes: int

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, of the first ``rounds`` alone where they are given."""
        model = self.model
        if self.task == "regression":
            stages: Iterable[np.ndarray] = model.staged_predict(features) if rounds else [model.predict(features)]
            return np.asarray(next(islice(stages, (rounds or 1) - 1, None)))
        stages = model.staged_predict_proba(features) if rounds else [model.predict_proba(features)]
        return _spread(np.asarray(next(islice(stages, (rounds or 1) - 1, None))), model.classes_, self.n_classes)

    def dump(self) -> bytes:
        """Return the model in the format of skops."""
        from skops import io

        return bytes(io.dumps((self.model, self.n_classes)))

    def gains(self) -> np.ndarray:
        """Return what each slot gained in all splits by it; scikit-learn keeps that in its trees."""
        found = np.zeros(self.model.n_features_in_)
        for trees in self.model._predictors:
            for tree in trees:
                splits = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(found, splits["feature_idx"], splits["gain"])
        return found


class XGBoost(Boosting):
    """XGBoost by histograms; kept in its own binary JSON."""

    def fit(self, rows: Rows, setting: Setting) -> XGBoostScorer:
        """Fit on one core; bins are made once for all fits on the same rows."""
        import xgboost

        given = self.given(setting)
        rounds, bins = int(given.pop("n_estimators", 100)), int(given.pop("max_bin", 256))
        types = _feature_types(rows)

        def binned() -> Any:
            kinds = {"feature_types": types, "enable_categorical": True, "max_bin": bins, "nthread": 1}
            return xgboost.QuantileDMatrix(rows.features, rows.labels, weight=rows.weights, **kinds)

        objective = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}[setting.task]
        own = {"objective": objective, "seed": setting.seed, "nthread": 1, "tree_method": "hist", "max_bin": bins, "verbosity": 0}
        classes = {"num_class": setting.n_classes} if setting.task == "multiclass" else {}
        booster = xgboost.train({**own, **classes, **given}, kept(f"{rows.key}/xgboost/{bins}" if rows.key else "", binned), rounds)
        return XGBoostScorer(booster, setting.task)

    def load(self, dumped: bytes, task: str) -> XGBoostScorer:
        """Return the model that ``dump`` wrote."""
        import xgboost

        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(dumped))
        return XGBoostScorer(booster, task)


@dataclass(frozen=True)
class XGBoostScorer:
    """A fitted model of XGBoost's."""

    model: Any
    task: str

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, of the first ``rounds`` alone where they are given."""
        import xgboost

        matrix = xgboost.DMatrix(features, feature_types=self.model.feature_types, enable_categorical=True, nthread=1)
        found = self.model.predict(matrix, iteration_range=(0, rounds or 0)).astype(np.float64)
        return np.column_stack([1 - found, found]) if self.task == "binary" else found

    def dump(self) -> bytes:
        """Return the model in XGBoost's own format."""
        return bytes(self.model.save_raw("ubj"))

    def gains(self) -> np.ndarray:
        """Return what each slot gained in all splits by it."""
        found = np.zeros(self.model.num_features())
        for name, gain in self.model.get_score(importance_type="total_gain").items():
            found[int(name.removeprefix("f"))] = gain
        return found


def _feature_types(rows: Rows) -> list[str]:
    nominal = set(_nominal(rows))
    return ["c" if slot in nominal else "q" for slot in range(rows.features.shape[1])]


class LightGBM(Boosting):
    """LightGBM; kept as its own text."""

    def fit(self, rows: Rows, setting: Setting) -> LightGBMScorer:
        """Fit on one core; bins are made once for all fits on the same rows."""
        import lightgbm

        given = self.given(setting)
        rounds, bins, least = int(given.pop("n_estimators", 100)), int(given.pop("max_bin", 255)), given.get("min_child_samples", 20)
        alike = {"max_bin": bins, "min_data_in_leaf": least, "num_threads": 1, "verbosity": -1, "feature_pre_filter": False}

        def binned() -> Any:
            return lightgbm.Dataset(
                rows.features, rows.labels, weight=rows.weights, categorical_feature=_nominal(rows), params=alike, free_raw_data=False
            ).construct()

        objective = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}[setting.task]
        own = {"objective": objective, "seed": setting.seed, "deterministic": True, "force_row_wise": True}
        classes = {"num_class": setting.n_classes} if setting.task == "multiclass" else {}
        data = kept(f"{rows.key}/lightgbm/{bins}" if rows.key else "", binned)
        return LightGBMScorer(lightgbm.train({**alike, **own, **classes, **given}, data, rounds), setting.task)

    def load(self, dumped: bytes, task: str) -> LightGBMScorer:
        """Return the model that ``dump`` wrote."""
        import lightgbm

        return LightGBMScorer(lightgbm.Booster(model_str=dumped.decode()), task)


@dataclass(frozen=True)
class LightGBMScorer:
    """A fitted model of LightGBM's."""

    model: Any
    task: str

    def predict(self, features: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Return values or probabilities, of the first ``rounds`` alone where they are given."""
        found = np.asarray(self.model.predict(features, num_iteration=rounds, num_threads=1))
        return np.column_stack([1 - found, found]) if self.task == "binary" else found

    def dump(self) -> bytes:
        """Return the model as LightGBM's text."""
        return str(self.model.model_to_string()).encode()

    def gains(self) -> np.ndarray:
        """Return what each slot gained in all splits by it."""
        return np.asarray(self.model.feature_importance("gain"), dtype=np.float64)


BOOSTED_TREES = Histogram(
    "scikit-learn",
    "sklearn.ensemble",
    "HistGradientBoostingClassifier",
    renamed={
        "maxIter": "max_iter",
        "maxDepth": "max_depth",
        "stepSize": "learning_rate",
        "minInstancesPerNode": "min_samples_leaf",
        "maxBins": "max_bins",
    },
)
HISTOGRAM = Histogram("scikit-learn", "sklearn.ensemble", "HistGradientBoostingClassifier")
XGBOOST = XGBoost("xgboost", "xgboost", "XGBClassifier")
LIGHTGBM = LightGBM("lightgbm", "lightgbm", "LGBMClassifier")
