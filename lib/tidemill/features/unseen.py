"""Values of categories that a model has not seen in its training: they share a slot, and here they are counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.ml import PipelineModel
from pyspark.ml.feature import StringIndexerModel
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.features.counts import MAX_VALUES
from tidemill.features.names import PREFIX, category_sql, original, role_of

_SHOWN = 10


@dataclass(frozen=True)
class Unseen:
    """The rows of one column whose value was in no row of the training, and the most frequent of those values with their rows.

    ``is_exact`` is False where the training had more values than a model knows: rare ones of those are among the rows too.
    """

    column: str
    rows: int
    values: tuple[tuple[str, int], ...] = ()
    is_exact: bool = True

    def sentence(self, total: int) -> str:
        """Return it for people."""
        shown = ", ".join(f"{value} ({n:,})" for value, n in self.values[:3])
        more = ", …" if len(self.values) > 3 else ""
        what = "was not in the training rows" if self.is_exact else f"is not among the {MAX_VALUES:,} most frequent of the training rows"
        return f"{self.column}: in {self.rows:,} of {total:,} rows the value {what}, such as {shown}{more}; they share one slot"


@dataclass(frozen=True)
class _Known:
    """A raw column, the index that says whether a value is known, and the number of values known."""

    name: str
    index: str
    values: int


def count_unseen(model: PipelineModel, types: Mapping[str, str], rows: DataFrame) -> tuple[int, list[Unseen]]:
    """Return the number of ``rows`` and, for each category of the model, what of it was never seen in training; null is no value.

    ``types`` are those of the model's raw columns. One aggregate over the rows' categories, which looks each value up as scoring does; a
    second one over those columns that have unseen values. An empty string counts as a value like others.
    """
    indexer = next((stage for stage in model.stages if isinstance(stage, StringIndexerModel) and _is_ours(stage)), None)
    known = _known(indexer, types, rows) if indexer is not None else []
    if indexer is None or not known:
        return rows.count(), []
    sources = dict(zip(indexer.getInputCols(), indexer.getOutputCols(), strict=True))
    cast = rows.select(*[column(name).try_cast(types[name]).alias(name) for name in {each.name for each in known}])
    texts = [_text(source, output, cast).alias(source) for source, output in sources.items()]
    indexed = indexer.transform(cast.select(*texts))
    places = {output: source for source, output in zip(indexer.getInputCols(), indexer.getOutputCols(), strict=True)}
    is_new = {each.name: (F.col(each.index) == each.values) & F.col(places[each.index]).isNotNull() for each in known}
    counted = indexed.agg(F.count("*"), *[F.count_if(flag) for flag in is_new.values()]).collect()[0]
    found = dict(zip(is_new, counted[1:], strict=True))
    values = _values(indexed, {each.name: (is_new[each.name], places[each.index]) for each in known if found[each.name]})
    exact = {each.name: each.values < MAX_VALUES for each in known}
    return int(counted[0]), [Unseen(name, int(n), tuple(values.get(name, ())), exact[name]) for name, n in found.items()]


def _is_ours(indexer: StringIndexerModel) -> bool:
    """Return True for the indexer of the features, not one of a custom stage."""
    return bool(indexer.isSet("outputCols")) and all(output.startswith(PREFIX) for output in indexer.getOutputCols())


def _known(indexer: StringIndexerModel, types: Mapping[str, str], rows: DataFrame) -> list[_Known]:
    """Return for each raw column the index that knows most: that of all values seen, where a model has one."""
    found: dict[str, _Known] = {}
    for output, labels in zip(indexer.getOutputCols(), indexer.labelsArray, strict=True):
        name = original(output)
        if name in types and name in rows.columns:
            each = _Known(name, output, len(labels))
            best = found.get(name)
            if best is None or role_of(output) == "seen" or (role_of(best.index) != "seen" and each.values > best.values):
                found[name] = each
    return list(found.values())


def _text(source: str, output: str, cast: DataFrame) -> Column:
    """Return the text that the indexer reads; null for a pair of columns, which is not looked at."""
    name = original(output)
    return F.expr(category_sql(name)) if name in cast.columns else F.lit(None).cast("string")


def _values(indexed: DataFrame, wanted: Mapping[str, tuple[Column, str]]) -> dict[str, list[tuple[str, int]]]:
    """Return the most frequent unseen values of each column with their rows, ties by their text."""
    if not wanted:
        return {}
    names = list(wanted)
    each = [
        F.when(flag, F.struct(F.lit(place).alias("place"), F.col(source).alias("value")))
        for place, (flag, source) in enumerate(wanted.values())
    ]
    told = indexed.select(F.explode(F.array_compact(F.array(*each))).alias("c")).select("c.place", "c.value")
    counted = told.groupBy("place", "value").agg(F.count("*").alias("n"))
    order = Window.partitionBy("place").orderBy(F.desc("n"), "value")
    ranked = counted.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= _SHOWN).orderBy("place", "rank")
    found: dict[str, list[tuple[str, int]]] = {}
    for row in ranked.collect():
        found.setdefault(names[row["place"]], []).append((row["value"], row["n"]))
    return found
