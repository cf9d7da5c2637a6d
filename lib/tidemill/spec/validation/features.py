"""Rules between the groups of `features` and the rest of a spec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tidemill.errors import UsageError
from tidemill.spec.loading.document import Key, Node
from tidemill.spec.models import FEATURE_GROUPS, value_problems

if TYPE_CHECKING:
    from tidemill.features.groups.feature_group import FeatureGroup

Problems = Iterator[tuple[tuple[Key, ...], str]]
Path = tuple[Key, ...]


def feature_problems(root: Node) -> Problems:
    """Yield faults of the declared columns: the label, a key, an excluded column, a column named twice."""
    yield from _check_columns(root)
    yield from _check_signs(root)
    yield from value_problems(root)


def declared_groups(root: Node) -> Iterator[tuple[str, FeatureGroup]]:
    """Yield the groups that a spec names, built-in ones in their order, then those of packages and of the user's own."""
    written = [name for name in root.entries_at("features") if name not in ("checks", "select")]
    for name in sorted(written, key=lambda name: FEATURE_GROUPS.names.index(name) if name in FEATURE_GROUPS else len(written) + 99):
        try:
            yield name, FEATURE_GROUPS.get(name)
        except UsageError:
            continue  # the models say so


def declared_blocks(root: Node, group: str) -> Iterator[tuple[Path, Node]]:
    """Yield the blocks of a group with their paths; a single one may stand without a list around it."""
    node = root.at("features", group)
    if node is None:
        return
    if node.mapping:
        yield ("features", group), node
    for index, block in enumerate(node.items):
        yield ("features", group, index), block


def named_columns(path: Path, block: Node, group: FeatureGroup) -> Iterator[tuple[Path, str]]:
    """Yield each column that a block names, with its path; pairs are lists in the list."""
    node = block.at(group.columns_key)
    for index, item in enumerate(node.items if node else []):
        place = (*path, group.columns_key, index)
        if item.string is not None:
            yield place, item.string
        for side, column in enumerate(item.items):
            if column.string is not None:
                yield (*place, side), column.string


def _check_columns(root: Node) -> Problems:
    owners: dict[str, str] = {}
    for name, group in declared_groups(root):
        treatments: set[tuple[str, str]] = set()
        for path, block in declared_blocks(root, name):
            treatment = group.treatment(_plain(block))
            for place, column in named_columns(path, block, group):
                problem = _unusable(root, column)
                if problem:
                    yield place, problem
                elif not group.allows_repeats and (column, treatment) in treatments:
                    yield place, f"{column!r} is listed twice"
                elif group.owns_slot_name and owners.get(column, name) != name:
                    yield place, f"{column!r} is also in `features.{owners[column]}`; remove it from one of the two"
                treatments.add((column, treatment))
                if group.owns_slot_name:
                    owners.setdefault(column, name)


def _unusable(root: Node, column: str) -> str | None:
    """Return why a column can never be a feature; None if it can."""
    dataset = root.at("dataset") or root
    label, weight = (node.string if (node := dataset.at(name)) else None for name in ("label", "weight"))
    keys, exclude = (node.strings if (node := dataset.at(name)) else [] for name in ("key", "exclude"))
    if column == label:
        return f"{column!r} is the label; a model may not see it"
    if column == weight:
        return f"{column!r} is `dataset.weight`, which no new row has; leave it out"
    if column in keys:
        return f"{column!r} is part of the key, which says nothing about new rows; leave it out"
    return f"{column!r} is also in `dataset.exclude`; remove it from one of the two" if column in exclude else None


def _check_signs(root: Node) -> Problems:
    """Yield features that may be negative if naive Bayes, which cannot use them, is declared."""
    if root.at("training", "models", "naive_bayes") is None:
        return
    for name, group in declared_groups(root):
        slots = next((reason for _, block in declared_blocks(root, name) if (reason := group.signed_slots(_plain(block)))), "")
        if slots:
            yield ("training", "models", "naive_bayes"), f"needs features that are not below 0, and {slots}"


def _plain(block: Node) -> dict[str, Any]:
    value = block.plain()
    return value if isinstance(value, dict) else {}
