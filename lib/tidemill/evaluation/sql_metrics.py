"""Custom metrics in SQL: of sums over rows with intervals, other aggregates as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from tidemill.evaluation.estimates import Estimate
from tidemill.evaluation.measurement import ALL_ROWS, MeasuredSlice
from tidemill.lake.aggregate_sql import AggregateSql

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


_TERM = re.compile(r"\bterm_(\d+)\b")


@dataclass(frozen=True)
class SqlMetrics:
    """The SQL metrics of a spec, by name."""

    expressions: Mapping[str, AggregateSql]

    @property
    def terms(self) -> list[str]:
        """The SQL terms of the metrics that are formulas of sums, one metric after the other."""
        return [term for expression in self.expressions.values() for term in expression.terms]

    def evaluate(self, spark: SparkSession, measured: Mapping[str, MeasuredSlice]) -> dict[str, dict[str, Estimate]]:
        """Return slice → metric → estimate, from the sums of `terms`, by one Spark query over all slices and draws."""
        formulas = self._formulas()
        if not formulas:
            return {name: {} for name in measured}
        blocks = [_stack(each.terms) for each in measured.values()]
        values = np.concatenate(blocks)
        names = [f"term_{place}" for place in range(values.shape[1])]
        table = pa.table({"place": np.arange(len(values)), **dict(zip(names, values.T, strict=True))})
        results = spark.createDataFrame(table).select("place", *[F.expr(sql).cast("double").alias(name) for name, sql in formulas.items()])
        computed = results.toArrow().sort_by("place").to_pandas()
        estimates: dict[str, dict[str, Estimate]] = {}
        start = 0
        for name, block in zip(measured, blocks, strict=True):
            part = computed.iloc[start : start + len(block)]
            start += len(block)
            estimates[name] = {metric: _to_estimate(part[metric].to_numpy(dtype=np.float64)) for metric in formulas}
        return estimates

    def _formulas(self) -> dict[str, str]:
        """Return the formulas, over the terms of all metrics."""
        formulas: dict[str, str] = {}
        before = 0
        for name, expression in self.expressions.items():
            if expression.is_additive:
                formulas[name] = _TERM.sub(lambda match, start=before: f"term_{start + int(match[1])}", expression.formula)  # type: ignore[misc]
                before += len(expression.terms)
        return formulas

    def aggregate_others(self, named: DataFrame, slices: str) -> dict[str, dict[str, Estimate]]:
        """Return slice → metric → estimate without draws, of the metrics that are no formula of sums.

        ``named`` has the names that SQL uses; its column ``slices`` holds the names of the slices of a row.
        """
        others = {name: expression.text for name, expression in self.expressions.items() if not expression.is_additive}
        if not others:
            return {}
        each = F.explode(F.concat(F.array(F.lit(ALL_ROWS)), F.col(slices))).alias(_SLICE)
        rows = named.select("*", each).groupBy(_SLICE).agg(*[F.expr(sql).cast("double").alias(name) for name, sql in others.items()])
        cells = rows.toArrow().to_pylist()
        return {row[_SLICE]: {name: Estimate(np.nan if row[name] is None else row[name]) for name in others} for row in cells}


_SLICE = "_tidemill_slice"


def _stack(terms: Sequence[Estimate]) -> np.ndarray:
    """Return the sums of all rows, then those of each draw: (1 + draws, terms)."""
    return np.column_stack([np.concatenate([[term.value], [] if term.draws is None else term.draws]) for term in terms])


def _to_estimate(values: np.ndarray) -> Estimate:
    return Estimate(float(values[0]), values[1:] if len(values) > 1 else None)
