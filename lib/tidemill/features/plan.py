"""The feature plan: the declared feature groups, or those chosen by `auto`, resolved against a frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.errors import Fault, SpecError, did_you_mean
from tidemill.features.auto import choose_groups
from tidemill.features.choices import Choice, describe_choices
from tidemill.features.column_facts import column_facts, is_reserved
from tidemill.features.contributions import ColumnFacts, Contribution, merge_contributions
from tidemill.features.custom import CustomStage, plan_custom
from tidemill.spec.models import FEATURE_GROUPS, DeclaredGroup, Features, Select


@dataclass(frozen=True)
class FeaturePlan:
    """Feature groups, resolved against the columns of a frame.

    ``notes`` are for the user; ``sizes`` are the lengths of lists of one common length; ``classes`` the names of the label's classes, empty
    for a number; ``choices`` those of ``auto``.
    """

    groups: tuple[DeclaredGroup, ...] = ()
    notes: tuple[str, ...] = ()
    custom: tuple[CustomStage, ...] = ()
    select: Select | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        custom: tuple[CustomStage, ...] = (),
        select: Select | None = None,
        sizes: Mapping[str, int] | None = None,
        classes: tuple[str, ...] = (),
        **groups: Any,
    ) -> FeaturePlan:
        """Return a plan of blocks, given by the names of their groups: one block or a list each."""
        declared = [
            DeclaredGroup(name, FEATURE_GROUPS.get(name), tuple(blocks) if isinstance(blocks, list | tuple) else (blocks,))
            for name in sorted(groups, key=FEATURE_GROUPS.names.index)
            if (blocks := groups[name])
        ]
        return cls(tuple(declared), custom=custom, select=select, sizes=sizes or {}, classes=classes)

    def blocks(self, group: str) -> tuple[Any, ...]:
        """Return the blocks of a group."""
        return next((each.blocks for each in self.groups if each.name == group), ())

    @property
    def columns(self) -> list[str]:
        """The raw columns used, each once, in order."""
        declared = [column for group in self.groups for column in group.columns]
        return list(dict.fromkeys([*declared, *(column for stage in self.custom for column in stage.columns)]))

    @property
    def needs_label(self) -> bool:
        """True if a feature or the selection is learnt from the label."""
        return self.needs_parts or self.select is not None

    @property
    def needs_parts(self) -> bool:
        """True if features are learnt from the label of other rows, so that training rows need parts."""
        return any(group.kind.needs_label(block) for group in self.groups for block in group.blocks)

    def contribution(self, columns: ColumnFacts) -> Contribution:
        """Return the merged contributions of all groups."""
        return merge_contributions(group.kind.contribute(group.blocks, columns) for group in self.groups)

    def groups_of(self, column: str) -> list[str]:
        """Return the names of the groups that read a raw column, once per block."""
        named = [group.name for group in self.groups for block in group.blocks if column in group.kind.columns(block)]
        return named + ["custom" for stage in self.custom if column in stage.columns]


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

    ``exclude`` is the key, the label and other columns that must not be features; ``split``, ``fold`` and columns that tidemill adds never
    are. ``load`` returns the object of a dotted name, for custom stages; ``classes`` are those of the label, None for a number. Without
    ``learns_label``, `auto` chooses nothing that is learnt from the label.

    Raises:
        SpecError: a declared column is missing, excluded or of a wrong type; or no column is left.
    """
    usable = [name for name in df.columns if not is_reserved(name, exclude)]
    select = None if features == "auto" else features.select
    names = tuple(str(label) for label in classes or ())
    if features == "auto" or features.is_auto:
        drops = features == "auto" or features.checks is None or features.checks.constant == "drop"
        chosen, choices, sizes = choose_groups(df, usable, drops_constants=drops, n_classes=len(names) if learns_label else None)
        plan = FeaturePlan(chosen.groups, describe_choices(choices), sizes=sizes, choices=tuple(choices))
    else:
        groups, notes, sizes = resolve_groups(features, df, exclude)
        plan = FeaturePlan(groups, notes, tuple(plan_custom(features.blocks("custom"), load, df, usable)), sizes=sizes)
    plan = replace(plan, select=select, classes=names)
    if not plan.columns and not plan.custom:
        left_out = " " + "; ".join(plan.notes) if plan.notes else ""
        raise SpecError([_fault("", f"no column of the dataset can be a feature; declare some under `features`.{left_out}")])
    return plan


def resolve_groups(
    features: Features, df: DataFrame, exclude: Collection[str]
) -> tuple[tuple[DeclaredGroup, ...], tuple[str, ...], dict[str, int]]:
    """Return the groups with each column once, notes, and the sizes of lists of one common length; ``df`` is read at most once.

    Raises:
        SpecError: a declared column is missing, excluded or of a wrong type.
    """
    columns = column_facts(df.schema)
    groups = [group for group in features.groups if not group.kind.is_list]
    faults = [fault for group in groups for fault in _column_faults(group, df, columns, exclude)]
    if not faults:
        faults = [
            _fault(f"{group.name}.{key}" if key else group.name, message)
            for group in groups
            for block in group.blocks
            for key, message in group.kind.check(block, columns)
        ]
    if faults:
        raise SpecError(faults)
    groups = [replace(group, blocks=tuple(map(_without_repeats, group.blocks))) for group in groups]
    return tuple(groups), *_read_row_facts(groups, df, columns)


def _column_faults(group: DeclaredGroup, df: DataFrame, columns: ColumnFacts, exclude: Collection[str]) -> Iterator[Fault]:
    """Yield a fault for each column that cannot be in the group."""
    usable = [name for name in df.columns if not is_reserved(name, exclude)]
    for block in group.blocks:
        for name in group.kind.columns(block):
            if name not in columns.kinds:
                message = f"column {name!r} is not in the dataset{did_you_mean(name, usable)}"
            elif is_reserved(name, exclude):
                message = (
                    f"column {name!r} is a key, the label, excluded, or one that tidemill adds (split, _source_file …); "
                    "it cannot be a feature"
                )
            elif group.kind.accepts is not None and columns.kinds[name] not in group.kind.accepts:
                expected = f"expected {group.kind.expected}: CAST it in the SQL, or move it to another group"
                message = f"column {name!r} is of type {columns.types[name]}; {expected}"
            else:
                continue
            yield _fault(f"{group.name}.{group.kind.columns_key}", message)


def _read_row_facts(groups: Sequence[DeclaredGroup], df: DataFrame, columns: ColumnFacts) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the notes and the sizes that the groups read from the rows, in one aggregate."""
    blocks = [(group, block, group.kind.aggregates(block, columns)) for group in groups for block in group.blocks]
    expressions = [sql for _, _, aggregates in blocks for sql in aggregates.values()]
    values = iter(df.agg(*[F.expr(sql).alias(f"f{place}") for place, sql in enumerate(expressions)]).collect()[0] if expressions else ())
    facts = [(group, group.kind.row_facts(block, {key: next(values) for key in aggregates})) for group, block, aggregates in blocks]
    faults = [_fault(f"{group.name}.{key}", message) for group, each in facts for key, message in each.faults]
    if faults:
        raise SpecError(faults)
    sizes = {name: size for _, each in facts for name, size in each.sizes.items()}
    return tuple(note for _, each in facts for note in each.notes), sizes


def _without_repeats(block: Any) -> Any:
    if "columns" in type(block).model_fields:
        return block.model_copy(update={"columns": list(dict.fromkeys(block.columns))})
    return block


def _fault(key: str, message: str) -> Fault:
    return Fault("pipeline.yml", None, f"features.{key}" if key else "features", message)
