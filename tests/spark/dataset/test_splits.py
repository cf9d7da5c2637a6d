"""Splits and folds: against numpy on the same rows, over many layouts, and what is refused."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from tidemill.dataset.exact_quantiles import find_order_statistics
from tidemill.dataset.splits import add_split, split_rows
from tidemill.errors import ExpectationRefused, SpecError
from tidemill.runtime.caching import cache_frame
from tidemill.spec.models import Dataset

ROWS = 1500
KIND = "CASE WHEN id % 100 < 3 THEN NULL WHEN id % 10 = 7 THEN 'rare' WHEN id = 5 THEN 'single' ELSE 'often' END"


def _dataset(**keys):
    return Dataset.model_validate({"sql": "SELECT 1", "key": ["id"], "label": "y", **keys})


def _marks(df, dataset, folds=3):
    """(split, fold) by id."""
    rows = add_split(df, dataset, folds).select("id", "split", "fold").collect()
    return {row["id"]: (row["split"], row["fold"]) for row in rows}


def _instants(rows=ROWS, distinct=400, seed=3):
    """Random instants of 2013 with many ties, as microseconds."""
    rng = np.random.default_rng(seed)
    start, year = 1_356_998_400_000_000, 365 * 86_400_000_000
    return rng.choice(start + np.sort(rng.integers(0, year, distinct)), rows)


@pytest.fixture(scope="module")
def frame(spark):
    at = _instants()
    data = pd.DataFrame({"id": np.arange(ROWS), "micros": at, "plane": [f"N{i % 37}" for i in range(ROWS)], "y": 1.0})
    df = (
        spark.createDataFrame(data)
        .select("id", F.timestamp_micros("micros").alias("at"), "micros", "plane", "y", F.expr(KIND).alias("kind"))
        .persist()
    )
    yield df
    df.unpersist()


def _nearest_cut(at, target):
    """By brute force: the instant at which the second part begins, the number of rows before it nearest to ``target``."""
    values, counts = np.unique(at, return_counts=True)
    before = np.cumsum(counts) - counts
    return values[1:][np.argmin(np.abs(before[1:] - target))]


LAYOUTS = {
    "one partition": lambda df: df.coalesce(1),
    "two": lambda df: df.repartition(2),
    "seven": lambda df: df.repartition(7),
    "by another column": lambda df: df.repartition(3, "plane"),
    "sorted backwards": lambda df: df.orderBy(F.desc("id")),
    "by range": lambda df: df.repartitionByRange(4, "micros"),
    "halves swapped": lambda df: df.where("id >= 700").unionByName(df.where("id < 700")),
}


@pytest.mark.parametrize(
    "split",
    [
        {"by": "hash", "test": 0.25},
        {"by": "time", "test": 0.2},
        {"by": "time", "test": 0.2, "gap": "6d", "folds_by": "expanding"},
        {"by": "hash", "test": 0.25, "stratified": True},
    ],
    ids=["hash", "time", "gap", "stratified"],
)
def test_the_layout_of_the_rows_does_not_matter(frame, split):
    dataset = _dataset(event_time="at", split=split, label="kind")
    marks = []
    for layout in list(LAYOUTS.values())[:: 3 if "gap" in split or "stratified" in split else 1]:
        with cache_frame(layout(frame).withColumn("more", F.rand())) as df:
            marks.append(_marks(df, dataset))
    assert len(marks[0]) == ROWS
    assert all(mark == marks[0] for mark in marks[1:])


def test_hash_takes_about_the_share_and_folds_know_nothing_of_it(spark):
    df = spark.range(20_000).withColumn("y", F.lit(1))
    marks = pd.Series(_marks(df, _dataset(split={"by": "hash", "test": 0.25}), folds=4))
    split, fold = marks.str[0], marks.str[1]
    # Three standard deviations of a binomial.
    assert abs((split == "test").mean() - 0.25) < 3 * np.sqrt(0.25 * 0.75 / 20_000)
    assert fold[split == "test"].isna().all()
    shares = fold[split == "train"].value_counts(normalize=True)
    assert sorted(shares.index) == [0, 1, 2, 3]
    assert (abs(shares - 0.25) < 3 * np.sqrt(0.25 * 0.75 / 15_000)).all()


def test_hash_goes_by_the_value_of_the_key_and_by_the_seed(spark):
    df = spark.range(500).withColumn("y", F.lit(1))
    as_int = df.withColumn("id", F.col("id").cast("int"))
    assert _marks(df, _dataset()) == _marks(as_int, _dataset())
    assert _marks(df, _dataset()) != _marks(df, _dataset(split={"by": "hash", "seed": 8}))


def test_time_takes_the_latest_share_exactly(frame):
    at = _instants()
    cut = _nearest_cut(at, ROWS * 0.8)
    marks = _marks(frame, _dataset(event_time="at"))
    assert {i for i, (split, _) in marks.items() if split == "test"} == set(np.flatnonzero(at >= cut))


def test_folds_of_time_are_contiguous_blocks_of_equal_size(frame):
    at = _instants()
    train = at[at < _nearest_cut(at, ROWS * 0.8)]
    cuts = [_nearest_cut(train, len(train) * fold / 4) for fold in (1, 2, 3)]
    marks = _marks(frame, _dataset(event_time="at"), folds=4)
    actual = {i: fold for i, (split, fold) in marks.items() if split == "train"}
    expected = np.searchsorted(cuts, at, side="right")
    assert actual == {i: expected[i] for i in actual}
    assert np.abs(np.bincount(list(actual.values())) - len(train) / 4).max() < 12


def test_time_from_an_instant_on(spark, frame):
    marks = _marks(frame, _dataset(event_time="at", split={"by": "time", "test": "2013-11-01"}))
    november = datetime(2013, 11, 1, tzinfo=UTC).timestamp() * 1e6
    assert {i for i, (split, _) in marks.items() if split == "test"} == set(np.flatnonzero(_instants() >= november))
    rows = [*((i, date(2013, 10, 25 + i), 1) for i in range(5)), (9, date(2013, 11, 1), 1)]
    days = spark.createDataFrame(rows, "id INT, day DATE, y INT")
    marks = _marks(days, _dataset(event_time="day", split={"by": "time", "test": "2013-10-29"}), folds=2)
    assert marks == {0: ("train", 0), 1: ("train", 0), 2: ("train", 1), 3: ("train", 1), 4: ("test", None), 9: ("test", None)}


@pytest.mark.parametrize("kind", ["int", "double", "decimal(10,2)", "timestamp_ntz"])
def test_time_follows_whatever_is_ordered(spark, kind):
    at = "id" if kind != "timestamp_ntz" else "timestamp_seconds(id * 3600)"
    df = spark.range(10).select("id", F.expr(f"CAST({at} AS {kind})").alias("at"), F.lit(1).alias("y"))
    marks = _marks(df, _dataset(event_time="at", split={"by": "time", "test": 0.2}), folds=2)
    assert marks == {i: ("test", None) if i >= 8 else ("train", i // 4) for i in range(10)}


def test_few_instants_fold_by_key_and_a_heavy_instant_leaves_no_fold_empty(spark):
    df = spark.range(600).select("id", F.expr("CAST(id % 4 AS INT)").alias("at"), F.lit(1).alias("y"))
    marks = _marks(df, _dataset(event_time="at", split={"by": "time", "test": 0.25}), folds=3)
    train = {i: fold for i, (split, fold) in marks.items() if split == "train"}
    assert set(train) == {i for i in range(600) if i % 4 < 3}
    by_hash = _marks(df, _dataset(event_time="at", split={"by": "time", "test": 0.25, "folds_by": "hash"}), folds=3)
    assert by_hash == marks
    assert {i % 4 for i, fold in train.items() if fold == 0} == {0, 1, 2}
    heavy = spark.range(600).select("id", F.expr("greatest(id - 560, 0)").alias("at"), F.lit(1).alias("y"))
    marks = _marks(heavy, _dataset(event_time="at", split={"by": "time", "test": "30"}), folds=3)
    blocks = [[i for i, mark in marks.items() if mark == ("train", fold)] for fold in range(3)]
    assert all(blocks)
    assert max(blocks[0]) < min(blocks[1]) <= max(blocks[1]) < min(blocks[2])


def test_groups_stay_together(frame):
    split = add_split(frame, _dataset(split={"by": "group", "group": "plane"}), 3)
    assert split.groupBy("plane").agg(F.count_distinct(F.struct("split", "fold")).alias("n")).where("n > 1").count() == 0
    by_time = _dataset(event_time="at", split={"by": "time", "group": "plane", "folds_by": "group"})
    by_group = add_split(frame, by_time, 3).where("split = 'train'")
    assert by_group.groupBy("plane").agg(F.count_distinct("fold").alias("n")).where("n > 1").count() == 0


def test_the_data_may_bring_its_own_split(spark):
    df = spark.createDataFrame([(i, " Train" if i % 3 else "TEST", 1) for i in range(60)], "id INT, split STRING, y INT")
    dataset = _dataset(split={"by": "column", "column": "split"})
    split = add_split(df, dataset, 2)
    assert split.columns == ["id", "y", "split", "fold"]
    assert dict(split.dtypes)["fold"] == "int"
    assert {row["id"] for row in split.where("split = 'test'").collect()} == {i for i in range(60) if i % 3 == 0}
    with pytest.raises(ExpectationRefused, match=r"holds 'valid' \(3 rows\), null \(1 rows\)"):
        bad = df.withColumn("split", F.expr("CASE WHEN id < 3 THEN 'valid' WHEN id > 3 THEN split END"))
        add_split(bad, dataset, 2)


def test_refuses_what_cannot_be_split(spark, frame):
    some_null = frame.withColumn("at", F.expr("CASE WHEN id >= 12 THEN at END"))
    with pytest.raises(ExpectationRefused, match=r"12 of 1,500 rows have no at, .*by: hash"):
        add_split(some_null, _dataset(event_time="at"), 3)
    with pytest.raises(ExpectationRefused, match="leaves no test row among 1,500"):
        add_split(frame, _dataset(event_time="at", split={"by": "time", "test": "2014-02-01"}), 3)
    with pytest.raises(ExpectationRefused, match="all 1,500 rows share one at"):
        add_split(frame.withColumn("at", F.lit("2013-01-01").cast("date")), _dataset(event_time="at"), 3)
    with pytest.raises(ExpectationRefused, match="leaves no test row"):
        add_split(frame, _dataset(split={"by": "hash", "test": 0.0}), 3)
    with pytest.raises(ExpectationRefused, match=r"fold .* of 50 has no row"):
        add_split(frame, _dataset(split={"by": "group", "group": "plane"}), 50)
    with pytest.raises(SpecError, match=r"dataset.split.group: column 'plain' is not in the dataset; did you mean 'plane'"):
        add_split(frame, _dataset(split={"by": "group", "group": "plain"}), 3)
    with pytest.raises(SpecError, match="'soon' is neither a share"):
        add_split(frame, _dataset(event_time="at", split={"by": "time", "test": "soon"}), 3)
    with pytest.raises(SpecError, match="plane is of type string; expected TIMESTAMP"):
        add_split(frame, _dataset(event_time="plane"), 3)


def _kind(i):
    return None if i % 100 < 3 else "rare" if i % 10 == 7 else "single" if i == 5 else "often"


def test_a_gap_keeps_its_distance_from_the_test_and_between_blocks(frame):
    at, day = _instants(), 86_400_000_000
    cut = _nearest_cut(at, ROWS * 0.8)
    split = {"by": "time", "test": 0.2, "gap": "6d"}
    marked, notes = split_rows(frame, _dataset(event_time="at", split=split), 3)
    marks = {row["id"]: (row["split"], row["fold"]) for row in marked.collect()}
    assert {i for i, (side, _) in marks.items() if side == "test"} == set(np.flatnonzero(at >= cut))
    assert {i for i, (side, _) in marks.items() if side == "gap"} == set(np.flatnonzero((at < cut) & (at > cut - 6 * day)))
    train = np.sort(at[at <= cut - 6 * day])
    begins = [_nearest_cut(train, len(train) * fold / 3) for fold in (1, 2)]
    for i, (side, fold) in marks.items():
        is_between = any(begin - 6 * day < at[i] < begin for begin in begins)
        expected = None if side != "train" or is_between else int(np.searchsorted(begins, at[i], side="right"))
        assert fold == expected
    left = sum(side == "gap" for side, _ in marks.values())
    between = sum(mark == ("train", None) for mark in marks.values())
    assert left > 10
    assert between > 10
    expected = f"gap 6d: {left} rows before the test belong to neither side, {between} training rows have no fold"
    assert notes[0] == expected
    numbers = _marks(frame, _dataset(event_time="micros", split={"by": "time", "test": str(cut), "gap": 6 * day}))
    assert numbers == marks
    with pytest.raises(ExpectationRefused, match="and `gap: 900d` leaves no train row"):
        add_split(frame, _dataset(event_time="at", split={**split, "gap": "900d"}), 3)
    with pytest.raises(
        SpecError, match=r"split.gap: expected a duration such as 2h, because the time column is of type timestamp; found 5"
    ):
        add_split(frame, _dataset(event_time="at", split={**split, "gap": 5}), 3)


def test_expanding_folds_are_the_blocks_of_time_and_too_few_instants_are_refused(spark, frame):
    blocks = _marks(frame, _dataset(event_time="at"), folds=4)
    assert _marks(frame, _dataset(event_time="at", split={"by": "time", "folds_by": "expanding"}), folds=4) == blocks
    by_hash = _marks(frame, _dataset(event_time="at", split={"by": "hash", "folds_by": "time"}), folds=3)
    at = _instants()
    ends = [[at[i] for i, mark in by_hash.items() if mark == ("train", fold)] for fold in range(3)]
    assert max(ends[0]) < min(ends[1]) <= max(ends[1]) < min(ends[2])
    once = spark.range(90).withColumn("at", F.lit(3)).withColumn("y", F.lit(1))
    for folds_by in ("time", "expanding"):
        with pytest.raises(ExpectationRefused, match=r"no more than 3 different values of at; lower `training\.folds`, or write"):
            add_split(once, _dataset(event_time="at", split={"by": "hash", "folds_by": folds_by}), 3)
    _, notes = split_rows(once.withColumn("at", F.col("id") % 3), _dataset(event_time="at"), 3)
    assert notes[0] == "the training rows have no more than 3 different values of at: folds are assigned by hash, not by time blocks"


def test_stratified_deals_out_every_class_to_the_nearest_row(frame):
    marks = _marks(frame, _dataset(split={"by": "hash", "test": 0.25, "stratified": True}, label="kind"), folds=4)
    counts = pd.Series([_kind(i) for i in range(ROWS)]).value_counts(dropna=False)
    assert set(counts) == {1, 45, 150, 1304}
    for kind, count in counts.items():
        mine = [marks[i] for i in range(ROWS) if _kind(i) == (None if pd.isna(kind) else kind)]
        test = sum(side == "test" for side, _ in mine)
        assert test == int(count * 0.25 + 0.5)
        folds = np.bincount([fold for side, fold in mine if side == "train"], minlength=4)
        assert folds.sum() == count - test
        assert folds.max() - folds.min() <= 1
    other = _marks(frame, _dataset(split={"by": "hash", "test": 0.25, "stratified": True, "seed": 8}, label="kind"), folds=4)
    assert other != marks
    by_column = frame.withColumn("split", F.when(F.col("id") % 5 == 0, "test").otherwise("train"))
    rule = {"by": "column", "column": "split", "stratified": True}
    marks = _marks(by_column, _dataset(split=rule, label="kind"), folds=4)
    rare = np.bincount([marks[i][1] for i in range(ROWS) if i % 5 and _kind(i) == "rare"])
    assert rare.max() - rare.min() <= 1


def test_a_share_that_comes_out_far_from_the_declared_one_is_told(spark, frame):
    heavy = frame.withColumn("plane", F.expr("CASE WHEN id < 900 THEN 'N1' ELSE plane END"))
    marked, notes = split_rows(heavy, _dataset(split={"by": "group", "group": "plane", "test": 0.3}), 2)
    share = marked.where("split = 'test'").count() / ROWS
    assert abs(share - 0.3) > 0.1
    assert notes == (f"the test side holds {share:.1%} of the rows, not 30.0%: groups are of very different size",)
    assert split_rows(frame, _dataset(split={"by": "group", "group": "id", "test": 0.3}), 2)[1] == ()


@pytest.mark.parametrize("kind", ["large integers", "skewed fractions"])
def test_values_at_agrees_with_sorting(spark, kind):
    rng = np.random.default_rng(5)
    if kind == "large integers":
        values = np.concatenate([rng.integers(-(2**60), 2**60, 500), 2**60 - rng.integers(0, 9, 500)])
    else:
        values = np.concatenate([rng.lognormal(0, 9, 700).round(3), np.zeros(300)])
    df = spark.createDataFrame(pd.DataFrame({"v": values}))
    positions = [0, 1, 17, 250, 499, 500, 501, 700, 998, 999]
    actual = find_order_statistics(df, F.col("v"), positions, low=values.min().item(), high=values.max().item(), rows=1000)
    ordered = np.sort(values)
    assert [(r.value, r.below, r.equal) for r in actual] == [
        (ordered[p], (values < ordered[p]).sum(), (values == ordered[p]).sum()) for p in positions
    ]
