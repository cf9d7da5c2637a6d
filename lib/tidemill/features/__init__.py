"""Features: the spec's `features` block as MLlib stages, and the mapping from slots back to raw columns.

Enters: the dataset's training rows and the declared feature groups. Leaves: a fitted `FeatureModel`, which adds feature vectors. The
stages and their aggregates may change inside; the names of slots may not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.runtime.lazy_exports import export_lazily

if TYPE_CHECKING:
    from tidemill.features.column_facts import reserved_columns
    from tidemill.features.estimator import FeatureEstimator, feature_pipeline
    from tidemill.features.model import FeatureModel
    from tidemill.features.plan import FeaturePlan, plan_features
    from tidemill.features.slots import max_categories, nominal_slots, slot_names


__all__ = [
    "FeatureEstimator",
    "FeatureModel",
    "FeaturePlan",
    "feature_pipeline",
    "max_categories",
    "nominal_slots",
    "plan_features",
    "reserved_columns",
    "slot_names",
]

__getattr__ = export_lazily(
    __name__,
    {
        "estimator": ("FeatureEstimator", "feature_pipeline"),
        "model": ("FeatureModel",),
        "column_facts": ("reserved_columns",),
        "plan": ("FeaturePlan", "plan_features"),
        "slots": ("max_categories", "nominal_slots", "slot_names"),
    },
)
