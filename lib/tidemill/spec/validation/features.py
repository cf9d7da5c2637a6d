"""Rules between the groups of `features` and the rest of a spec."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.spec.loading.document import Key, Node
from tidemill.spec.models import GROUPS, value_problems

Found = Iterator[tuple[tuple[Key, ...], str]]
Path = tuple[Key, ...]

# A slot of these is named like its column, so that the column can be in one of them.
_PLAIN = ("numeric", "boolean")
_SIGNED = {"word2vec", "embedding"}


def feature_problems(root: Node) -> Found:
    """Yield what is wrong with the declared columns: the label, a key, an excluded one, one that is named twice."""
    yield from _columns(root)
    yield from _signed(root)
    yield from value_problems(root)


def declared_blocks(root: Node, group: str) -> Iterator[tuple[Path, Node]]:
    """Yield the blocks of a group with their paths; a single one may stand without a list around it."""
    node = root.at("features", group)
    if node is None:
        return
    if node.mapping:
        yield ("features", group), node
    for index, block in enumerate(node.items):
        yield ("features", group, index), block


def _columns(root: Node) -> Found:
    dataset = root.at("dataset") or root
    label, weight = (node.string if (node := dataset.at(name)) else None for name in ("label", "weight"))
    keys, exclude = (node.strings if (node := dataset.at(name)) else [] for name in ("key", "exclude"))
    plain: dict[str, str] = {}
    for group in GROUPS:
        seen: set[tuple[str, str]] = set()
        for path, block in declared_blocks(root, group):
            for place, column in _named(path, block):
                treatment = _treatment(group, block)
                if column == label:
                    yield place, f"{column!r} is the label; a model may not see it"
                elif column == weight:
                    yield place, f"{column!r} is `dataset.weight`, which no new row has; leave it out"
                elif column in keys:
                    yield place, f"{column!r} is part of the key, which says nothing about new rows; leave it out"
                elif column in exclude:
                    yield place, f"{column!r} is also in `dataset.exclude`; remove it from one of the two"
                elif group not in ("interactions", "polynomial", "pca", "hashing") and (column, treatment) in seen:
                    yield place, f"{column!r} is listed twice"
                elif group in _PLAIN and plain.get(column, group) != group:
                    yield place, f"{column!r} is also in `features.{plain[column]}`; remove it from one of the two"
                seen.add((column, treatment))
                if group in _PLAIN:
                    plain.setdefault(column, group)


def _named(path: Path, block: Node) -> Iterator[tuple[Path, str]]:
    columns, pairs = block.at("columns"), block.at("pairs")
    for index, item in enumerate(columns.items if columns else []):
        if item.string is not None:
            yield (*path, "columns", index), item.string
    for index, pair in enumerate(pairs.items if pairs else []):
        for side, item in enumerate(pair.items):
            if item.string is not None:
                yield (*path, "pairs", index, side), item.string


def _treatment(group: str, block: Node) -> str:
    """Return what must differ where a column stands in two blocks of one group: how a category is encoded."""
    encode = block.at("encode")
    word = encode.string if group == "categorical" and encode else None
    return "labels" if word in (None, "auto", "onehot", "index") else str(word)


def _signed(root: Node) -> Found:
    """Yield features below 0 where naive Bayes, which cannot take them, is asked for."""
    if root.at("training", "models", "naive_bayes") is None:
        return
    at = ("training", "models", "naive_bayes")
    for _, block in declared_blocks(root, "text"):
        stages = block.at("stages")
        last = stages.items[-1] if stages is not None and stages.items else None
        if last is not None and _SIGNED & {last.string, *last.mapping}:
            ended = "those of word2vec and embeddings are; use logistic_regression, or end in tfidf"
            yield at, f"needs features that are not below 0, and {ended}"
    if any(True for _ in declared_blocks(root, "pca")):
        yield at, "needs features that are not below 0, and those of pca are; use logistic_regression, or leave `features.pca` out"
