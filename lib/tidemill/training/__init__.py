"""Training: model families and their spaces, the tuner, prefix-sharing cross-validation, and the refit of what it chose."""

from tidemill.training.families import FAMILIES, Family, search_spaces
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.search import Search, search
from tidemill.training.selection import SearchResult, TrialFold
from tidemill.training.tuner import Trial, plan_trials

__all__ = [
    "FAMILIES",
    "Family",
    "Problem",
    "Search",
    "SearchResult",
    "Trial",
    "TrialFold",
    "plan_trials",
    "refit",
    "search",
    "search_spaces",
]
