"""score: every row once a model version, twice the same, keys that a merge could not keep apart refused."""

import json

import pandas as pd
import pytest
from tests.spark.tables import read_rows, write_table

from tidemill.errors import ExpectationRefused, StepError, UsageError
from tidemill.steps.score import step
from tidemill.steps.score.step import score, widen_types


@pytest.mark.long("scores the dataset four times")
def test_every_row_is_scored_once_a_model_version(trained):
    trained.spec["scoring"] = {"keep": ["id", "carrier"]}
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    result = score(trained.context("score", version))
    assert (result.rows_in, result.rows_out, result.notes) == (60, 60, ())
    frame = trained.lake.read(trained.spark, "gold.late_predictions")
    assert frame.columns == ["id", "carrier", "prediction", "probability", "model_version", "score_error", "run_id", "scored_at"]
    kinds = dict(frame.dtypes)
    assert [kinds[name] for name in ("prediction", "probability", "model_version", "score_error")] == ["boolean", "double", "int", "string"]
    first = trained.lake.open("gold.late_predictions").to_pandas()
    assert sorted(first["id"]) == list(range(60))
    assert ((first["probability"] > 0.5) == first["prediction"]).all()

    again = score(trained.context("score", version, run_id="r2"))
    assert again.outputs == result.outputs  # not even a commit
    better = trained.train("bad", "CHALLENGER", "CHAMPION")
    score(trained.context("score", better, run_id="r3"))
    both = trained.lake.open("gold.late_predictions").to_pandas()
    assert both.groupby("model_version").size().to_dict() == {1: 60, 2: 60}
    kept = both[both["model_version"] == 1].sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, first.sort_values("id").reset_index(drop=True))


def test_predictions_of_an_earlier_model_in_a_narrower_type_become_wider_and_those_of_another_kind_are_refused(trained):
    table, lake, spark = "gold.late_predictions", trained.lake, trained.spark
    write_table(lake, spark.sql("SELECT 1 AS id, 2 AS prediction, CAST(NULL AS DOUBLE) AS probability, 1 AS model_version"), table)
    scored = spark.sql("SELECT 1 AS id, 0.3D AS prediction, CAST(NULL AS DOUBLE) AS probability, 2 AS model_version")
    context = trained.context("score", trained.train("good", "CHALLENGER", "CHAMPION"))
    for _ in range(2):
        widen_types(context, table, scored)
    lake.merge(scored, table, keys=["id", "model_version"], update_if_changed=["prediction"], meta={})
    rows = {row["model_version"]: row["prediction"] for row in read_rows(lake, table)}
    assert (rows, lake.version(table)) == ({1: 2.0, 2: 0.3}, 2)
    with pytest.raises(StepError, match="prediction is double in rows of earlier models, boolean in those of this one"):
        widen_types(context, table, scored.selectExpr("true AS prediction", "probability"))


def test_rows_from_sql_with_values_that_do_not_fit(trained):
    trained.spec["scoring"] = {"sql": "SELECT id, IF(id = 3, 'abc', CAST(x AS STRING)) AS x, carrier FROM gold.late_dataset WHERE id < 10"}
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    result = score(trained.context("score", version))
    assert result.rows_out == 10
    assert result.notes == ("1 of 10 rows could not be scored; see score_error in gold.late_predictions",)
    bad = trained.lake.read(trained.spark, "gold.late_predictions").where("score_error IS NOT NULL").collect()
    assert [(row["id"], row["prediction"], row["score_error"]) for row in bad] == [(3, None, "x: 'abc' is not a value of type double")]


@pytest.mark.long("scores with lookups and aggregates")
def test_rows_of_elsewhere_get_what_was_known_at_their_own_time(trained):
    known = trained.lake.read(trained.spark, "gold.late_dataset")
    noticed = known.selectExpr("id", "x", "seen_at - INTERVAL 1 HOUR AS noticed_at")
    later = known.selectExpr("id", "x + 100 AS x", "seen_at + INTERVAL 1 SECOND AS noticed_at")
    write_table(trained.lake, noticed.union(later), "silver.notes")
    lookup = {"table": "silver.notes", "by": ["id"], "time": "noticed_at", "columns": ["x"]}
    trained.spec["dataset"] = {**trained.spec["dataset"], "lookups": {"notes": lookup}}
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    score(trained.context("score", version, **{"silver.notes": 0}))
    trained.spec["scoring"] = {"sql": "SELECT id, carrier, seen_at FROM gold.late_dataset"}
    result = score(trained.context("score", version, run_id="r2", **{"silver.notes": 0}))
    assert result.outputs == {"gold.late_predictions": 0}, "the same predictions: nothing to write"
    assert result.rows_out == 60
    trained.spec["scoring"] = {"sql": "SELECT id, carrier FROM gold.late_dataset"}
    with pytest.raises(UsageError, match="needs the columns x"):
        score(trained.context("score", version, run_id="r3", **{"silver.notes": 0}))


@pytest.mark.parametrize(
    ("sql", "error", "said"),
    [
        ("SELECT IF(id = 1, NULL, id) AS id, x, carrier FROM gold.late_dataset", ExpectationRefused, "is null in 1 of 60 rows"),
        ("SELECT id % 59 AS id, x, carrier FROM gold.late_dataset", ExpectationRefused, "1 values of the key .* such as 0"),
        ("SELECT id AS idd, x, carrier FROM gold.late_dataset", StepError, "no column 'id', which dataset.key names; did you mean 'idd'"),
        ("SELECT id, carrier FROM gold.late_dataset", UsageError, "needs the columns x"),
    ],
)
def test_rows_that_cannot_be_merged_or_scored_are_refused(trained, sql, error, said):
    trained.spec["scoring"] = {"sql": sql}
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    with pytest.raises(error, match=said):
        score(trained.context("score", version))
    assert not trained.lake.exists("gold.late_predictions")


def test_a_model_that_loses_a_row_is_refused(trained, monkeypatch):
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    whole = step.predict
    monkeypatch.setattr(step, "predict", lambda model, manifest, rows: whole(model, manifest, rows).where("id < 59"))
    with pytest.raises(StepError, match="60 rows were to be scored, the model gave 59; a stage of it drops or repeats rows"):
        score(trained.context("score", version))
    assert not trained.lake.exists("gold.late_predictions")
    # One row lost and another doubled: the number is right, the keys are not.
    monkeypatch.setattr(
        step,
        "predict",
        lambda model, manifest, rows: whole(model, manifest, rows.withColumn("id", rows["id"] - (rows["id"] == 59).cast("int"))),
    )
    with pytest.raises(ExpectationRefused, match=r"1 values of the key .* such as 58"):
        score(trained.context("score", version))


@pytest.mark.long("scores files of several kinds")
def test_rows_that_have_just_arrived(trained, score_input, tmp_path):
    version = trained.train("good", "CHALLENGER", "CHAMPION")
    spec, lake = trained.context("score", version).spec, trained.lake
    score(trained.context("score", version))
    known = lake.open("gold.late_predictions").to_pandas().set_index("id")["probability"]
    rows = lake.open("gold.late_dataset").to_pandas()[["id", "x", "carrier"]].head(5)

    csv = tmp_path / "new.csv"
    rows.to_csv(csv, index=False)
    with csv.open("a") as file:
        file.write("100,NA,AA\n101,0.5\n102,x,UA\n")
    found = score_input(spec, lake, csv, at="dataset").to_dict("records")
    assert [row["probability"] for row in found[:5]] == pytest.approx([known[i] for i in range(5)])
    assert found[5]["score_error"] is None or "no number" in found[5]["score_error"]
    assert found[6]["score_error"] == "the line cannot be parsed into its fields: 101,0.5"
    assert found[7]["score_error"] == "x is not a value of type double: 102,x,UA"
    assert found[6]["prediction"] is None

    array = tmp_path / "new.json"
    array.write_text(json.dumps([{"carrier": "AA", "x": float(rows["x"][0]), "note": "hello"}, {"carrier": "AA"}]))
    only = score_input(spec, lake, array, at="dataset")
    assert list(only.columns) == ["x", "carrier", "note", "prediction", "probability", "model_version", "score_error"]
    assert only["probability"][0] == pytest.approx(known[0]) and only["note"][0] == "hello"

    parquet = tmp_path / "new.parquet"
    rows.to_parquet(parquet)
    assert list(score_input(spec, lake, parquet, at="dataset")["id"]) == list(rows["id"])
    assert len(score_input(spec, lake, "gold.late_dataset")) == 60
    (tmp_path / "short.csv").write_text("id,xx\n1,2\n")
    with pytest.raises(UsageError, match="needs the columns x, carrier, which the rows to score lack; they have id"):
        score_input(spec, lake, tmp_path / "short.csv", at="dataset")


def test_no_champion_is_named(trained, score_input):
    trained.train("good")
    with pytest.raises(StepError, match="late has no champion"):
        score_input(trained.context("score", 1).spec, trained.lake, "gold.late_dataset")
