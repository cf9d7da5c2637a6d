"""The step dataset: what it writes, and each thing it refuses."""

import pytest
from tests.spark.tables import write_table

from tidemill.errors import ExpectationRefused, SpecError, StepError
from tidemill.steps.dataset.step import dataset

ROWS = """SELECT id, id % 3 = 0 AS y, timestamp_seconds(id * 3600) AS at, CASE WHEN id % 10 > 0 THEN id / 2 END AS x, 'c' AS c
          FROM range(200)"""


@pytest.fixture
def make(spark, lake, make_context):
    """Make the context of a dataset step over one table of 200 rows."""
    write_table(lake, spark.sql(ROWS), "silver.rows")

    def context(task="binary", folds=3, **keys):
        declared = {"sql": "SELECT * FROM silver.rows", "key": ["id"], "label": "y", **keys}
        spec = {
            "pipeline": "p",
            "sources": {"rows": {"format": "csv", "path": "rows.csv"}},
            "dataset": {key: value for key, value in declared.items() if value is not None},
            "training": {"task": task, "folds": folds},
        }
        return make_context(spec, "dataset", {"silver.rows": 0})

    return context


@pytest.mark.long("the whole step over a made lake")
def test_writes_every_row_and_column_with_split_and_fold(make, lake, spark):
    sql = "SELECT id, CASE WHEN id >= 7 THEN y END AS y, at, x, x AS later FROM silver.rows"
    context = make(sql=sql, event_time="at", exclude=["later"])
    result = dataset(context)
    assert result.outputs == {"gold.p_dataset": 0}
    assert (result.rows_in, result.rows_out) == (200, 200)
    rule = "the positive class of y is the greater of its two values, since dataset.positive does not name one"
    assert result.notes == (
        f"{rule}: True, the label of 64 rows (33.2%); the other is False",
        "7 rows have no y: they are scored, but not used in training and evaluation",
    )
    written = lake.read(spark, "gold.p_dataset", 0)
    assert dict(written.dtypes) == {
        "id": "bigint", "y": "boolean", "at": "timestamp", "x": "double", "later": "double", "split": "string", "fold": "int",
    }  # fmt: skip
    marks = {row["id"]: (row["split"], row["fold"]) for row in written.collect()}
    # The latest fifth is the test set, the rest falls into blocks of 53 or 54 rows.
    assert marks == {i: ("test", None) if i >= 160 else ("train", 0 if i < 53 else 1 if i < 107 else 2) for i in range(200)}
    assert dataset(make(sql=sql, event_time="at")).outputs == {"gold.p_dataset": 1}


def test_takes_a_table_as_it_is(make, lake, spark):
    result = dataset(make(**{"from": "silver.rows", "sql": None, "label": "x", "task": "regression"}))
    assert result.notes[0].startswith("20 rows have no x")
    assert lake.read(spark, "gold.p_dataset").columns == ["id", "y", "at", "x", "c", "split", "fold"]


def test_the_key_must_name_one_row(make):
    with pytest.raises(ExpectationRefused, match=r"key \(c, y\) is not unique: 2 keys .* \(c, False\) in 133 rows; \(c, True\) in 67 rows"):
        dataset(make(key=["c", "y"]))
    with pytest.raises(ExpectationRefused, match=r"key \(id\) is null in 5 of 200 rows"):
        dataset(make(sql="SELECT CASE WHEN id > 4 THEN id END AS id, y FROM silver.rows"))
    with pytest.raises(ExpectationRefused, match="the result has no rows"):
        dataset(make(sql="SELECT * FROM silver.rows WHERE id < 0"))


def test_every_column_fault_is_named_at_once(make, tmp_path):
    with pytest.raises(SpecError) as caught:
        dataset(make(sql="SELECT *, 1 AS fold FROM silver.rows", key=["ids"], label="yy", exclude=["z"], event_time="att"))
    assert [str(fault) for fault in caught.value.faults] == [
        f"{tmp_path}/pipeline.yml: dataset.key: column 'ids' is not in the dataset; did you mean 'id'?",
        f"{tmp_path}/pipeline.yml: dataset.label: column 'yy' is not in the dataset; did you mean 'y'?",
        f"{tmp_path}/pipeline.yml: dataset.exclude: column 'z' is not in the dataset",
        f"{tmp_path}/pipeline.yml: dataset.event_time: column 'att' is not in the dataset; did you mean 'at'?",
        f"{tmp_path}/pipeline.yml: dataset.sql: has a column 'fold', which tidemill adds itself; rename it",
    ]
    with pytest.raises(SpecError, match="c is of type string; `task: regression` expects a number"):
        dataset(make(label="c", task="regression"))


@pytest.mark.long("seven runs of the step, one for each refusal")
def test_labels_must_suit_the_task(make):
    with pytest.raises(ExpectationRefused, match=r"has 3: 0 \(67 rows\), 1 \(67 rows\), 2 \(66 rows\); `task: binary` expects exactly"):
        dataset(make(sql="SELECT *, id % 3 AS k FROM silver.rows", label="k"))
    with pytest.raises(ExpectationRefused, match=r"label c has 1: 'c' \(200 rows\); `task: multiclass` expects 2 to 1,000"):
        dataset(make(label="c", task="multiclass"))
    with pytest.raises(ExpectationRefused, match="has more than 1,000"):
        many = "SELECT a.id * 200 + b.id AS id FROM silver.rows a CROSS JOIN silver.rows b WHERE b.id < 9"
        dataset(make(sql=many, label="id", task="multiclass"))
    with pytest.raises(ExpectationRefused, match="no test row has a label"):
        dataset(make(sql="SELECT id, at, CASE WHEN id < 160 THEN y END AS y FROM silver.rows", event_time="at"))
    with pytest.raises(ExpectationRefused, match="every labelled train row has the label False"):
        dataset(make(sql="SELECT id, at, id > 170 AS y FROM silver.rows", event_time="at"))
    with pytest.raises(ExpectationRefused, match="x is NaN or infinite in 2 rows"):
        dataset(make(sql="SELECT id, CASE WHEN id < 2 THEN double('NaN') ELSE x END AS x FROM silver.rows", label="x", task="regression"))
    with pytest.raises(SpecError, match="'Ture' is none of the labels False and True; did you mean 'True'"):
        dataset(make(positive="Ture"))


def test_the_data_may_bring_its_own_split(make, lake, spark):
    sql = "SELECT id, y, CASE WHEN id < 40 THEN 'Test' ELSE 'train' END AS split FROM silver.rows"
    dataset(make(sql=sql, split={"by": "column", "column": "split"}))
    written = lake.read(spark, "gold.p_dataset")
    assert written.columns == ["id", "y", "split", "fold"]
    assert written.where("split = 'test'").count() == 40
    with pytest.raises(SpecError, match="has a column 'split', which tidemill adds"):
        dataset(make(sql=sql))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT idd AS id, y FROM silver.rows", "dataset.sql: A column, variable, or function parameter with name `idd`"),
        ("SELECT id, y, 1 / (id - 3) AS z FROM silver.rows", "dataset.sql: Division by zero"),
        ("SELECT id, y, id FROM silver.rows", "more than one column named id"),
    ],
)
def test_sql_that_fails_is_one_sentence(make, sql, message):
    with pytest.raises(StepError) as caught:
        dataset(make(sql=sql))
    said = str(caught.value)
    assert message in said
    assert "\n" not in said
    assert not any(word in said for word in ("SQLSTATE", "org.apache", "'Project"))


LOOKUPS = {"seen": {"table": "silver.seen", "by": ["c"], "time": "noticed_at", "at_most": "2h", "columns": ["x", "noticed_at"]}}
PAST = {"over": "silver.rows", "by": ["c"], "time": "at", "windows": ["3h"], "features": {"rows": "count", "mean_x": "avg(x)"}}


@pytest.fixture
def make_history(make, lake, spark, make_context):
    """Make the context of a dataset step with a lookup table of an observation at every third hour, the one of hour 9 there twice."""
    sql = "SELECT 'c' AS c, timestamp_seconds(id * 10800) AS noticed_at, id + 0.5 AS x FROM range(60)"
    write_table(lake, spark.sql(f"{sql} UNION ALL SELECT 'c', timestamp_seconds(32400), 3.75"), "silver.seen")

    def context(**keys):
        made = make(event_time="at", **keys)
        return make_context(
            made.spec.pipeline.model_dump(by_alias=True, exclude_none=True), "dataset", {"silver.rows": 0, "silver.seen": 0}
        )

    return context


@pytest.mark.long("two point-in-time joins over all windows")
def test_lookups_and_aggregates_add_columns_and_no_rows(make_history, lake, spark):
    result = dataset(make_history(lookups=LOOKUPS, aggregates=PAST))
    assert (result.rows_in, result.rows_out) == (200, 200)
    assert (
        "lookup seen: for 3 rows silver.seen has different rows of the same noticed_at, and a hash chose one; set `latest_by` to choose"
    ) in result.notes
    written = lake.read(spark, "gold.p_dataset").orderBy("id").collect()
    columns = ["id", "y", "at", "x", "c", "seen_x", "noticed_at", "rows_3h", "mean_x_3h", "split", "fold"]
    assert list(written[0].asDict()) == columns
    for row in written:
        i = row["id"]
        assert (row["noticed_at"] - row["at"]).total_seconds() == -3600 * (i % 3) if i < 180 else row["noticed_at"] is None
        assert row["seen_x"] == i // 3 + 0.5 if i < 180 and i // 3 != 3 else row["seen_x"] in (None, 3.5, 3.75)
        before = [j / 2 for j in range(max(i - 3, 0), i) if j % 10 > 0]
        assert row["rows_3h"] == min(i, 3)
        assert row["mean_x_3h"] == (pytest.approx(sum(before) / len(before)) if before else None)
    chosen = {"seen": {**LOOKUPS["seen"], "latest_by": "x", "prefix": "last_"}}
    result = dataset(make_history(lookups=chosen, aggregates={"past": PAST}))
    assert not any("a hash chose" in note for note in result.notes)
    assert lake.read(spark, "gold.p_dataset").where("id = 9").collect()[0]["last_x"] == 3.75


def test_lookups_and_aggregates_that_do_not_fit_are_named_at_once(make_history):
    lookups = {"seen": {**LOOKUPS["seen"], "by": ["cc"], "time": "noticed"}}
    with pytest.raises(SpecError) as caught:
        dataset(make_history(lookups=lookups, aggregates={"past": {**PAST, "features": {"m": "avg(xx)"}}}))
    assert [fault.key for fault in caught.value.faults] == [
        "dataset.lookups.seen.by", "dataset.lookups.seen.by", "dataset.lookups.seen.time", "dataset.aggregates.past.features.m",
    ]  # fmt: skip
    with pytest.raises(SpecError, match=r"lookups\.seen\.at_most: expected a duration such as 2h, because .* type timestamp; found 5"):
        dataset(make_history(lookups={"seen": {**LOOKUPS["seen"], "at_most": 5}}))
