"""Checks of the columns that would become features, before any training: leakage, constants, duplicates, nulls, unreadable text."""

from tidemill.features.checks.feature_checks import run_feature_checks
from tidemill.features.checks.findings import Finding
from tidemill.features.checks.unreadable import count_unreadable

__all__ = ["Finding", "count_unreadable", "run_feature_checks"]
