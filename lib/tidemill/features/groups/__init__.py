"""Feature groups: one file per kind of block under `features`, found by name in `tidemill.spec.models.FEATURE_GROUPS`.

Enters: the blocks of a spec and the facts of the raw columns. Leaves: `Contribution`s, which the estimator fits.
Adding a group means adding its file here and its line to the registry. A group of your own is a class that inherits `FeatureGroup`, named
under `features` by its dotted path or by an entry point of the group ``tidemill.feature_groups``. Nothing here imports Spark at import
time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tidemill.spec.models  # noqa: F401 - the models of the spec import the groups, and so have to come first
from tidemill.features.contributions import (
    BucketedColumn,
    Category,
    ColumnFacts,
    Contribution,
    FittedVectors,
    Scalar,
    VectorColumns,
    VectorFit,
    WordList,
)
from tidemill.runtime.lazy_exports import export_lazily

if TYPE_CHECKING:
    from tidemill.features.groups.array import Array
    from tidemill.features.groups.boolean import Boolean
    from tidemill.features.groups.buckets import Buckets
    from tidemill.features.groups.categorical import Categorical
    from tidemill.features.groups.custom import PythonPart
    from tidemill.features.groups.datetime import Datetime
    from tidemill.features.groups.feature_group import ColumnBlock, FeatureGroup, RowFacts
    from tidemill.features.groups.hashing import Hashing
    from tidemill.features.groups.interactions import Interactions
    from tidemill.features.groups.numeric import Numeric
    from tidemill.features.groups.pca import Pca
    from tidemill.features.groups.polynomial import Polynomial
    from tidemill.features.groups.text import Text

__all__ = [
    "Array",
    "Boolean",
    "BucketedColumn",
    "Buckets",
    "Categorical",
    "Category",
    "ColumnBlock",
    "ColumnFacts",
    "Contribution",
    "Datetime",
    "FeatureGroup",
    "FittedVectors",
    "Hashing",
    "Interactions",
    "Numeric",
    "Pca",
    "Polynomial",
    "PythonPart",
    "RowFacts",
    "Scalar",
    "Text",
    "VectorColumns",
    "VectorFit",
    "WordList",
]

__getattr__ = export_lazily(
    __name__,
    {
        "array": ("Array",),
        "boolean": ("Boolean",),
        "buckets": ("Buckets",),
        "categorical": ("Categorical",),
        "custom": ("PythonPart",),
        "datetime": ("Datetime",),
        "feature_group": ("ColumnBlock", "FeatureGroup", "RowFacts"),
        "hashing": ("Hashing",),
        "interactions": ("Interactions",),
        "numeric": ("Numeric",),
        "pca": ("Pca",),
        "polynomial": ("Polynomial",),
        "text": ("Text",),
    },
)
