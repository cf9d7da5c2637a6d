"""The columns ``split`` and ``fold`` of a dataset: from hashes of keys, from exact instants, or from the data's own column.

A row's split depends on its own values and on the set of rows, never on how the rows are spread over partitions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column as _col
from tidemill.dataset.exact_quantiles import Cut, Number, cuts_at
from tidemill.dataset.time_axis import instants, span
from tidemill.errors import ExpectationRefused, Fault, SpecError, did_you_mean
from tidemill.spec.models import Dataset, Split

MOST_CLASSES = 1000
_NO_CLASS = "\0"  # rows without a label are dealt out as a class of their own


def dealt(df: DataFrame, label: Column, code: Column, shares: Sequence[float], *, what: str, turn: bool = False) -> Column:
    """Return the part (INT, from 0) of each row: of every class, the part ``p`` gets ``shares[p]`` of the rows, to the nearest row.

    In a class, the rows with the least ``code`` are the first part's. ``code`` is a BIGINT hash of the key, so where a row falls depends on
    the set of rows and on nothing else. ``turn`` begins each class at another part, so that odd rows do not all fall to the same one.

    Raises:
        ExpectationRefused: there are more classes than can be.
    """
    named = F.coalesce(label.cast("string"), F.lit(_NO_CLASS))
    bounds = _bounds(df.select(named.alias("class"), code.alias("code")), shares)
    names = sorted({name for name, _ in bounds})
    if len(names) > MOST_CLASSES + 1:
        raise ExpectationRefused(
            f"dataset: `stratified: true` deals rows out by the classes of {what}, which has more than {MOST_CLASSES:,};"
            " leave it out, or map the classes in the SQL"
        )
    codes: dict[str, list[int]] = {name: [] for name in names}
    for name, bound in bounds:
        if bound is not None:
            codes[name].append(bound)
    literals = [part for name in names for part in (F.lit(name), F.lit(codes[name]).cast("array<bigint>"))]
    if not literals:
        return F.lit(0)
    part = F.array_size(F.filter(F.element_at(F.create_map(*literals), named), lambda bound: bound <= code))
    if not turn:
        return part
    first = F.element_at(F.create_map(*[F.lit(part) for pair in zip(names, range(len(names)), strict=True) for part in pair]), named)
    return F.pmod(part + first, F.lit(len(shares))).cast("int")


def _bounds(rows: DataFrame, shares: Sequence[float]) -> list[tuple[str, int | None]]:
    """Return, for each class, the code of the first row of each part but the first; null where a part would begin behind all rows."""
    # The leading bits cut a class into stretches of the order, so that no task has to sort the whole of one.
    narrow = rows.select("class", "code", F.shiftright("code", 54).alias("stretch"))
    order = Window.partitionBy("class").orderBy("stretch")
    counted = narrow.groupBy("class", "stretch").agg(F.count("*").alias("n"))
    offsets = counted.select(
        "class", "stretch",
        F.coalesce(F.sum("n").over(order.rowsBetween(Window.unboundedPreceding, -1)), F.lit(0)).alias("before"),
        F.sum("n").over(Window.partitionBy("class")).alias("total"),
    )  # fmt: skip
    behind = [round(sum(shares[:number]), 12) for number in range(1, len(shares))]
    ranked = narrow.withColumn("rank", F.row_number().over(Window.partitionBy("class", "stretch").orderBy("code")) - 1)
    joined = ranked.join(offsets, ["class", "stretch"]).withColumn("rank", F.col("rank") + F.col("before"))
    begins = F.array(*[F.floor(F.col("total") * F.lit(share) + 0.5).cast("bigint") for share in behind])
    first = joined.withColumn("begins", begins)
    # A class is known by its first row; two parts that begin at one row are two bounds.
    at = first.where((F.col("rank") == 0) | F.array_contains("begins", F.col("rank")))
    several = at.select("class", "code", F.array_size(F.filter("begins", lambda begin: begin == F.col("rank"))).alias("times"))
    found = several.limit((MOST_CLASSES + 2) * (len(shares) + 1)).collect()
    return [(row["class"], row["code"] if row["times"] else None) for row in found for _ in range(max(row["times"], 1))]


_SHARES = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hashed(columns: Sequence[str], seed: int, *, stream: str | None = None) -> Column:
    """Return a BIGINT hash of the columns' text: of the values alone, so an INT and a BIGINT 7 are one key; null hashes like no value.

    Each ``stream`` is a sequence of hashes of its own, independent of the others.
    """
    texts = [_col(column).cast("string") for column in columns]
    return F.xxhash64(*([F.lit(stream)] if stream else []), *texts, F.lit(seed))


def is_test_by_hash(columns: Sequence[str], seed: int, share: float) -> Column:
    """Return true for about ``share`` of the keys."""
    return F.pmod(hashed(columns, seed), F.lit(_SHARES)) < F.lit(round(share * _SHARES))


def fold_by_hash(columns: Sequence[str], seed: int, folds: int) -> Column:
    """Return the fold, 0 to ``folds`` - 1, by a hash that knows nothing of the test split's."""
    return F.pmod(hashed(columns, seed, stream="fold"), F.lit(folds)).cast("int")


def split_faults(columns: Sequence[str], dataset: Dataset) -> list[Fault]:
    """Return every fault of the dataset's split rule against the columns of the dataset."""
    rule = dataset.split_rule()
    faults = []
    if "group" in (rule.by, rule.folds_by) and rule.group is None:
        faults.append(_fault("split.group", "missing; `folds_by: group` needs `group: <column>`"))
    if rule.folds_by in ("time", "expanding") and dataset.event_time is None:
        faults.append(_fault("event_time", f"missing; `folds_by: {rule.folds_by}` needs it"))
    for key, column in (("split.group", rule.group), ("split.column", rule.column), ("event_time", dataset.event_time)):
        if column is not None and column not in columns:
            faults.append(_fault(key, f"column {column!r} is not in the dataset{did_you_mean(column, columns)}"))
    return faults


def add_split(df: DataFrame, dataset: Dataset, folds: int) -> DataFrame:
    """Add ``split`` and ``fold`` to every row, as ``split_rows`` does."""
    return split_rows(df, dataset, folds)[0]


def split_rows(df: DataFrame, dataset: Dataset, folds: int) -> tuple[DataFrame, tuple[str, ...]]:
    """Add ``split`` (STRING, train or test) and ``fold`` (INT, 0 to ``folds`` - 1, null on test) to every row; return notes too.

    With a ``gap`` there is a third ``split``, gap: rows too near the test for a model to have learned from them; and a training row too
    near the next block of time has no fold.

    ``df`` is read several times; hand in a cached one.

    Raises:
        SpecError: the rule names a column that is not there or does not fit.
        ExpectationRefused: a side or a fold would be empty, an ``event_time`` is null, or a column holds other than train and test.
    """
    rule = dataset.split_rule()
    faults = split_faults(df.columns, dataset)
    if faults:
        raise SpecError(faults)
    side = _side(df, dataset, rule)
    fold, notes = _fold(df.where(side == "train"), dataset, rule, folds)
    kept = [_col(name) for name in df.columns if name.lower() not in ("split", "fold")]
    marked = df.select(*kept, side.alias("split"), F.when(side == "train", fold).cast("int").alias("fold"))
    counts = {(row["split"], row["fold"]): row["count"] for row in marked.groupBy("split", "fold").count().collect()}
    _refuse_empty(counts, folds, rule)
    return marked, (*notes, *_remarks(counts, rule))


def _side(df: DataFrame, dataset: Dataset, rule: Split) -> Column:
    """Return train, test or gap."""
    if rule.by == "time":
        at = instants(df, str(dataset.event_time))
        cut = _test_cut(df, dataset, rule)
        side = F.when(cut.is_passed(at), "test")
        if rule.gap is not None:
            side = side.when(_is_near(df, dataset, rule, [cut]), "gap")
        return side.otherwise("train")
    if rule.by == "column":
        is_test = _own_column(df, str(rule.column))
    elif rule.stratified:
        shares = [float(rule.test), 1 - float(rule.test)]
        is_test = dealt(df, _col(str(dataset.label)), hashed(dataset.key, rule.seed), shares, what=str(dataset.label)) == 0
    else:
        is_test = is_test_by_hash([str(rule.group)] if rule.by == "group" else dataset.key, rule.seed, float(rule.test))
    return F.when(is_test, "test").otherwise("train")


def _is_near(df: DataFrame, dataset: Dataset, rule: Split, cuts: Sequence[Cut]) -> Column:
    """Return true for the rows in front of a cut that are less than the gap away from what begins behind it."""
    column = str(dataset.event_time)
    at = instants(df, column)
    width = span(rule.gap or 0, df.schema[column].dataType, "split.gap")
    behind = [cut for cut in cuts if cut.is_behind]
    firsts = df.agg(*[F.min(F.when(cut.is_passed(at), at)) for cut in behind]).collect()[0] if behind else ()
    begins = [*(cut.value for cut in cuts if not cut.is_behind), *(first for first in firsts if first is not None)]
    return reduce(Column.__or__, [(at < F.lit(begin)) & (at > F.lit(begin - width)) for begin in begins], F.lit(False))


def _fold(train: DataFrame, dataset: Dataset, rule: Split, folds: int) -> tuple[Column, tuple[str, ...]]:
    """Return the fold of training rows, by the rule or by what goes with the split, and notes."""
    by = rule.folds_rule
    notes: tuple[str, ...] = ()
    if by in ("time", "expanding"):
        column = str(dataset.event_time)
        cuts = _fold_cuts(train, column, folds)
        if cuts is not None:
            at = instants(train, column)
            fold = sum((cut.is_passed(at).cast("int") for cut in cuts), start=F.lit(0))
            return (fold if rule.gap is None else F.when(~_is_near(train, dataset, rule, cuts), fold)), ()
        few = f"the training rows have no more than {folds} different values of {column}"
        if rule.folds_by is not None:
            needs = f"`folds_by: {by}` needs more instants than folds, and {few}"
            raise ExpectationRefused(f"dataset: {needs}; lower `training.folds`, or write `folds_by: hash`")
        notes = (f"{few}: folds go by hash, not by blocks of time",)
    if not rule.stratified:
        return fold_by_hash([str(rule.group)] if by == "group" else dataset.key, rule.seed, folds), notes
    code = hashed(dataset.key, rule.seed, stream="fold")
    return dealt(train, _col(str(dataset.label)), code, [1 / folds] * folds, what=str(dataset.label), turn=True), notes


def _block_bounds(df: DataFrame, column: str, instead: str) -> tuple[Number, Number, int]:
    """Return the least and greatest instant and the number of rows; refuse rows without one."""
    at = instants(df, column)
    found = df.agg(F.count("*").alias("rows"), F.count(at).alias("known"), F.min(at).alias("low"), F.max(at).alias("high")).collect()[0]
    if found["known"] < found["rows"]:
        raise ExpectationRefused(
            f"dataset: {found['rows'] - found['known']:,} of {found['rows']:,} rows have no {column}, by which they are split;"
            f" filter them out or fill it in the SQL, or choose `{instead}`"
        )
    return found["low"], found["high"], found["rows"]


def _test_cut(df: DataFrame, dataset: Dataset, rule: Split) -> Cut:
    """Return where the test rows begin: at an instant of the spec, or so that the latest share of rows lies behind."""
    column = str(dataset.event_time)
    low, high, rows = _block_bounds(df, column, "split: {by: hash}")
    if isinstance(rule.test, str):
        return Cut(_instant(rule.test, df.schema[column].dataType), False, 0)
    if rows == 0 or low == high or not 0 < rule.test < 1:
        shown = f"all {rows:,} rows share one {column}" if rows and low == high else f"`test: {rule.test}` of {rows:,} rows"
        raise ExpectationRefused(f"dataset: no split by time leaves both train and test rows: {shown}; choose another `split` or `test`")
    return cuts_at(df, instants(df, column), [rows * (1 - rule.test)], low=low, high=high, rows=rows)[0]


def _instant(text: str, kind: T.DataType) -> Number:
    """Return the spec's instant in the unit of ``instants``."""
    try:
        if isinstance(kind, T.NumericType):
            return int(text) if isinstance(kind, T.IntegralType) else float(text)
        found = datetime.fromisoformat(text)
    except ValueError:
        expected = "a number" if isinstance(kind, T.NumericType) else 'an instant such as "2013-11-01" or "2013-11-01T06:00:00"'
        message = f"{text!r} is neither a share such as 0.2 nor {expected}, as the type of event_time asks"
        raise SpecError([_fault("split.test", message)]) from None
    return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _fold_cuts(train: DataFrame, column: str, folds: int) -> list[Cut] | None:
    """Return the cuts between blocks of time with about equal numbers of rows; None where the instants are too few for blocks."""
    low, high, rows = _block_bounds(train, column, "split.folds_by: hash")
    at = instants(train, column)
    distinct = train.select(at.alias("at")).distinct()
    if distinct.limit(folds + 1).count() <= folds:
        return None
    cuts = cuts_at(train, at, [rows * fold / folds for fold in range(1, folds)], low=low, high=high, rows=rows)
    if len({cut.before for cut in cuts}) == len(cuts):
        return cuts
    # One instant holds more rows than a fold should: blocks of about equal numbers of instants, so that no fold is empty.
    count = distinct.count()
    return cuts_at(distinct, F.col("at"), [count * fold / folds for fold in range(1, folds)], low=low, high=high, rows=count)


def _own_column(df: DataFrame, column: str) -> Column:
    """Return true where the data's own column says test; refuse values that say neither."""
    word = F.lower(F.trim(_col(column).cast("string")))
    strange = df.where(~F.coalesce(word.isin("train", "test"), F.lit(False)))
    found = strange.groupBy(_col(column).cast("string").alias("value")).count().orderBy(F.desc("count"), "value").limit(6).collect()
    if found:
        named = ", ".join(f"{'null' if row['value'] is None else repr(row['value'])} ({row['count']:,} rows)" for row in found[:5])
        raise ExpectationRefused(
            f"dataset: the split column {column} holds {named}{', …' if len(found) > 5 else ''};"
            " expected 'train' or 'test' in every row: map them in the SQL"
        )
    return word == "test"


def _refuse_empty(counts: Mapping[tuple[str, int | None], int], folds: int, rule: Split) -> None:
    rows = sum(counts.values())
    gap = "" if rule.gap is None else f" and `gap: {rule.gap}`"
    for side in ("train", "test"):
        if not any(split == side for split, _ in counts):
            what = "the data's own column" if rule.by == "column" else f"`test: {rule.test}`"
            found = f"`split: {{by: {rule.by}}}` with {what}{gap} leaves no {side} row among {rows:,}"
            raise ExpectationRefused(f"dataset: {found}; choose another `split` or `test`")
    empty = [str(fold) for fold in range(folds) if ("train", fold) not in counts]
    if empty:
        raise ExpectationRefused(
            f"dataset: fold {', '.join(empty)} of {folds} has no row among {rows:,};"
            f" lower `training.folds`{' or `split.gap`' if gap else ''} or choose another `split.folds_by`"
        )


def _remarks(counts: Mapping[tuple[str, int | None], int], rule: Split) -> tuple[str, ...]:
    """Return notes on rows that a gap leaves out, and on a test side that is far from the share that was asked for."""
    rows = sum(counts.values())
    notes = []
    if rule.gap is not None:
        left, between = counts.get(("gap", None), 0), counts.get(("train", None), 0)
        notes.append(
            f"gap {rule.gap}: {left:,} rows before the test are in neither side, {between:,} training rows between blocks in no fold"
        )
    share = counts.get(("test", None), 0) / rows
    if not isinstance(rule.test, str) and rule.by != "column":
        by_chance = 4 * math.sqrt(rule.test * (1 - rule.test) / rows)
        if abs(share - rule.test) > max(0.1 * rule.test, by_chance):
            why = {"group": "groups are of very different size", "time": "many rows share an instant"}.get(rule.by, "there are few keys")
            notes.append(f"the test side holds {share:.1%} of the rows, not {rule.test:.1%}: {why}")
    return tuple(notes)


def _fault(key: str, message: str) -> Fault:
    return Fault("pipeline.yml", None, f"dataset.{key}", message)
