"""Which columns become features: by their types, or as declared."""

import pytest

from tidemill.errors import SpecError
from tidemill.features import plan_features, reserved_columns
from tidemill.spec.models import Dataset, Features


@pytest.fixture(scope="module")
def df(spark):
    return spark.sql(
        """SELECT id, id / 7 AS amount, CAST(id AS DECIMAL(8, 2)) AS price, CAST(id AS INT) AS seats, id % 2 = 0 AS is_new,
                  char(97 + CAST(id % 5 AS INT)) AS colour, concat('r', id) AS remark, CAST(NULL AS STRING) AS blank,
                  CAST(id % 3 AS FLOAT) AS `a.b-c`, CAST(NULL AS DOUBLE) AS nothing, timestamp_seconds(id) AS at,
                  date_add(DATE'2020-01-01', CAST(id AS INT)) AS day, 5 AS same, 'x' AS word,
                  array('x') AS tags, map('k', 1) AS bag, 'train' AS split, 0 AS fold, 1 AS _batch_id, 0 AS y
           FROM range(300)"""
    )


def test_auto_goes_by_the_types(df):
    plan = plan_features("auto", df, exclude={"id", "y"})
    assert plan.numeric.columns == ["amount", "price", "seats", "is_new", "a.b-c"]
    assert plan.categorical.columns == ["colour"]
    assert plan.datetime.columns == ["at", "day"]
    assert plan.datetime.parts == ["hour", "weekday", "month"]
    assert plan.columns == ["amount", "price", "seats", "is_new", "a.b-c", "at", "day", "colour"]
    left_out = {note.split()[0]: note for note in plan.notes}
    assert set(left_out) == {"remark", "blank", "nothing", "tags", "bag", "same", "word"}
    assert "declare it under `features.categorical`" in left_out["remark"]
    assert "holds no value" in left_out["nothing"]
    assert "holds one value in all training rows" in left_out["same"]
    assert "array<string>" in left_out["tags"]


def test_few_strings_of_few_rows_are_no_category(df):
    assert plan_features("auto", df.limit(8), exclude={"id", "y"}).categorical is None


def test_declared_groups_are_taken_as_they_are(df):
    declared = {"numeric": {"columns": ["seats", "nothing", "seats"]}, "categorical": {"columns": ["remark", "tags"]}}
    plan = plan_features(Features.model_validate(declared), df, exclude={"id", "y"})
    assert plan.columns == ["seats", "nothing", "remark", "tags"]
    assert plan.datetime is None
    assert plan.notes == ("nothing holds no number; 0 stands in for it",)


def test_checks_alone_do_not_end_auto(df):
    plan = plan_features(Features.model_validate({"checks": {"constant": "warn"}}), df, exclude={"id", "y"})
    assert plan.categorical.columns == ["colour", "word"]
    assert "same" in plan.numeric.columns


def test_every_fault_is_named(df):
    declared = {
        "numeric": {"columns": ["seat", "y", "at", "_batch_id"]},
        "datetime": {"columns": ["amount"]},
    }
    with pytest.raises(SpecError) as caught:
        plan_features(Features.model_validate(declared), df, exclude={"id", "y"})
    faults = [(fault.key, fault.message) for fault in caught.value.faults]
    assert [key for key, _ in faults] == [*["features.numeric.columns"] * 4, "features.datetime.columns"]
    assert faults[0][1] == "column 'seat' is not in the dataset; did you mean 'seats'?"
    assert "column 'y' is a key, the label, excluded" in faults[1][1]
    assert "of type timestamp; expected a number" in faults[2][1]
    assert "cannot be a feature" in faults[3][1]
    assert "of type double; expected TIMESTAMP or DATE" in faults[4][1]
    with pytest.raises(SpecError, match="'day' is a DATE and has no hour"):
        plan_features(Features.model_validate({"datetime": {"columns": ["day"], "parts": ["hour"]}}), df, exclude=())
    with pytest.raises(SpecError, match=r"features: no column of the dataset can be a feature.*remark is left out"):
        plan_features("auto", df.select("id", "remark", "y"), exclude={"id", "y"})


def test_reserved_columns_of_a_dataset():
    dataset = Dataset.model_validate(
        {"sql": "SELECT 1", "key": ["a", "b"], "label": "y", "exclude": ["late"], "split": {"by": "column", "column": "part"}}
    )
    assert reserved_columns(dataset) == {"a", "b", "y", "late", "part"}
