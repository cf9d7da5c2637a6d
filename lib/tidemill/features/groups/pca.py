"""Principal components of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from tidemill.features.contributions import ColumnFacts, Contribution, FittedVectors, Scalar, VectorColumns, VectorFit
from tidemill.features.groups.feature_group import NUMBERS, FeatureGroup
from tidemill.features.groups.numeric import NUMBER
from tidemill.features.names import internal_name, number_sql
from tidemill.options import Block, ColumnName


class Pca(Block):
    """The ``k`` principal components of the numbers, imputed and scaled to deviation 1."""

    columns: list[ColumnName] = Field(min_length=2)
    k: int = Field(ge=1)

    @model_validator(mode="after")
    def _check_k(self) -> Pca:
        if self.k > len(self.columns):
            raise ValueError(f"k is {self.k}, expected at most the number of columns, {len(self.columns)}")
        return self


class PcaGroup(FeatureGroup):
    """A vector per block: ``pca``, ``pca2`` and so on."""

    options = Pca
    accepts, expected = NUMBERS, NUMBER
    read_as = ("DOUBLE", "a number")
    allows_repeats = True

    def contribute(self, blocks: Sequence[Pca], columns: ColumnFacts) -> Contribution:
        """Return the numbers, filled, and the components of each block."""
        del columns
        names = list(dict.fromkeys(name for block in blocks for name in block.columns))
        return Contribution(
            [Scalar(name, number_sql(name), is_slot=False, is_default=True) for name in names],
            filled=names,
            vectors=[_Components(block, "pca" if place == 0 else f"pca{place + 1}") for place, block in enumerate(blocks)],
        )

    def signed_slots(self, block: Mapping[str, Any]) -> str:
        """Return that components may be negative."""
        del block
        return "those of pca are; use logistic_regression, or leave `features.pca` out"


@dataclass(frozen=True)
class _Components(VectorColumns):
    block: Pca
    name: str

    def fit(self, fit: VectorFit) -> FittedVectors:
        """Scale the filled numbers and fit MLlib's PCA on them."""
        from pyspark.ml.feature import PCA, StandardScaler, VectorAssembler

        whole, scaled, output = (internal_name(role, self.name) for role in ("whole", "scaled", "vector"))
        names = list(dict.fromkeys(self.block.columns))
        assembler = VectorAssembler(inputCols=[internal_name("filled", name) for name in names], outputCol=whole)
        rows = assembler.transform(fit.prepared())
        scaler = StandardScaler(inputCol=whole, outputCol=scaled, withMean=True, withStd=True).fit(rows)
        components = PCA(k=min(self.block.k, len(names)), inputCol=scaled, outputCol=output).fit(scaler.transform(rows))
        return FittedVectors([assembler, scaler, components], [output], [output], [whole, scaled, output])
