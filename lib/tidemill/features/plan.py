"""Which columns of a frame become features, and as what: declared, or told by their types and values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pyspark.sql import DataFrame

from tidemill.errors import Fault, SpecError
from tidemill.features.auto import auto_groups
from tidemill.features.choices import Choice, remarks
from tidemill.features.custom import CustomStage, plan_custom
from tidemill.features.declared import declared_groups
from tidemill.features.kinds import is_reserved
from tidemill.spec.models import (
    GROUPS,
    Array,
    Boolean,
    Buckets,
    Categorical,
    Dataset,
    Datetime,
    Features,
    Hashing,
    Interactions,
    Numeric,
    Pca,
    Polynomial,
    Select,
    Text,
    blocks_of,
)


@dataclass(frozen=True)
class FeaturePlan:
    """The groups of feature columns as resolved: a block, several, or None where a group has none.

    ``notes`` are remarks for people; ``sizes`` the lengths of the lists that all have one; ``classes`` the label's classes by their
    names, of a number none; ``choices`` what ``auto`` has chosen, and why.
    """

    numeric: Numeric | Sequence[Numeric] | None = None
    categorical: Categorical | Sequence[Categorical] | None = None
    datetime: Datetime | Sequence[Datetime] | None = None
    text: Text | Sequence[Text] | None = None
    notes: tuple[str, ...] = ()
    custom: tuple[CustomStage, ...] = ()
    boolean: Boolean | Sequence[Boolean] | None = None
    array: Array | Sequence[Array] | None = None
    buckets: Buckets | Sequence[Buckets] | None = None
    interactions: Interactions | Sequence[Interactions] | None = None
    polynomial: Polynomial | Sequence[Polynomial] | None = None
    pca: Pca | Sequence[Pca] | None = None
    hashing: Hashing | Sequence[Hashing] | None = None
    select: Select | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()

    def blocks(self, group: str) -> tuple[Any, ...]:
        """Return the blocks of a group."""
        return blocks_of(getattr(self, group))

    @property
    def columns(self) -> list[str]:
        """The raw columns that are used, each once, in order."""
        groups = [block for group in GROUPS for block in self.blocks(group)]
        return list(dict.fromkeys(column for group in (*groups, *self.custom) for column in group.columns))

    @property
    def needs_label(self) -> bool:
        """True where something is learnt from the label."""
        return self.needs_parts or self.select is not None

    @property
    def needs_parts(self) -> bool:
        """True where the label of other rows becomes a feature, so that training rows lie in parts."""
        return any(block.encode == "target" for block in self.blocks("categorical"))


def reserved_columns(dataset: Dataset) -> frozenset[str]:
    """Return the columns of a dataset that must never be features: key, label, weight, what is excluded, the data's own split."""
    own = [name for name in (dataset.label, dataset.weight, dataset.split_rule().column) if name]
    return frozenset([*dataset.key, *dataset.exclude, *own])


def plan_features(
    features: Literal["auto"] | Features,
    df: DataFrame,
    *,
    exclude: Collection[str],
    load: Callable[[str], Any] | None = None,
    classes: Sequence[object] | None = None,
    learns_label: bool = True,
) -> FeaturePlan:
    """Resolve the feature groups against the columns of ``df``, reading it once.

    ``exclude`` are the key, the label and whatever else must not be a feature; ``split``, ``fold`` and names with ``_`` in front never are.
    ``load`` returns the object of a dotted name, for custom stages; ``classes`` are those of the label, None where it is a number; where
    ``learns_label`` is false, nothing that is made of the label is chosen.

    Raises:
        SpecError: a declared column is not there, is excluded, or has a type that does not fit; or no column is left.
    """
    usable = [name for name in df.columns if not is_reserved(name, exclude)]
    select = None if features == "auto" else features.select
    names = tuple(str(label) for label in classes or ())
    if features == "auto" or features.is_auto:
        drops = features == "auto" or features.checks is None or features.checks.constant == "drop"
        groups, choices, sizes = auto_groups(df, usable, drops_constants=drops, n_classes=len(names) if learns_label else None)
        plan = FeaturePlan(**groups, notes=remarks(choices), choices=tuple(choices), sizes=sizes)
    else:
        groups, notes, sizes = declared_groups(features, df, exclude)
        plan = FeaturePlan(**groups, notes=tuple(notes), sizes=sizes)
        plan = replace(plan, custom=tuple(plan_custom(features.custom, load, df, usable)))
    plan = replace(plan, select=select, classes=names)
    if not plan.columns and not plan.custom:
        left_out = " " + "; ".join(plan.notes) if plan.notes else ""
        message = f"no column of the dataset can be a feature; declare some under `features`.{left_out}"
        raise SpecError([Fault("pipeline.yml", None, "features", message)])
    return plan
