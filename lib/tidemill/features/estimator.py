"""The feature estimator: a few aggregates over the training rows become MLlib stages that load without tidemill.

A saved model consists of MLlib's own stages. There are few of them, since each costs a job or two whenever a model is saved or loaded:
one for casts, imputation and scaling, one for all category indices, one for all one-hot vectors, one per feature vector, and one that drops
the intermediate columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from itertools import chain
from typing import TypeVar

from pyspark.ml import Estimator
from pyspark.ml.feature import SQLTransformer, VectorAssembler, VectorSlicer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.features.categories import CategoryFit, cross_categories, fit_categories, list_counted_columns, style_categories
from tidemill.features.column_facts import column_facts
from tidemill.features.contributions import Contribution, FittedVectors, VectorFit
from tidemill.features.counts import LABEL, CountedColumn, Label, Totals, ValueCounts, count_values, has_few_counts, label_of
from tidemill.features.custom import fit_custom
from tidemill.features.fit_cache import FitCache, Sample
from tidemill.features.model import Draft, FeatureModel
from tidemill.features.names import PART, internal_name
from tidemill.features.number_slots import NumberSlots, fit_number_slots
from tidemill.features.plan import FeaturePlan
from tidemill.features.selection import select_slots
from tidemill.features.slots import slots_of
from tidemill.features.word_lists import fit_word_lists
from tidemill.quoting import quote_name

ENCODINGS = ("linear", "tree", "positive")
Learnt = TypeVar("Learnt")


class FeatureEstimator(Estimator[FeatureModel]):
    """Fits imputation, scaling, categories and the other parts of the plan.

    The fitted model adds ``features_linear`` (scaled numbers, parts of instants as sine and cosine, one-hot categories, texts),
    ``features_tree`` (numbers and parts as they are, categories as nominal indices, for texts the terms that most documents have) and
    ``features_positive`` (as linear, with numbers between 0 and 1), as requested. It keeps every row and column; null and unseen values
    are imputed, or use the slot of all other values.

    If the plan learns from the label, the frame has the column ``label``, and for label means ``_part`` INT: the part of the training rows
    that a row belongs to; the row's means do not use that part's labels.
    """

    def __init__(self, plan: FeaturePlan, encodings: Collection[str], cache: FitCache | None = None) -> None:
        """Take the columns from ``plan``; ``encodings`` are some of ``linear``, ``tree`` and ``positive``.

        ``cache`` holds what was learnt from the same rows for other plans or encodings.
        """
        super().__init__()
        self.plan, self.cache = plan, cache or FitCache()
        self.encodings = [encoding for encoding in ENCODINGS if encoding in encodings]
        self._learnt_for = [encoding for encoding in ENCODINGS if encoding in {*encodings, *self.cache.encodings}]
        self._custom_key = repr(plan.custom)

    def _fit(self, dataset: DataFrame) -> FeatureModel:
        """Fit on ``dataset``, which is read once for the numbers and once for the values of categories and lists."""
        label = label_of(dataset, self.plan.classes) if self.plan.needs_label else None
        parts = self.plan.contribution(column_facts(dataset.schema, self.plan.sizes))
        custom, rows = self._learn_once("custom", lambda: fit_custom(self.plan.custom, dataset))
        styled, counted_for = (style_categories(parts.categories, encodings) for encodings in (self.encodings, self._learnt_for))
        casts = {scalar.column: scalar.sql for scalar in parts.scalars} | {each.column: each.sql for each in styled}
        casts |= {each.column: each.sql for each in parts.word_lists} | dict(parts.casts)
        learnt_from = casts | {each.column: each.sql for each in counted_for}
        sample = self._sample(rows, learnt_from)
        slots = fit_number_slots(parts, sample, self.encodings, self._learnt_for, self._custom_key)
        slots.computed.update(custom.slots)
        draft = Draft()
        draft.extend(custom.stages, custom.added)
        draft.add(_select_slots(casts, slots), [*casts, *slots.computed, *slots.products])

        counted_columns = list_counted_columns(counted_for)
        words = {each.column: CountedColumn(each.column, is_list=True) for each in parts.word_lists if not each.is_hashed}
        counts, totals = self._count(sample, learnt_from, {**counted_columns, **words}, label)
        encoded = fit_categories(CategoryFit(styled, counts, totals, self.encodings), sample.rows, draft)
        for encoding, stage in cross_categories(parts.crossed, self.encodings):
            draft.add(stage, [stage.getOutputCol()])
            encoded[encoding].append(stage.getOutputCol())
        fitted = self._fit_vectors(parts, counts, draft, rows, dataset)
        for encoding in self.encodings:
            vectors = fitted.tree_vectors if encoding == "tree" else fitted.vectors
            inputs = [*slots.assembled[encoding], *encoded[encoding], *vectors, *custom.slots, *custom.vectors]
            self._assemble(encoding, inputs, draft, dataset, label)
        draft.add(_finish(draft.added, [encoding for encoding in self.encodings if fitted.has_many_slots and encoding != "tree"]))
        return draft.model()

    def _learn_once(self, key: Hashable, learn: Callable[[], Learnt]) -> Learnt:
        return self.cache.get((key, self._custom_key), learn)

    def _sample(self, rows: DataFrame, casts: dict[str, str]) -> Sample:
        """Return the columns to learn from: of these rows, and of all rows if all folds are learnt at once."""
        carried = [name for name in (LABEL, PART) if name in rows.columns]
        selected = [*[F.expr(sql).alias(column) for column, sql in casts.items()], *map(F.col, carried)]
        # A custom stage adds different values in each fold.
        statistics = None if self.plan.custom else self.cache.statistics
        return Sample(rows.select(*selected), self.cache, statistics.rows.select(*selected, "fold") if statistics else None)

    def _count(
        self, sample: Sample, casts: dict[str, str], counted_columns: dict[str, CountedColumn], label: Label | None
    ) -> tuple[dict[str, ValueCounts], Totals]:
        """Return the counts of each column by its key, in one aggregate, and those of all rows."""
        columns = list(counted_columns.values())
        key = ("counts", repr(columns), repr([casts[each.name] for each in columns]))
        if sample.all_rows is not None and self.cache.statistics and not has_few_counts(columns, label, self.cache.statistics.sets):
            sample = Sample(sample.rows, self.cache)
        counts, totals = self._learn_once(key, lambda: sample.learn(key, lambda rows, within: count_values(rows, columns, label, within)))
        return dict(zip(counted_columns, counts, strict=True)), totals

    def _fit_vectors(
        self, parts: Contribution, counts: dict[str, ValueCounts], draft: Draft, rows: DataFrame, dataset: DataFrame
    ) -> FittedVectors:
        """Add the stages of word lists and of the groups' vectors; return their columns."""
        for_trees = "tree" in self.encodings
        fit = VectorFit(rows, lambda: draft.transform(dataset), for_trees, self._learn_once)
        all_fitted = FittedVectors()
        word_lists = fit_word_lists(parts.word_lists, counts, for_trees=for_trees)
        for fitted in chain([word_lists], (each.fit(fit) for each in parts.vectors)):  # each sees the columns of those before it
            draft.extend(fitted.stages, fitted.added)
            all_fitted.vectors += fitted.vectors
            all_fitted.tree_vectors += fitted.tree_vectors
            all_fitted.has_many_slots |= fitted.has_many_slots and bool(fitted.vectors)
        return all_fitted

    def _assemble(self, encoding: str, inputs: Sequence[str], draft: Draft, dataset: DataFrame, label: Label | None) -> None:
        """Add the stage that assembles the vector and, with feature selection, the one that selects its slots."""
        if not inputs:
            raise StepError("features: no column has a slot in the training rows; lower `min_frequency`, or name other columns")
        output, select = f"features_{encoding}", self.plan.select
        if select is None or label is None:
            draft.add(VectorAssembler(inputCols=list(inputs), outputCol=output, handleInvalid="keep"))
            return
        whole = internal_name("all", encoding)
        draft.add(VectorAssembler(inputCols=list(inputs), outputCol=whole, handleInvalid="keep"), [whole])
        places = select_slots(draft.transform(dataset).select(LABEL, whole), whole, slots_of(draft.model(), whole), select, label)
        draft.add(VectorSlicer(inputCol=whole, outputCol=output, indices=places))


def feature_pipeline(plan: FeaturePlan, encodings: Collection[str], cache: FitCache | None = None) -> FeatureEstimator:
    """Return the estimator of a plan; its ``fit`` returns a PipelineModel of MLlib stages."""
    return FeatureEstimator(plan, encodings, cache)


def _select_slots(casts: dict[str, str], slots: NumberSlots) -> SQLTransformer:
    """Return the stage that adds ``casts``, the slots computed from them, and the products of slots."""
    statement = "__THIS__"
    for columns in (casts, slots.computed, slots.products):
        if columns:
            listed = "".join(f", {sql} AS {quote_name(column)}" for column, sql in columns.items())
            statement = f"(SELECT *{listed} FROM {statement})"
    return SQLTransformer(statement=statement[1:-1] if statement.startswith("(") else "SELECT * FROM __THIS__")


def _finish(dropped: Sequence[str], unnamed: Sequence[str]) -> SQLTransformer:
    """Return the stage that drops columns; vectors of ``unnamed`` encodings, which have many slots, lose MLlib's slot names."""
    vectors = [f"features_{encoding}" for encoding in unnamed]
    listed = ", ".join(quote_name(column) for column in [*dict.fromkeys(dropped), *vectors])
    # Any expression drops its input's metadata.
    bare = "".join(f", coalesce({vector}) AS {vector}" for vector in vectors)
    return SQLTransformer(statement=f"SELECT * EXCEPT ({listed}){bare} FROM __THIS__" if listed else "SELECT * FROM __THIS__")
