"""Checks of the columns that would become features: what they must not know, and what they lack, judged before any training."""

from tidemill.features.checks.findings import Finding
from tidemill.features.checks.judge import judge_features
from tidemill.features.checks.unreadable import count_unreadable

__all__ = ["Finding", "count_unreadable", "judge_features"]
