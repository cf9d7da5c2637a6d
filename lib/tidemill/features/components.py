"""Vectors that several columns share: principal components, and hashes of all values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml.feature import PCA, FeatureHasher, StandardScaler, VectorAssembler
from pyspark.sql import DataFrame

from tidemill.features.model import Draft
from tidemill.features.names import category_sql, internal

if TYPE_CHECKING:
    from tidemill.features.plan import FeaturePlan


def shared_casts(plan: FeaturePlan) -> dict[str, str]:
    """Return the text of the columns of `features.hashing`."""
    return {internal("sharedlabel", name): category_sql(name) for block in plan.blocks("hashing") for name in block.columns}


def fit_components(plan: FeaturePlan, draft: Draft, dataset: DataFrame) -> list[str]:
    """Add the components of each block to the draft, whose stages have filled the numbers; return their columns. MLlib's own jobs."""
    found = []
    for place, block in enumerate(plan.blocks("pca")):
        name = "pca" if place == 0 else f"pca{place + 1}"
        whole, scaled, output = (internal(role, name) for role in ("whole", "scaled", "vector"))
        columns = list(dict.fromkeys(block.columns))
        draft.add(VectorAssembler(inputCols=[internal("filled", each) for each in columns], outputCol=whole), [whole])
        scaler = StandardScaler(inputCol=whole, outputCol=scaled, withMean=True, withStd=True)
        draft.add(scaler.fit(draft.over(dataset)), [scaled])
        draft.add(PCA(k=min(block.k, len(columns)), inputCol=scaled, outputCol=output).fit(draft.over(dataset)), [output])
        found.append(output)
    return found


def add_shared_hashes(plan: FeaturePlan, draft: Draft) -> list[str]:
    """Add a vector of hashes for each block of `features.hashing`; return their columns."""
    found = []
    for place, block in enumerate(plan.blocks("hashing")):
        output = internal("shared", "hashing" if place == 0 else f"hashing{place + 1}")
        columns = [internal("sharedlabel", name) for name in dict.fromkeys(block.columns)]
        hasher = FeatureHasher(inputCols=columns, outputCol=output, numFeatures=block.size)
        draft.add(hasher.setCategoricalCols(columns), [output])
        found.append(output)
    return found
