"""The columns ``split`` and ``fold`` of a dataset: from hashes of keys, from exact instants, or from the data's own column.

A row's split depends on its own values and on the set of rows, never on how the rows are spread over partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.cuts import Cut, Number, cuts_at
from tidemill.errors import ExpectationRefused, Fault, SpecError, did_you_mean
from tidemill.lake.names import quoted
from tidemill.spec.models import Dataset, Split

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


def instants(df: DataFrame, column: str) -> Column:
    """Return the column as a BIGINT (microseconds since 1970 for times) or, for fractions, a DOUBLE; null where it is not finite.

    Raises:
        SpecError: the column's type has no order that time could follow.
    """
    kind = df.schema[column].dataType
    value = _col(column)
    if isinstance(kind, T.DateType | T.TimestampType | T.TimestampNTZType):
        return F.unix_micros(value.cast("timestamp"))
    if isinstance(kind, T.IntegralType):
        return value.cast("bigint")
    if isinstance(kind, T.NumericType):
        number = value.cast("double")
        return F.when(F.abs(number) < F.lit(float("inf")), number)
    message = f"{column} is of type {kind.simpleString()}; expected TIMESTAMP, DATE or a number: CAST it in the SQL"
    raise SpecError([_fault("event_time", message)])


def split_faults(columns: Sequence[str], dataset: Dataset) -> list[Fault]:
    """Return every fault of the dataset's split rule against the columns of the dataset."""
    rule = dataset.split_rule()
    faults = []
    if "group" in (rule.by, rule.folds_by) and rule.group is None:
        faults.append(_fault("split.group", "missing; `folds_by: group` needs `group: <column>`"))
    if rule.folds_by == "time" and dataset.event_time is None:
        faults.append(_fault("event_time", "missing; `folds_by: time` needs it"))
    for key, column in (("split.group", rule.group), ("split.column", rule.column), ("event_time", dataset.event_time)):
        if column is not None and column not in columns:
            faults.append(_fault(key, f"column {column!r} is not in the dataset{did_you_mean(column, columns)}"))
    return faults


def add_split(df: DataFrame, dataset: Dataset, folds: int) -> DataFrame:
    """Add ``split`` (STRING, train or test) and ``fold`` (INT, 0 to ``folds`` - 1, null on test) to every row.

    ``df`` is read several times; hand in a cached one.

    Raises:
        SpecError: the rule names a column that is not there or does not fit.
        ExpectationRefused: a side or a fold would be empty, an ``event_time`` is null, or a column holds other than train and test.
    """
    rule = dataset.split_rule()
    faults = split_faults(df.columns, dataset)
    if faults:
        raise SpecError(faults)
    is_test = _is_test(df, dataset, rule)
    fold = _fold(df.where(~is_test), dataset, rule, folds)
    kept = [_col(name) for name in df.columns if name.lower() not in ("split", "fold")]
    marked = df.select(
        *kept,
        F.when(is_test, "test").otherwise("train").alias("split"),
        F.when(~is_test, fold).cast("int").alias("fold"),
    )
    _refuse_empty(marked, folds, rule)
    return marked


def _is_test(df: DataFrame, dataset: Dataset, rule: Split) -> Column:
    if rule.by == "column":
        return _own_column(df, str(rule.column))
    if rule.by == "time":
        return _test_cut(df, dataset, rule).is_passed(instants(df, str(dataset.event_time)))
    keys = [str(rule.group)] if rule.by == "group" else dataset.key
    return is_test_by_hash(keys, rule.seed, float(rule.test))


def _fold(train: DataFrame, dataset: Dataset, rule: Split, folds: int) -> Column:
    """Return the fold of training rows, by the rule or by what goes with the split."""
    by = rule.folds_by or {"time": "time", "group": "group"}.get(rule.by, "hash")
    if by == "time":
        cuts = _fold_cuts(train, str(dataset.event_time), folds)
        if cuts is not None:
            at = instants(train, str(dataset.event_time))
            return sum((cut.is_passed(at).cast("int") for cut in cuts), start=F.lit(0))
    return fold_by_hash([str(rule.group)] if by == "group" else dataset.key, rule.seed, folds)


def _bounds(df: DataFrame, column: str) -> tuple[Number, Number, int]:
    """Return the least and greatest instant and the number of rows; refuse rows without one."""
    at = instants(df, column)
    found = df.agg(F.count("*").alias("rows"), F.count(at).alias("known"), F.min(at).alias("low"), F.max(at).alias("high")).collect()[0]
    if found["known"] < found["rows"]:
        raise ExpectationRefused(
            f"dataset: {found['rows'] - found['known']:,} of {found['rows']:,} rows have no {column}, which decides their split;"
            " filter them out or fill it in the SQL, or choose `split: {by: hash}`"
        )
    return found["low"], found["high"], found["rows"]


def _test_cut(df: DataFrame, dataset: Dataset, rule: Split) -> Cut:
    """Return where the test rows begin: at an instant of the spec, or so that the latest share of rows lies behind."""
    column = str(dataset.event_time)
    low, high, rows = _bounds(df, column)
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
    low, high, rows = _bounds(train, column)
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


def _refuse_empty(marked: DataFrame, folds: int, rule: Split) -> None:
    counts = {(row["split"], row["fold"]): row["count"] for row in marked.groupBy("split", "fold").count().collect()}
    rows = sum(counts.values())
    for side in ("train", "test"):
        if not any(split == side for split, _ in counts):
            what = "the data's own column" if rule.by == "column" else f"`test: {rule.test}`"
            raise ExpectationRefused(
                f"dataset: `split: {{by: {rule.by}}}` with {what} leaves no {side} row among {rows:,}; choose another `split` or `test`"
            )
    empty = [str(fold) for fold in range(folds) if ("train", fold) not in counts]
    if empty:
        raise ExpectationRefused(
            f"dataset: fold {', '.join(empty)} of {folds} has no row among {rows:,};"
            " lower `training.folds` or choose another `split.folds_by`"
        )


def _col(column: str) -> Column:
    """Return the column of exactly this name, dots and spaces included."""
    return F.col(quoted(column))


def _fault(key: str, message: str) -> Fault:
    return Fault("pipeline.yml", None, f"dataset.{key}", message)
