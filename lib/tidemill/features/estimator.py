"""The estimator of the features: a few aggregates over the training rows become MLlib stages that load anywhere.

What it learns ends up in stages of MLlib's own, so that a saved model needs nothing of tidemill. They are few, since each costs a job or
two whenever a model is saved or loaded: one for casts, imputation and scaling, one for all category indices, one for all one-hot vectors,
one for each feature vector, and one that drops the columns made on the way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pyspark.ml import Estimator
from pyspark.ml.feature import SQLTransformer, VectorAssembler, VectorSlicer
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.features.categories import categories, fit_categories, multiplied, styled, subjects
from tidemill.features.components import add_shared_hashes, fit_components, shared_casts
from tidemill.features.counts import LABEL, Label, count_values, is_small, label_of
from tidemill.features.custom import fit_custom
from tidemill.features.fit_cache import Memo, Sample
from tidemill.features.lists import fit_words, words
from tidemill.features.model import Draft, FeatureModel
from tidemill.features.names import PART, internal
from tidemill.features.plan import FeaturePlan
from tidemill.features.scalars import Slots, fit_slots, products, scalars
from tidemill.features.selection import chosen_slots
from tidemill.features.slots import slots_of
from tidemill.features.text import FittedTexts, fit_texts
from tidemill.quoting import quoted
from tidemill.spec.models import Text

ENCODINGS = ("linear", "tree", "positive")


class FeatureEstimator(Estimator[FeatureModel]):
    """Learns imputation, scaling, categories, and what else the plan asks for, from the frame it is fitted on.

    The fitted model adds ``features_linear`` (scaled numbers, parts of instants as sine and cosine, one-hot categories, texts),
    ``features_tree`` (numbers and parts as they are, categories as nominal indices, of texts the terms that most documents have) and
    ``features_positive`` (as linear, with numbers between 0 and 1), as asked for. It keeps every row and column; null and unseen values
    are imputed, or fall into the slot of all other values.

    Where the plan learns from the label, the frame has it as ``label``, and for means of it ``_part`` INT: the part of the training rows
    that a row lies in, whose labels it is not shown.
    """

    def __init__(self, plan: FeaturePlan, encodings: Collection[str], memo: Memo | None = None) -> None:
        """Take the columns from ``plan``; ``encodings`` are some of ``linear``, ``tree`` and ``positive``.

        ``memo`` holds what has been learnt of the same rows for other plans, or for more encodings.
        """
        super().__init__()
        self.plan, self.memo = plan, memo or Memo()
        self.encodings = [encoding for encoding in ENCODINGS if encoding in encodings]
        self._learnt_for = [encoding for encoding in ENCODINGS if encoding in {*encodings, *self.memo.encodings}]

    def _fit(self, dataset: DataFrame) -> FeatureModel:
        """Learn from ``dataset``, which is read once for the numbers and once for the values of categories and lists."""
        plan, schema, given = self.plan, dataset.schema, dataset
        label = label_of(given, plan.classes) if plan.needs_label else None
        custom, dataset = self.memo.one(("custom", repr(plan.custom)), lambda: fit_custom(plan.custom, given))
        numbers, listed = scalars(plan, schema), words(plan, schema)
        coded, counted_for = (styled(categories(plan, schema), encodings) for encodings in (self.encodings, self._learnt_for))
        casts = {scalar.column: scalar.sql for scalar in numbers} | {each.column: each.sql for each in coded}
        casts |= {each.column: each.sql for each in listed} | shared_casts(plan)
        looked_at = casts | {each.column: each.sql for each in counted_for}
        carried = [name for name in (LABEL, PART) if name in dataset.columns]
        selected: list[Column | str] = [*[F.expr(sql).alias(column) for column, sql in looked_at.items()], *carried]
        cast = dataset.select(*selected)
        # What a stage of the user's own adds is another column in each fold.
        together = None if plan.custom else self.memo.together
        sample = Sample(cast, self.memo, together.rows.select(*selected, "fold") if together else None)
        slots = fit_slots(plan, numbers, sample, self.encodings, self._learnt_for, products(plan, schema))
        slots.computed.update(custom.slots)
        draft = Draft()
        draft.extend(custom.stages, custom.added)
        draft.add(_selecting(casts, slots), [*casts, *slots.computed, *slots.products])

        asked = subjects(counted_for)
        learnt = [each for each in listed if not each.is_hashed]
        wanted = [*asked.values(), *(each.subject for each in learnt)]
        key = ("counts", repr(plan.custom), repr(wanted), repr([looked_at[each.name] for each in wanted]))
        if together and not is_small(wanted, label, together.sets):
            sample = Sample(cast, self.memo)
        counts, totals = self.memo.one(key, lambda: sample.learnt(key, lambda rows, within: count_values(rows, wanted, label, within)))
        counted = dict(zip([*asked, *(each.column for each in learnt)], counts, strict=True))
        encoded = fit_categories(coded, counted, cast, self.encodings, totals, draft)
        for encoding, stage in multiplied(plan, schema, self.encodings):
            draft.add(stage, [stage.getOutputCol()])
            encoded[encoding].append(stage.getOutputCol())
        bags = fit_words(listed, counted, for_trees="tree" in self.encodings)
        draft.extend(bags.stages, bags.made)
        texts = [self._texts(dataset, block) for block in plan.blocks("text")]
        for each in texts:
            draft.extend(each.stages, each.made)
        shared = [*add_shared_hashes(plan, draft), *fit_components(plan, draft, given)]
        for encoding in self.encodings:
            is_tree = encoding == "tree"
            prose = [name for each in texts for name in (each.slices if is_tree else each.vectors)]
            bagged = [*(bags.slices if is_tree else bags.vectors), *prose]
            inputs = [*slots.assembled[encoding], *encoded[encoding], *bagged, *shared, *custom.slots, *custom.vectors]
            self._assemble(encoding, inputs, draft, given, label)
        is_worded = bool(bags.vectors or texts)
        draft.add(_finishing(draft.made, [encoding for encoding in self.encodings if is_worded and encoding != "tree"]))
        return draft.model()

    def _texts(self, dataset: DataFrame, block: Text) -> FittedTexts:
        for_trees = "tree" in self.encodings
        return self.memo.one(
            ("texts", repr(self.plan.custom), repr(block), for_trees), lambda: fit_texts(dataset, block, for_trees=for_trees)
        )

    def _assemble(self, encoding: str, inputs: Sequence[str], draft: Draft, dataset: DataFrame, label: Label | None) -> None:
        """Add the stage that puts the columns together, and where slots are selected the one that keeps those."""
        if not inputs:
            raise StepError("features: no column has a slot in the training rows; lower `min_frequency`, or name other columns")
        output, select = f"features_{encoding}", self.plan.select
        if select is None or label is None:
            draft.add(VectorAssembler(inputCols=list(inputs), outputCol=output, handleInvalid="keep"))
            return
        whole = internal("all", encoding)
        draft.add(VectorAssembler(inputCols=list(inputs), outputCol=whole, handleInvalid="keep"), [whole])
        kept = chosen_slots(draft.over(dataset).select(LABEL, whole), whole, slots_of(draft.model(), whole), select, label)
        draft.add(VectorSlicer(inputCol=whole, outputCol=output, indices=kept))


def feature_pipeline(plan: FeaturePlan, encodings: Collection[str], memo: Memo | None = None) -> FeatureEstimator:
    """Return the estimator of the planned features; its ``fit`` gives a PipelineModel of MLlib's own stages."""
    return FeatureEstimator(plan, encodings, memo)


def _selecting(casts: dict[str, str], slots: Slots) -> SQLTransformer:
    """Return the stage that adds ``casts``, the slots computed from them, and the products of those."""
    statement = "__THIS__"
    for columns in (casts, slots.computed, slots.products):
        if columns:
            listed = "".join(f", {sql} AS {quoted(column)}" for column, sql in columns.items())
            statement = f"(SELECT *{listed} FROM {statement})"
    return SQLTransformer(statement=statement[1:-1] if statement.startswith("(") else "SELECT * FROM __THIS__")


def _finishing(dropped: Sequence[str], unnamed: Sequence[str]) -> SQLTransformer:
    """Return the stage that drops columns; the vectors of ``unnamed`` encodings lose MLlib's name for each slot, which are many."""
    vectors = [f"features_{encoding}" for encoding in unnamed]
    listed = ", ".join(quoted(column) for column in [*dict.fromkeys(dropped), *vectors])
    # An expression, and be it one of nothing, does not hand its input's metadata on.
    bare = "".join(f", coalesce({vector}) AS {vector}" for vector in vectors)
    return SQLTransformer(statement=f"SELECT * EXCEPT ({listed}){bare} FROM __THIS__" if listed else "SELECT * FROM __THIS__")
