"""What the blocks of `features` add: numbers, categories, lists of words, and vectors, which the estimator learns together.

A feature group turns its blocks into a `Contribution`. The estimator merges those of all groups, so that one aggregate over the training
rows serves every number and a second one every category and list. Nothing here imports Spark.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tidemill.features.names import internal
from tidemill.quoting import quote_name

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame

T = TypeVar("T")
_AUTO_ENCODING = {"linear": "onehot", "tree": "index", "positive": "onehot"}


@dataclass(frozen=True)
class ColumnFacts:
    """What is known of the raw columns before anything is learnt.

    ``kinds`` are numeric, boolean, datetime, string, words (a list of text), numbers (a list of numbers) or other; ``types`` are Spark's
    words for the types; ``dates`` the columns of type DATE; ``sizes`` the lengths of the lists of numbers that all have one length.
    """

    kinds: Mapping[str, str]
    types: Mapping[str, str]
    dates: frozenset[str] = frozenset()
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scalar:
    """A number of each row, as SQL over the raw columns.

    ``impute`` and ``scale`` are the words of ``features.numeric``. ``calendar_part`` names the part of an instant that it is, and
    ``is_cyclic`` says that it is encoded as sine and cosine. ``is_slot`` is False where other slots are computed from it alone.
    ``quantiles`` is the number of quantile buckets wanted of it. ``is_default`` is True where another block's scalar of the same name
    takes precedence.
    """

    name: str
    sql: str
    impute: str | float = "median"
    scale: str = "standard"
    calendar_part: str | None = None
    is_cyclic: bool = False
    indicator: bool = False
    is_slot: bool = True
    quantiles: int = 0
    is_default: bool = False

    @property
    def column(self) -> str:
        """The column that holds it, null where it is missing."""
        return internal("raw", self.name)


@dataclass(frozen=True)
class Category:
    """A text of each row, as SQL; the other words are those of ``features.categorical``.

    ``is_slot`` is False where its one-hot vector is multiplied with a number and is no feature itself; ``is_raw`` is True where ``name``
    is the name of a raw column.
    """

    name: str
    sql: str
    encode: str = "auto"
    min_frequency: int = 1
    smoothing: float = 0.0
    size: int = 0
    is_slot: bool = True
    is_raw: bool = True

    def style(self, encoding: str) -> str:
        """Return how the vector of ``encoding`` takes it: onehot, index, target, count or hashing."""
        return _AUTO_ENCODING[encoding] if self.encode == "auto" else self.encode


@dataclass(frozen=True)
class WordList:
    """A column of lists of text, encoded as ``multihot`` or by ``hashing``."""

    name: str
    encode: str
    min_frequency: int
    size: int

    @property
    def column(self) -> str:
        """The column of its words, each once; empty where there is no list."""
        return internal("words", self.name)

    @property
    def sql(self) -> str:
        """SQL for ``column``."""
        texts = f"transform({quote_name(self.name)}, v -> CAST(v AS STRING))"
        return f"array_distinct(coalesce(filter({texts}, v -> v IS NOT NULL), CAST(array() AS ARRAY<STRING>)))"

    @property
    def is_hashed(self) -> bool:
        """True where no word is learnt."""
        return self.encode == "hashing"


@dataclass(frozen=True)
class BucketedColumn:
    """A scalar whose value becomes a bucket; ``cuts`` are where buckets meet, None where they are the scalar's quantiles."""

    name: str
    cuts: tuple[float, ...] | None = None


@dataclass
class FittedVectors:
    """Stages, the vector columns they end in, what trees take in their stead, and every column that the stages add.

    Where ``has_many_slots``, the feature vectors carry no name for each slot in their metadata.
    """

    stages: list[Transformer] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    tree_vectors: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    has_many_slots: bool = False


@dataclass(frozen=True)
class VectorFit:
    """What a vector is learnt from.

    ``rows`` are the training rows with the columns of custom stages; ``prepared`` returns them with the columns of all stages so far;
    ``for_trees`` says whether ``features_tree`` is asked for; ``remember`` returns what was learnt of the same rows for the same key.
    """

    rows: DataFrame
    prepared: Callable[[], DataFrame]
    for_trees: bool
    remember: Callable[[Hashable, Callable[[], Any]], Any]


class VectorColumns(ABC):
    """Vectors that stages of MLlib make of raw columns, or of what the stages before them added."""

    @abstractmethod
    def fit(self, fit: VectorFit) -> FittedVectors:
        """Learn the stages."""


@dataclass(frozen=True)
class Contribution:
    """What a group's blocks add.

    ``products`` are the factors of each product of scalars; ``crossed`` the pairs of a scalar and a category whose one-hot vector it is
    multiplied with; ``filled`` the scalars that are also wanted without missing values; ``casts`` further columns with their SQL.
    """

    scalars: Sequence[Scalar] = ()
    categories: Sequence[Category] = ()
    word_lists: Sequence[WordList] = ()
    buckets: Sequence[BucketedColumn] = ()
    products: Sequence[tuple[str, ...]] = ()
    crossed: Sequence[tuple[str, str]] = ()
    filled: Sequence[str] = ()
    vectors: Sequence[VectorColumns] = ()
    casts: Mapping[str, str] = field(default_factory=dict)


def merge_contributions(parts: Iterable[Contribution]) -> Contribution:
    """Return the contributions of all groups as one: each scalar, product and pair once, in the order of the groups."""
    every = list(parts)
    return Contribution(
        _merge_scalars([each for part in every for each in part.scalars]),
        _merge_categories([each for part in every for each in part.categories]),
        [each for part in every for each in part.word_lists],
        [each for part in every for each in part.buckets],
        list(dict.fromkeys(each for part in every for each in part.products)),
        list(dict.fromkeys(each for part in every for each in part.crossed)),
        list(dict.fromkeys(each for part in every for each in part.filled)),
        [each for part in every for each in part.vectors],
        {column: sql for part in every for column, sql in part.casts.items()},
    )


def _merge_scalars(scalars: Sequence[Scalar]) -> list[Scalar]:
    """Return each scalar once; those that are computed from alone stand last."""
    merged: dict[str, Scalar] = {}
    for scalar in sorted(scalars, key=lambda each: not each.is_slot):
        known = merged.get(scalar.name)
        if known is not None and scalar.is_default:
            merged[scalar.name] = replace(known, quantiles=max(known.quantiles, scalar.quantiles))
        else:
            merged[scalar.name] = scalar
    return list(merged.values())


def _merge_categories(categories: Sequence[Category]) -> list[Category]:
    """Return the categories; one that is no slot is left out where another gives the same one-hot vector."""
    merged: list[Category] = []
    for category in categories:
        known = any(each.name == category.name and each.encode in ("auto", "onehot") for each in merged)
        if category.is_slot or not known:
            merged.append(category)
    return merged
