"""What learners of boosted trees share: names of parameters, categories, and where their library is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from tidemill.training.tasks.learner import Layout, Rows, Scorer, Setting, is_installed

# More categories than this are taken as numbers by all three alike: bins are single bytes.
_MOST_CATEGORIES = 254


def nominal(rows: Rows) -> list[int]:
    """Return the slots that are taken as categories."""
    return [slot for slot, count in rows.nominal.items() if count <= _MOST_CATEGORIES]


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
    def load(self, dump: bytes, task: str) -> Scorer:
        """Return the model that ``dump`` wrote."""

    def given(self, setting: Setting) -> dict[str, Any]:
        """Return the parameters by the library's names."""
        return {self.renamed.get(name, name): value for name, value in setting.params.items()}
