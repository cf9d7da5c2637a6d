"""Which columns become features: by their types, or as declared."""

from dataclasses import replace

import pytest
import yaml

from tidemill.errors import SpecError
from tidemill.features import plan_features, reserved_columns
from tidemill.features.choices import as_yaml, features_block
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
    assert plan.blocks("numeric")[0].columns == ["amount", "price", "seats", "a.b-c"]
    assert plan.blocks("boolean")[0].columns == ["is_new"]
    assert plan.blocks("categorical")[0].columns == ["colour"]
    assert plan.blocks("datetime")[0].columns == ["at", "day"]
    assert plan.blocks("datetime")[0].parts == ["hour", "weekday", "month"]
    assert plan.columns == ["amount", "price", "seats", "a.b-c", "is_new", "at", "day", "colour"]
    left_out = {note.split()[0]: note for note in plan.notes if "left out" in note}
    assert set(left_out) == {"remark", "blank", "nothing", "tags", "bag", "same", "word"}
    assert "declare it under `features.categorical`" in left_out["remark"]
    assert "holds no value" in left_out["nothing"]
    assert "holds one value in all training rows" in left_out["same"]
    assert "map<string,int>" in left_out["bag"]
    assert "holds one value" in left_out["tags"]


def test_few_strings_of_few_rows_are_no_category(df):
    assert plan_features("auto", df.limit(8), exclude={"id", "y"}).blocks("categorical") == ()


def test_declared_groups_are_taken_as_they_are(df):
    declared = {"numeric": {"columns": ["seats", "nothing", "seats"]}, "categorical": {"columns": ["remark", "tags"]}}
    plan = plan_features(Features.model_validate(declared), df, exclude={"id", "y"})
    assert plan.columns == ["seats", "nothing", "remark", "tags"]
    assert plan.blocks("datetime") == ()
    assert plan.notes == ("nothing has no number; it is filled with 0",)


def test_checks_alone_do_not_end_auto(df):
    plan = plan_features(Features.model_validate({"checks": {"constant": "warn"}}), df, exclude={"id", "y"})
    assert plan.blocks("categorical")[0].columns == ["colour", "word"]
    assert "same" in plan.blocks("numeric")[0].columns


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
    assert "of type double; expected TIMESTAMP, DATE" in faults[4][1]
    with pytest.raises(SpecError, match="'day' is a DATE and has no hour"):
        plan_features(Features.model_validate({"datetime": {"columns": ["day"], "parts": ["hour"]}}), df, exclude=())
    with pytest.raises(SpecError, match=r"features: no column of the dataset can be a feature.*remark is left out"):
        plan_features("auto", df.select("id", "remark", "y"), exclude={"id", "y"})


def test_reserved_columns_of_a_dataset():
    dataset = Dataset.model_validate(
        {"sql": "SELECT 1", "key": ["a", "b"], "label": "y", "exclude": ["late"], "split": {"by": "column", "column": "part"}}
    )
    assert reserved_columns(dataset) == {"a", "b", "y", "late", "part"}


@pytest.fixture(scope="module")
def wide(spark):
    return spark.sql(
        """SELECT id, IF(id % 9 = 0, NULL, id / 7) AS gaps, id % 2 = 0 AS is_new, concat('t', id % 140) AS tail, id AS order_id,
                  CAST(1000 + id % 7 AS INT) AS shop_id, CAST(5000 + id % 130 AS INT) AS customer_key,
                  concat(get(array('The ship sails with ', 'Grain prices rose at ', 'Shares of a bank fell by '), CAST(id % 3 AS INT)), id,
                         ' per cent today') AS remark,
                  concat_ws('-', sha1(CAST(id AS STRING)), 'a') AS code, IF(id % 3 = 0, NULL, array(concat('w', id % 4), 'all')) AS tags,
                  array(id / 3, 1.0D) AS pair, transform(sequence(0, id % 3), v -> CAST(v AS DOUBLE)) AS walk,
                  timestamp_seconds(id * 4000) AS at, IF(id = 3, 'x', NULL) AS once, CAST(id % 5 = 0 AS INT) AS y
           FROM range(600)"""
    )


def test_auto_goes_by_values_as_well_and_its_yaml_gives_the_same_plan(wide):
    plan = plan_features("auto", wide, exclude={"id", "y"}, classes=(0, 1))
    assert {choice.column: (choice.group, choice.settings.get("encode")) for choice in plan.choices} == {
        "gaps": ("numeric", None), "is_new": ("boolean", None), "tail": ("categorical", "target"), "order_id": ("", None),
        "shop_id": ("categorical", "auto"), "customer_key": ("categorical", "target"), "remark": ("text", None), "code": ("", None),
        "tags": ("array", "multihot"), "pair": ("array", "slots"), "walk": ("array", "summary"), "at": ("datetime", None),
        "once": ("", None),
    }  # fmt: skip
    assert plan.blocks("numeric")[0].indicators
    assert not plan.blocks("boolean")[0].indicators
    assert plan.sizes == {"pair": 2}
    assert "features: gaps as numbers, and whether they are missing: their type is a number" in plan.notes
    assert any(note.startswith("order_id is left out of the features: it is an id: about ") for note in plan.notes)
    assert any(note.startswith("once is left out of the features: it is null in 99.83% of 600 rows") for note in plan.notes)
    figures = {choice.column: choice.figures for choice in plan.choices}
    assert figures["gaps"]["nulls"] == 67
    assert figures["tail"]["distinct"] == pytest.approx(140, rel=0.1)
    assert figures["remark"]["words"] == pytest.approx(26 / 3, abs=0.01)  # 8, 8 or 10
    pasted = as_yaml(features_block((choice.column, choice.group, choice.settings) for choice in plan.choices if choice.group))
    again = plan_features(Features.model_validate(yaml.safe_load(pasted)["features"]), wide, exclude={"id", "y"}, classes=(0, 1))
    assert replace(again, notes=(), choices=()) == replace(plan, notes=(), choices=())


def test_many_classes_have_hashes_and_not_a_mean_each(wide):
    plan = plan_features("auto", wide.select("tail", "y"), exclude={"y"}, classes=range(40))
    assert (plan.blocks("categorical")[0].encode, plan.needs_parts) == ("hashing", False)
    assert plan_features("auto", wide.select("tail", "y"), exclude={"y"}).blocks("categorical")[0].encode == "target"  # a number
    free = plan_features("auto", wide.select("tail"), exclude=(), learns_label=False)
    assert (free.blocks("categorical")[0].encode, free.needs_label) == ("hashing", False)
    assert "no label is learned from" in free.choices[0].reason


def test_a_block_may_hold_any_column_name_and_says_what_is_wrong(wide):
    with pytest.raises(SpecError, match=r"features.array.encode: slots is for lists of numbers; column 'tags' is not one"):
        plan_features(Features.model_validate({"array": {"columns": ["tags"], "encode": "slots"}}), wide, exclude=())
    with pytest.raises(SpecError, match=r"lists of column 'walk' have 1 to 3 numbers, expected one length"):
        plan_features(Features.model_validate({"array": {"columns": ["walk"], "encode": "slots"}}), wide, exclude=())
    with pytest.raises(SpecError, match=r"features.interactions.pairs: column 'tags' is of type array<string>"):
        plan_features(Features.model_validate({"interactions": {"pairs": [["tags", "gaps"]]}}), wide, exclude=())
    many = {"polynomial": {"columns": ["gaps", "shop_id", "customer_key", *(f"n{i}" for i in range(20))], "degree": 4}}
    numbers = wide.selectExpr("*", *(f"id * {i} AS n{i}" for i in range(20)))
    with pytest.raises(SpecError, match=r"features.polynomial: 17,526 products, expected at most 2,000"):
        plan_features(Features.model_validate(many), numbers, exclude=())
