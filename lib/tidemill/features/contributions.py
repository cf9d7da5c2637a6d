"""What feature groups contribute: numbers, categories, word lists and vectors, which the estimator fits together.

A feature group turns its blocks into a `Contribution`. The estimator merges those of all groups, so that one aggregate over the training
rows fits all numbers, and a second one all categories and lists. Nothing here imports Spark.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tidemill.features.names import internal_name
from tidemill.quoting import quote_name

if TYPE_CHECKING:
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame

T = TypeVar("T")
_AUTO_ENCODING = {"linear": "onehot", "tree": "index", "positive": "onehot"}


@dataclass(frozen=True)
class ColumnFacts:
    """Facts about the raw columns, before anything is fitted.

    ``kinds`` are numeric, boolean, datetime, string, words (a list of text), numbers (a list of numbers) or other; ``types`` are Spark's
    names of the types; ``dates`` the columns of type DATE; ``sizes`` the lengths of lists of numbers that all have the same length.
    """

    kinds: Mapping[str, str]
    types: Mapping[str, str]
    dates: frozenset[str] = frozenset()
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scalar:
    """A number of each row, as SQL over the raw columns.

    ``impute`` and ``scale`` are as in ``features.numeric``. ``calendar_part`` names the part of an instant, and ``is_cyclic`` means that it
    is encoded as sine and cosine. ``is_slot`` is False if only other slots are computed from it. ``quantiles`` is the number of quantile
    buckets to compute. ``is_default`` is True if another block's scalar of the same name takes precedence.
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
        return internal_name("raw", self.name)


@dataclass(frozen=True)
class Category:
    """A text of each row, as SQL; the other fields are as in ``features.categorical``.

    ``is_slot`` is False if its one-hot vector is only multiplied with a number; ``is_raw`` is True if ``name`` is a raw column.
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
        """Return how ``encoding`` encodes it: onehot, index, target, count or hashing."""
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
        """The column of its distinct words; empty where the list is null."""
        return internal_name("words", self.name)

    @property
    def sql(self) -> str:
        """SQL for ``column``."""
        texts = f"transform({quote_name(self.name)}, v -> CAST(v AS STRING))"
        return f"array_distinct(coalesce(filter({texts}, v -> v IS NOT NULL), CAST(array() AS ARRAY<STRING>)))"

    @property
    def is_hashed(self) -> bool:
        """True if no vocabulary is learnt."""
        return self.encode == "hashing"


@dataclass(frozen=True)
class BucketedColumn:
    """A scalar whose values become buckets; ``cuts`` are the bucket boundaries, None for the scalar's quantiles."""

    name: str
    cuts: tuple[float, ...] | None = None


@dataclass
class FittedVectors:
    """Stages, their output vectors, the vectors that trees use instead, and every column that the stages add.

    With ``has_many_slots``, the feature vectors have no slot names in their metadata.
    """

    stages: list[Transformer] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    tree_vectors: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    has_many_slots: bool = False


@dataclass(frozen=True)
class VectorFit:
    """The input of `VectorColumns.fit`.

    ``rows`` are the training rows with the columns of custom stages; ``prepared`` returns them with the columns of all stages so far;
    ``for_trees`` is True if ``features_tree`` is needed; ``remember`` caches what is learnt from these rows, by key.
    """

    rows: DataFrame
    prepared: Callable[[], DataFrame]
    for_trees: bool
    remember: Callable[[Hashable, Callable[[], Any]], Any]


class VectorColumns(ABC):
    """Vectors that MLlib stages compute from raw columns, or from columns of earlier stages."""

    @abstractmethod
    def fit(self, fit: VectorFit) -> FittedVectors:
        """Fit the stages."""


@dataclass(frozen=True)
class Contribution:
    """What the blocks of a group contribute.

    ``products`` are the factors of each product of scalars; ``crossed`` the pairs of a scalar and a category whose one-hot vector it is
    multiplied with; ``filled`` the scalars also needed without missing values; ``casts`` further columns with their SQL.
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
    """Return each scalar once, those that are no slots last."""
    merged: dict[str, Scalar] = {}
    for scalar in sorted(scalars, key=lambda each: not each.is_slot):
        known = merged.get(scalar.name)
        if known is not None and scalar.is_default:
            merged[scalar.name] = replace(known, quantiles=max(known.quantiles, scalar.quantiles))
        else:
            merged[scalar.name] = scalar
    return list(merged.values())


def _merge_categories(categories: Sequence[Category]) -> list[Category]:
    """Return the categories without those that are no slot and whose one-hot vector another category gives."""
    merged: list[Category] = []
    for category in categories:
        known = any(each.name == category.name and each.encode in ("auto", "onehot") for each in merged)
        if category.is_slot or not known:
            merged.append(category)
    return merged
