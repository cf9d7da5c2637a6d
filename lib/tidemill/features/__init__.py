"""Features: the columns of a spec's ``features`` block as stages of MLlib, and the way back from a slot to its raw column."""

from tidemill.features.estimator import FeatureEstimator, feature_pipeline
from tidemill.features.model import FeatureModel
from tidemill.features.plan import FeaturePlan, plan_features, reserved_columns
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
