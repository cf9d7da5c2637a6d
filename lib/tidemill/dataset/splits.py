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
from tidemill.dataset.exact_quantiles import Boundary, Number, find_boundaries
from tidemill.dataset.time_axis import to_duration, to_time_axis
from tidemill.errors import ExpectationRefused, Fault, SpecError, did_you_mean
from tidemill.spec.models import Dataset, Split

MAX_STRATIFIED_CLASSES = 1000
_NO_CLASS = "\0"  # rows without a label are stratified_assignment out as a class of their own


def stratified_assignment(df: DataFrame, label: Column, code: Column, shares: Sequence[float], *, what: str, turn: bool = False) -> Column:
    """Return the part (INT, from 0) of each row: part ``p`` gets ``shares[p]`` of the rows of each class, rounded to whole rows.

    Within a class, rows go to the parts in ascending order of ``code``, a BIGINT hash of the key, so the assignment depends on the set of
    rows alone. ``turn`` starts each class at another part, so that the rows left over by rounding do not all go to the same one.

    Raises:
        ExpectationRefused: there are more classes than `MAX_STRATIFIED_CLASSES`.
    """
    named = F.coalesce(label.cast("string"), F.lit(_NO_CLASS))
    bounds = _part_bounds(df.select(named.alias("class"), code.alias("code")), shares)
    names = sorted({name for name, _ in bounds})
    if len(names) > MAX_STRATIFIED_CLASSES + 1:
        raise ExpectationRefused(
            f"dataset: `stratified: true` splits by the classes of {what}, which has more than {MAX_STRATIFIED_CLASSES:,};"
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


def _part_bounds(rows: DataFrame, shares: Sequence[float]) -> list[tuple[str, int | None]]:
    """Return, for each class, the code of the first row of each part but the first; None where a part would begin after all rows."""
    # The leading bits divide a class into ranges of the order, so that no Spark task has to sort a whole class.
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
    # The first row of a class stands for the class; two parts that begin at one row are two bounds.
    at = first.where((F.col("rank") == 0) | F.array_contains("begins", F.col("rank")))
    several = at.select("class", "code", F.array_size(F.filter("begins", lambda begin: begin == F.col("rank"))).alias("times"))
    bounds = several.limit((MAX_STRATIFIED_CLASSES + 2) * (len(shares) + 1)).collect()
    return [(row["class"], row["code"] if row["times"] else None) for row in bounds for _ in range(max(row["times"], 1))]


_SHARES = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hash_columns(columns: Sequence[str], seed: int, *, stream: str | None = None) -> Column:
    """Return a BIGINT hash of the columns' text, so that an INT 7 and a BIGINT 7 have one hash; nulls are skipped.

    Hashes of different ``stream`` names are independent of each other.
    """
    texts = [_col(column).cast("string") for column in columns]
    return F.xxhash64(*([F.lit(stream)] if stream else []), *texts, F.lit(seed))


def is_test_by_hash(columns: Sequence[str], seed: int, share: float) -> Column:
    """Return true for about ``share`` of the keys."""
    return F.pmod(hash_columns(columns, seed), F.lit(_SHARES)) < F.lit(round(share * _SHARES))


def fold_by_hash(columns: Sequence[str], seed: int, folds: int) -> Column:
    """Return the fold, 0 to ``folds`` - 1, by a hash that is independent of the test split's."""
    return F.pmod(hash_columns(columns, seed, stream="fold"), F.lit(folds)).cast("int")


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
    """Add ``split`` (STRING, train or test) and ``fold`` (INT, 0 to ``folds`` - 1, null on test) to every row; return the rows and notes.

    With a ``gap``, rows closer than it to the test rows have the ``split`` gap, and training rows closer than it to the next time block
    have no fold.

    ``df`` is read several times; pass a cached one.

    Raises:
        SpecError: the rule names a missing column or one of a wrong type.
        ExpectationRefused: the train or test side or a fold would be empty, an ``event_time`` is null, or the split column holds
            other values than train and test.
    """
    rule = dataset.split_rule()
    faults = split_faults(df.columns, dataset)
    if faults:
        raise SpecError(faults)
    side = _split_column(df, dataset, rule)
    fold, notes = _fold_column(df.where(side == "train"), dataset, rule, folds)
    other_columns = [_col(name) for name in df.columns if name.lower() not in ("split", "fold")]
    marked = df.select(*other_columns, side.alias("split"), F.when(side == "train", fold).cast("int").alias("fold"))
    counts = {(row["split"], row["fold"]): row["count"] for row in marked.groupBy("split", "fold").count().collect()}
    _refuse_empty(counts, folds, rule)
    return marked, (*notes, *_notes(counts, rule))


def _split_column(df: DataFrame, dataset: Dataset, rule: Split) -> Column:
    """Return the split of each row: train, test or gap."""
    if rule.by == "time":
        at = to_time_axis(df, str(dataset.event_time))
        boundary = _find_test_boundary(df, dataset, rule)
        side = F.when(boundary.is_passed(at), "test")
        if rule.gap is not None:
            side = side.when(_is_within_gap(df, dataset, rule, [boundary]), "gap")
        return side.otherwise("train")
    if rule.by == "column":
        is_test = _is_test_by_column(df, str(rule.column))
    elif rule.stratified:
        shares = [float(rule.test), 1 - float(rule.test)]
        is_test = (
            stratified_assignment(df, _col(str(dataset.label)), hash_columns(dataset.key, rule.seed), shares, what=str(dataset.label)) == 0
        )
    else:
        is_test = is_test_by_hash([str(rule.group)] if rule.by == "group" else dataset.key, rule.seed, float(rule.test))
    return F.when(is_test, "test").otherwise("train")


def _is_within_gap(df: DataFrame, dataset: Dataset, rule: Split, boundaries: Sequence[Boundary]) -> Column:
    """Return true for the rows below a boundary that are less than the gap away from the first row above it."""
    column = str(dataset.event_time)
    at = to_time_axis(df, column)
    width = to_duration(rule.gap or 0, df.schema[column].dataType, "split.gap")
    behind = [boundary for boundary in boundaries if boundary.is_behind]
    firsts = df.agg(*[F.min(F.when(boundary.is_passed(at), at)) for boundary in behind]).collect()[0] if behind else ()
    begins = [*(boundary.value for boundary in boundaries if not boundary.is_behind), *(first for first in firsts if first is not None)]
    return reduce(Column.__or__, [(at < F.lit(begin)) & (at > F.lit(begin - width)) for begin in begins], F.lit(False))


def _fold_column(train: DataFrame, dataset: Dataset, rule: Split, folds: int) -> tuple[Column, tuple[str, ...]]:
    """Return the fold of the training rows, as declared or as implied by the split, and notes."""
    by = rule.folds_rule
    notes: tuple[str, ...] = ()
    if by in ("time", "expanding"):
        column = str(dataset.event_time)
        boundaries = _find_fold_boundaries(train, column, folds)
        if boundaries is not None:
            at = to_time_axis(train, column)
            fold = sum((boundary.is_passed(at).cast("int") for boundary in boundaries), start=F.lit(0))
            return (fold if rule.gap is None else F.when(~_is_within_gap(train, dataset, rule, boundaries), fold)), ()
        few = f"the training rows have no more than {folds} different values of {column}"
        if rule.folds_by is not None:
            needs = f"`folds_by: {by}` needs more instants than folds, and {few}"
            raise ExpectationRefused(f"dataset: {needs}; lower `training.folds`, or write `folds_by: hash`")
        notes = (f"{few}: folds are assigned by hash, not by time blocks",)
    if not rule.stratified:
        return fold_by_hash([str(rule.group)] if by == "group" else dataset.key, rule.seed, folds), notes
    code = hash_columns(dataset.key, rule.seed, stream="fold")
    return stratified_assignment(train, _col(str(dataset.label)), code, [1 / folds] * folds, what=str(dataset.label), turn=True), notes


def _time_range(df: DataFrame, column: str, instead: str) -> tuple[Number, Number, int]:
    """Return the least and greatest instant and the number of rows; refuse rows without an instant."""
    at = to_time_axis(df, column)
    stats = df.agg(F.count("*").alias("rows"), F.count(at).alias("known"), F.min(at).alias("low"), F.max(at).alias("high")).collect()[0]
    if stats["known"] < stats["rows"]:
        raise ExpectationRefused(
            f"dataset: {stats['rows'] - stats['known']:,} of {stats['rows']:,} rows have no {column}, by which they are split;"
            f" filter them out or fill it in the SQL, or choose `{instead}`"
        )
    return stats["low"], stats["high"], stats["rows"]


def _find_test_boundary(df: DataFrame, dataset: Dataset, rule: Split) -> Boundary:
    """Return the boundary where the test rows begin: at the spec's instant, or so that the latest share of rows lies above it."""
    column = str(dataset.event_time)
    low, high, rows = _time_range(df, column, "split: {by: hash}")
    if isinstance(rule.test, str):
        return Boundary(_parse_instant(rule.test, df.schema[column].dataType), False, 0)
    if rows == 0 or low == high or not 0 < rule.test < 1:
        shown = f"all {rows:,} rows share one {column}" if rows and low == high else f"`test: {rule.test}` of {rows:,} rows"
        raise ExpectationRefused(f"dataset: no split by time leaves both train and test rows: {shown}; choose another `split` or `test`")
    return find_boundaries(df, to_time_axis(df, column), [rows * (1 - rule.test)], low=low, high=high, rows=rows)[0]


def _parse_instant(text: str, kind: T.DataType) -> Number:
    """Return the spec's instant in the unit of ``to_time_axis``."""
    try:
        if isinstance(kind, T.NumericType):
            return int(text) if isinstance(kind, T.IntegralType) else float(text)
        instant = datetime.fromisoformat(text)
    except ValueError:
        expected = "a number" if isinstance(kind, T.NumericType) else 'an instant such as "2013-11-01" or "2013-11-01T06:00:00"'
        message = f"{text!r} is neither a share such as 0.2 nor {expected}, as the type of event_time asks"
        raise SpecError([_fault("split.test", message)]) from None
    return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _find_fold_boundaries(train: DataFrame, column: str, folds: int) -> list[Boundary] | None:
    """Return the boundaries between time blocks of about equal numbers of rows; None if there are too few instants."""
    low, high, rows = _time_range(train, column, "split.folds_by: hash")
    at = to_time_axis(train, column)
    distinct = train.select(at.alias("at")).distinct()
    if distinct.limit(folds + 1).count() <= folds:
        return None
    boundaries = find_boundaries(train, at, [rows * fold / folds for fold in range(1, folds)], low=low, high=high, rows=rows)
    if len({boundary.before for boundary in boundaries}) == len(boundaries):
        return boundaries
    # One instant has more rows than a fold should: use blocks of about equal numbers of instants, so that no fold is empty.
    count = distinct.count()
    return find_boundaries(distinct, F.col("at"), [count * fold / folds for fold in range(1, folds)], low=low, high=high, rows=count)


def _is_test_by_column(df: DataFrame, column: str) -> Column:
    """Return true where the split column says test; refuse other values than train and test."""
    word = F.lower(F.trim(_col(column).cast("string")))
    invalid = df.where(~F.coalesce(word.isin("train", "test"), F.lit(False)))
    values = invalid.groupBy(_col(column).cast("string").alias("value")).count().orderBy(F.desc("count"), "value").limit(6).collect()
    if values:
        named = ", ".join(f"{'null' if row['value'] is None else repr(row['value'])} ({row['count']:,} rows)" for row in values[:5])
        raise ExpectationRefused(
            f"dataset: the split column {column} holds {named}{', …' if len(values) > 5 else ''};"
            " expected 'train' or 'test' in every row: map them in the SQL"
        )
    return word == "test"


def _refuse_empty(counts: Mapping[tuple[str, int | None], int], folds: int, rule: Split) -> None:
    rows = sum(counts.values())
    gap = "" if rule.gap is None else f" and `gap: {rule.gap}`"
    for side in ("train", "test"):
        if not any(split == side for split, _ in counts):
            what = "the data's own column" if rule.by == "column" else f"`test: {rule.test}`"
            problem = f"`split: {{by: {rule.by}}}` with {what}{gap} leaves no {side} row among {rows:,}"
            raise ExpectationRefused(f"dataset: {problem}; choose another `split` or `test`")
    empty = [str(fold) for fold in range(folds) if ("train", fold) not in counts]
    if empty:
        raise ExpectationRefused(
            f"dataset: fold {', '.join(empty)} of {folds} has no row among {rows:,};"
            f" lower `training.folds`{' or `split.gap`' if gap else ''} or choose another `split.folds_by`"
        )


def _notes(counts: Mapping[tuple[str, int | None], int], rule: Split) -> tuple[str, ...]:
    """Return notes on rows that a gap leaves out, and on a test side whose share is far from the declared one."""
    rows = sum(counts.values())
    notes = []
    if rule.gap is not None:
        left, between = counts.get(("gap", None), 0), counts.get(("train", None), 0)
        notes.append(f"gap {rule.gap}: {left:,} rows before the test belong to neither side, {between:,} training rows have no fold")
    share = counts.get(("test", None), 0) / rows
    if not isinstance(rule.test, str) and rule.by != "column":
        by_chance = 4 * math.sqrt(rule.test * (1 - rule.test) / rows)
        if abs(share - rule.test) > max(0.1 * rule.test, by_chance):
            why = {"group": "groups are of very different size", "time": "many rows share an instant"}.get(rule.by, "there are few keys")
            notes.append(f"the test side holds {share:.1%} of the rows, not {rule.test:.1%}: {why}")
    return tuple(notes)


def _fault(key: str, message: str) -> Fault:
    return Fault("pipeline.yml", None, f"dataset.{key}", message)
