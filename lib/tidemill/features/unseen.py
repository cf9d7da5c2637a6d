"""Unseen values: category values that were in no training row; they share a slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.ml import PipelineModel
from pyspark.ml.feature import StringIndexerModel
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.features.counts import MAX_VALUES
from tidemill.features.names import PREFIX, category_sql, raw_name, role_of

_SHOWN = 10


@dataclass(frozen=True)
class UnseenValues:
    """The number of rows with an unseen value of one column, and the most frequent such values with their rows.

    ``is_exact`` is False if training had more values than a model knows: rare training values then count as unseen.
    """

    column: str
    rows: int
    values: tuple[tuple[str, int], ...] = ()
    is_exact: bool = True

    def sentence(self, total: int) -> str:
        """Return a sentence for the user."""
        shown = ", ".join(f"{value} ({n:,})" for value, n in self.values[:3])
        more = ", …" if len(self.values) > 3 else ""
        what = "was not in the training rows" if self.is_exact else f"is not among the {MAX_VALUES:,} most frequent of the training rows"
        return f"{self.column}: in {self.rows:,} of {total:,} rows the value {what}, such as {shown}{more}; they share one slot"


@dataclass(frozen=True)
class _KnownValues:
    """A raw column, its index column, and the number of known values."""

    name: str
    index: str
    values: int


def count_unseen(model: PipelineModel, types: Mapping[str, str], rows: DataFrame) -> tuple[int, list[UnseenValues]]:
    """Return the number of ``rows`` and, for each category of the model, the unseen values; null is no value.

    ``types`` are those of the model's raw columns. One aggregate looks up each value as scoring does; a second one reads the columns with
    unseen values. An empty string counts as a value.
    """
    indexer = next((stage for stage in model.stages if isinstance(stage, StringIndexerModel) and _is_feature_indexer(stage)), None)
    known = _known_values(indexer, types, rows) if indexer is not None else []
    if indexer is None or not known:
        return rows.count(), []
    sources = dict(zip(indexer.getInputCols(), indexer.getOutputCols(), strict=True))
    cast = rows.select(*[column(name).try_cast(types[name]).alias(name) for name in {each.name for each in known}])
    texts = [_indexed_text(source, output, cast).alias(source) for source, output in sources.items()]
    indexed = indexer.transform(cast.select(*texts))
    places = {output: source for source, output in zip(indexer.getInputCols(), indexer.getOutputCols(), strict=True)}
    is_new = {each.name: (F.col(each.index) == each.values) & F.col(places[each.index]).isNotNull() for each in known}
    counted = indexed.agg(F.count("*"), *[F.count_if(flag) for flag in is_new.values()]).collect()[0]
    unseen_rows = dict(zip(is_new, counted[1:], strict=True))
    values = _values(indexed, {each.name: (is_new[each.name], places[each.index]) for each in known if unseen_rows[each.name]})
    exact = {each.name: each.values < MAX_VALUES for each in known}
    return int(counted[0]), [UnseenValues(name, int(n), tuple(values.get(name, ())), exact[name]) for name, n in unseen_rows.items()]


def _is_feature_indexer(indexer: StringIndexerModel) -> bool:
    """Return True for the indexer of the features, False for one of a custom stage."""
    return bool(indexer.isSet("outputCols")) and all(output.startswith(PREFIX) for output in indexer.getOutputCols())


def _known_values(indexer: StringIndexerModel, types: Mapping[str, str], rows: DataFrame) -> list[_KnownValues]:
    """Return for each raw column the index with the most values: that of all training values, if the model has it."""
    by_column: dict[str, _KnownValues] = {}
    for output, labels in zip(indexer.getOutputCols(), indexer.labelsArray, strict=True):
        name = raw_name(output)
        if name in types and name in rows.columns:
            each = _KnownValues(name, output, len(labels))
            best = by_column.get(name)
            if best is None or role_of(output) == "seen" or (role_of(best.index) != "seen" and each.values > best.values):
                by_column[name] = each
    return list(by_column.values())


def _indexed_text(source: str, output: str, cast: DataFrame) -> Column:
    """Return the text that the indexer reads; null for a pair of columns, which is not checked."""
    name = raw_name(output)
    return F.expr(category_sql(name)) if name in cast.columns else F.lit(None).cast("string")


def _values(indexed: DataFrame, flags: Mapping[str, tuple[Column, str]]) -> dict[str, list[tuple[str, int]]]:
    """Return the most frequent unseen values of each column with their rows, ties by their text."""
    if not flags:
        return {}
    names = list(flags)
    each = [
        F.when(flag, F.struct(F.lit(place).alias("place"), F.col(source).alias("value")))
        for place, (flag, source) in enumerate(flags.values())
    ]
    unseen = indexed.select(F.explode(F.array_compact(F.array(*each))).alias("c")).select("c.place", "c.value")
    counted = unseen.groupBy("place", "value").agg(F.count("*").alias("n"))
    order = Window.partitionBy("place").orderBy(F.desc("n"), "value")
    ranked = counted.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= _SHOWN).orderBy("place", "rank")
    by_column: dict[str, list[tuple[str, int]]] = {}
    for row in ranked.collect():
        by_column.setdefault(names[row["place"]], []).append((row["value"], row["n"]))
    return by_column
