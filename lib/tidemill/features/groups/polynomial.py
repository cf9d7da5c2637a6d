"""Products of numbers up to a degree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

from pydantic import Field

from tidemill.features.contributions import ColumnFacts, Contribution, Scalar
from tidemill.features.groups.feature_group import NUMBERS, ColumnBlock, FeatureGroup
from tidemill.features.groups.numeric import NUMBER
from tidemill.features.names import number_sql

_MAX_PRODUCTS = 2000


class Polynomial(ColumnBlock):
    """The products of the numbers, up to ``degree`` factors, beside the numbers themselves."""

    degree: int = Field(default=2, ge=2, le=5)


class PolynomialGroup(FeatureGroup):
    """A slot per number and per product."""

    options = Polynomial
    accepts, expected = NUMBERS, NUMBER
    read_as = ("DOUBLE", "a number")
    allows_repeats = True

    def contribute(self, blocks: Sequence[Polynomial], columns: ColumnFacts) -> Contribution:
        """Return the numbers and the factors of each product."""
        del columns
        names = dict.fromkeys(name for block in blocks for name in block.columns)
        return Contribution(
            [Scalar(name, number_sql(name), is_default=True) for name in names],
            products=[factors for block in blocks for factors in _products(block)],
        )

    def check(self, block: Polynomial, columns: ColumnFacts) -> Iterator[tuple[str, str]]:
        """Refuse too many products."""
        del columns
        count = len(_products(block))
        if count > _MAX_PRODUCTS:
            yield "", f"{count:,} products, expected at most {_MAX_PRODUCTS:,}; name fewer columns or lower `degree`"


def _products(block: Polynomial) -> list[tuple[str, ...]]:
    """Return the factors of each product of two to ``degree`` numbers, in the order of scikit-learn's PolynomialFeatures."""
    names = list(dict.fromkeys(block.columns))
    return [factors for count in range(2, block.degree + 1) for factors in combinations_with_replacement(names, count)]
