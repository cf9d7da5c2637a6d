"""Numbers as buckets: a slot for each, or the order of the bucket for trees."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, model_validator

from tidemill.features.contributions import BucketedColumn, ColumnFacts, Contribution, Scalar
from tidemill.features.groups.feature_group import NUMBERS, ColumnBlock, FeatureGroup
from tidemill.features.groups.numeric import NUMBER
from tidemill.features.names import number_sql


class Buckets(ColumnBlock):
    """Numbers as buckets [from, to): a slot each for linear families, their order for trees; a missing number has one of its own."""

    splits: list[float] | None = Field(
        default=None, min_length=1, description="the boundaries between buckets; the outer two buckets are open"
    )
    quantiles: int | None = Field(default=None, ge=2, le=100, description="the number of buckets, of about equal numbers of training rows")

    @model_validator(mode="after")
    def _check_one_rule(self) -> Buckets:
        if (self.splits is None) == (self.quantiles is None):
            raise ValueError("needs one of `splits` (such as [0, 10, 100]) and `quantiles` (such as 10)")
        if self.splits is not None and (any(math.isnan(each) for each in self.splits) or sorted(set(self.splits)) != self.splits):
            raise ValueError("splits: expected numbers in rising order, each once")
        return self

    @property
    def cuts(self) -> tuple[float, ...] | None:
        """The declared splits that are finite (the outer buckets are open anyway); None for quantiles."""
        return None if self.splits is None else tuple(float(each) for each in self.splits if math.isfinite(each))


class BucketsGroup(FeatureGroup):
    """Buckets of columns that may be in other groups too."""

    options = Buckets
    accepts, expected = NUMBERS, NUMBER
    read_as = ("DOUBLE", "a number")

    def contribute(self, blocks: Sequence[Buckets], columns: ColumnFacts) -> Contribution:
        """Return the numbers and where their buckets meet."""
        del columns
        pairs = [(block, name) for block in blocks for name in block.columns]
        return Contribution(
            [Scalar(name, number_sql(name), is_slot=False, quantiles=block.quantiles or 0, is_default=True) for block, name in pairs],
            buckets=[BucketedColumn(name, block.cuts) for block, name in pairs],
        )
