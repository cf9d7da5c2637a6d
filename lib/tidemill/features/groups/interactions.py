"""Pairs of columns: products of numbers, pairs of categories, and a number per category value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from tidemill.features.contributions import Category, ColumnFacts, Contribution, Scalar
from tidemill.features.groups.feature_group import PLAIN_VALUES, FeatureGroup
from tidemill.features.names import category_sql, number_sql
from tidemill.options import Block, ColumnName

PLAIN_VALUE = "a number, STRING, BOOLEAN or a time"
Pair = Annotated[list[ColumnName], Field(min_length=2, max_length=2)]


class Interactions(Block):
    """Pairs of columns: the product of two numbers, both values of two categories, a number for each category."""

    pairs: list[Pair] = Field(min_length=1)
    min_frequency: int = Field(default=1, ge=1, description="for two categories: the least number of rows with a pair of values")

    @property
    def columns(self) -> list[str]:
        """The raw columns."""
        return [name for pair in self.pairs for name in pair]


class InteractionsGroup(FeatureGroup):
    """Columns of type number are factors; all others are categories."""

    options = Interactions
    accepts, expected = PLAIN_VALUES, PLAIN_VALUE
    columns_key = "pairs"
    allows_repeats = True

    def contribute(self, blocks: Sequence[Interactions], columns: ColumnFacts) -> Contribution:
        """Return the products, the categories of two texts, and the numbers to be multiplied with a category."""
        pairs = list(dict.fromkeys((pair[0], pair[1]) for block in blocks for pair in block.pairs))
        least = min((block.min_frequency for block in blocks), default=1)
        factors = [name for pair in pairs for name in pair if columns.kinds[name] == "numeric"]
        categories: list[Category] = []
        products: list[tuple[str, ...]] = []
        crossed: list[tuple[str, str]] = []
        for pair in pairs:
            numbers = [name for name in pair if columns.kinds[name] == "numeric"]
            texts = [name for name in pair if columns.kinds[name] != "numeric"]
            if not numbers:
                both = f"concat({category_sql(pair[0])}, '&', {category_sql(pair[1])})"
                categories.append(Category("&".join(pair), both, min_frequency=least, is_raw=False))
            elif texts:
                categories.append(Category(texts[0], category_sql(texts[0]), "onehot", least, is_slot=False))
                crossed.append((numbers[0], texts[0]))
            else:
                products.append(pair)
        return Contribution(
            [Scalar(name, number_sql(name), is_slot=False, is_default=True) for name in factors],
            categories,
            products=products,
            crossed=crossed,
        )
