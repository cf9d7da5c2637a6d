"""The spec as frozen pydantic models, one module per block; other packages import the models from here."""

from tidemill.families.space import FloatRange, IntRange, LogRange, Range, Scalar, Space
from tidemill.options import REFERENCE, Block, microseconds, seconds
from tidemill.spec.models.dataset import (
    Aggregate,
    AggregateMeasure,
    Dataset,
    Lookup,
    Split,
    column_name,
    column_names,
    parse_measure,
    parse_measures,
)
from tidemill.spec.models.expectations import Expectation
from tidemill.spec.models.features import FEATURE_GROUPS, Checks, DeclaredGroup, Features, Select
from tidemill.spec.models.pipeline import Drift, Pipeline
from tidemill.spec.models.search_space import PREFIX, CustomFamily, Threshold, Training, Tuner, value_problems, with_values
from tidemill.spec.models.source_kinds import SOURCE_KINDS
from tidemill.spec.models.sources import Source, Table
from tidemill.spec.models.text_stages import Clean, Ngrams, Sentences, Tfidf, Tokens

__all__ = [
    "FEATURE_GROUPS",
    "PREFIX",
    "REFERENCE",
    "SOURCE_KINDS",
    "Aggregate",
    "AggregateMeasure",
    "Block",
    "Checks",
    "Clean",
    "CustomFamily",
    "Dataset",
    "DeclaredGroup",
    "Drift",
    "Expectation",
    "Features",
    "FloatRange",
    "IntRange",
    "LogRange",
    "Lookup",
    "Ngrams",
    "Pipeline",
    "Range",
    "Scalar",
    "Select",
    "Sentences",
    "Source",
    "Space",
    "Split",
    "Table",
    "Tfidf",
    "Threshold",
    "Tokens",
    "Training",
    "Tuner",
    "column_name",
    "column_names",
    "microseconds",
    "parse_measure",
    "parse_measures",
    "seconds",
    "value_problems",
    "with_values",
]
