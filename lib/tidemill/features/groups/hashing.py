"""The values of several columns in one vector of hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from tidemill.features.contributions import ColumnFacts, Contribution, FittedVectors, VectorColumns, VectorFit
from tidemill.features.groups.feature_group import PLAIN_VALUES, ColumnBlock, FeatureGroup
from tidemill.features.groups.interactions import PLAIN_VALUE
from tidemill.features.names import category_sql, internal_name


class Hashing(ColumnBlock):
    """The values of all columns, as text, in ``size`` slots that they share."""

    size: int = Field(default=1024, gt=1)


class HashingGroup(FeatureGroup):
    """A vector per block: ``hashing``, ``hashing2`` and so on."""

    options = Hashing
    accepts, expected = PLAIN_VALUES, PLAIN_VALUE
    allows_repeats = True

    def contribute(self, blocks: Sequence[Hashing], columns: ColumnFacts) -> Contribution:
        """Return the texts of the columns and the hashes of each block."""
        del columns
        return Contribution(
            casts={_text_column(name): category_sql(name) for block in blocks for name in block.columns},
            vectors=[_Hashes(block, "hashing" if place == 0 else f"hashing{place + 1}") for place, block in enumerate(blocks)],
        )


@dataclass(frozen=True)
class _Hashes(VectorColumns):
    block: Hashing
    name: str

    def fit(self, fit: VectorFit) -> FittedVectors:
        """Return MLlib's hasher, which learns nothing."""
        from pyspark.ml.feature import FeatureHasher

        del fit
        output = internal_name("shared", self.name)
        texts = [_text_column(name) for name in dict.fromkeys(self.block.columns)]
        hasher = FeatureHasher(inputCols=texts, outputCol=output, numFeatures=self.block.size).setCategoricalCols(texts)
        return FittedVectors([hasher], [output], [output], [output])


def _text_column(name: str) -> str:
    return internal_name("sharedlabel", name)
