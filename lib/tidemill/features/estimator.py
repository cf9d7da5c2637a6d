"""The estimator of the features: two aggregates over the training rows become MLlib stages that load anywhere.

What it learns ends up in stages of MLlib's own, so that a saved model needs nothing of tidemill. They are few, since each costs a job or
two whenever a model is saved or loaded: one for casts, imputation and scaling, one for all category indices, one for all one-hot vectors,
one for each feature vector, and one that drops the columns made on the way.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.ml import Estimator, PipelineModel, Transformer
from pyspark.ml.feature import SQLTransformer, VectorAssembler
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.features.categories import fit_labels, fit_one_hot, label_column
from tidemill.features.custom import fit_custom
from tidemill.features.names import category_sql, internal
from tidemill.features.plan import FeaturePlan
from tidemill.features.scalars import fit_slots, scalars
from tidemill.features.text import FittedTexts, fit_texts
from tidemill.lake.names import quoted

ENCODINGS = ("linear", "tree", "positive")


class FeatureEstimator(Estimator[PipelineModel]):
    """Learns imputation, scaling and categories from the frame it is fitted on.

    The fitted PipelineModel adds ``features_linear`` (scaled numbers, parts of instants as sine and cosine, one-hot categories, texts),
    ``features_tree`` (numbers and parts as they are, categories as nominal indices, of texts the terms that most documents have) and
    ``features_positive`` (as linear, with numbers between 0 and 1), as asked for. It keeps every row and column; null and unseen values
    are imputed, or fall into the slot of all other values.
    """

    def __init__(self, plan: FeaturePlan, encodings: Collection[str]) -> None:
        """Take the columns from ``plan``; ``encodings`` are some of ``linear``, ``tree`` and ``positive``."""
        super().__init__()
        self.plan = plan
        self.encodings = [encoding for encoding in ENCODINGS if encoding in encodings]

    def _fit(self, dataset: DataFrame) -> PipelineModel:
        """Learn from ``dataset``, which is read twice: for the numbers and for the categories."""
        custom, dataset = fit_custom(self.plan.custom, dataset)
        numbers = scalars(self.plan, dataset.schema)
        casts = {scalar.column: scalar.sql for scalar in numbers} | self._labels()
        cast = dataset.select(*[F.expr(sql).alias(column) for column, sql in casts.items()])
        slots = fit_slots(self.plan, numbers, cast, self.encodings)
        computed = {column: sql for by_column in slots.values() for column, sql in by_column.items()} | dict(custom.slots)
        stages: list[Transformer] = [*custom.stages, _selecting(casts, computed)]
        made = [*casts, *computed, *custom.added]
        encoded, columns = self._fit_categories(cast)
        stages += encoded
        texts = self._fit_texts(dataset)
        stages += texts.stages
        for encoding in self.encodings:
            words = texts.slices if encoding == "tree" else texts.vectors
            inputs = [*slots[encoding], *self._category_columns(encoding), *words, *custom.slots, *custom.vectors]
            stages.append(VectorAssembler(inputCols=inputs, outputCol=f"features_{encoding}", handleInvalid="keep"))
        dropped = [*made, *columns, *texts.made]
        stages.append(_finishing(dropped, [encoding for encoding in self.encodings if texts.vectors and encoding != "tree"]))
        return PipelineModel(stages)

    def _fit_texts(self, dataset: DataFrame) -> FittedTexts:
        if self.plan.text is None:
            return FittedTexts()
        return fit_texts(dataset, self.plan.text, for_trees="tree" in self.encodings)

    @property
    def _names(self) -> list[str]:
        return list(self.plan.categorical.columns) if self.plan.categorical else []

    def _style(self, encoding: str) -> str:
        """Return how the encoding takes categories: onehot or index."""
        encode = self.plan.categorical.encode if self.plan.categorical else "auto"
        return {"linear": "onehot", "tree": "index", "positive": "onehot"}[encoding] if encode == "auto" else encode

    @property
    def _styles(self) -> list[str]:
        return sorted({self._style(encoding) for encoding in self.encodings})

    def _labels(self) -> dict[str, str]:
        return {label_column(style, name): category_sql(name) for style in self._styles for name in self._names}

    def _category_columns(self, encoding: str) -> list[str]:
        role = "hot" if self._style(encoding) == "onehot" else "index"
        return [internal(role, name) for name in self._names]

    def _fit_categories(self, cast: DataFrame) -> tuple[list[Transformer], list[str]]:
        """Return the stages that encode categories and the columns they add."""
        if self.plan.categorical is None:
            return [], []
        indexer = fit_labels(cast, self._names, self._styles, self.plan.categorical.min_frequency)
        columns = [internal(style, name) for style in self._styles for name in self._names]
        if "onehot" not in self._styles:
            return [indexer], columns
        return [indexer, fit_one_hot(cast, self._names, indexer)], columns + [internal("hot", name) for name in self._names]


def feature_pipeline(plan: FeaturePlan, encodings: Collection[str]) -> FeatureEstimator:
    """Return the estimator of the planned features; its ``fit`` gives a PipelineModel of MLlib's own stages."""
    return FeatureEstimator(plan, encodings)


def _selecting(casts: dict[str, str], slots: dict[str, str]) -> SQLTransformer:
    """Return the stage that adds ``casts``, and ``slots`` computed from them."""

    def listed(columns: dict[str, str]) -> str:
        return "".join(f", {sql} AS {quoted(column)}" for column, sql in columns.items())

    inner = f"SELECT *{listed(casts)} FROM __THIS__"
    return SQLTransformer(statement=f"SELECT *{listed(slots)} FROM ({inner})" if slots else inner)


def _finishing(dropped: list[str], unnamed: list[str]) -> SQLTransformer:
    """Return the stage that drops columns; the vectors of ``unnamed`` encodings lose MLlib's name for each slot, which are many."""
    vectors = [f"features_{encoding}" for encoding in unnamed]
    listed = ", ".join(quoted(column) for column in [*dropped, *vectors])
    # An expression, and be it one of nothing, does not hand its input's metadata on.
    bare = "".join(f", coalesce({vector}) AS {vector}" for vector in vectors)
    return SQLTransformer(statement=f"SELECT * EXCEPT ({listed}){bare} FROM __THIS__")
