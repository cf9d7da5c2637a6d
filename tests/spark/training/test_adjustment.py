"""Classes balanced and brought back, calibration and thresholds, against scikit-learn and by hand."""

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import functions as F
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, precision_recall_curve
from tests.tiers import parametrize_first, parametrize_product

from tidemill.features import FeaturePlan
from tidemill.features.groups import Numeric
from tidemill.spec.models import Threshold
from tidemill.training import out_of_fold
from tidemill.training.adjustment import AdjustedProbabilities
from tidemill.training.balance import compute_balance, correct_probabilities
from tidemill.training.calibration import calibrate_scores, fit_calibrations
from tidemill.training.engines.choice import Engines
from tidemill.training.folds import ORDER
from tidemill.training.out_of_fold import choose_threshold, count_scores, count_scores_in_spark
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.search import Search
from tidemill.training.tuning.tuner import Trial

from .conftest import PLAN


@pytest.fixture(scope="module")
def judged():
    """20,000 labels and a model's probabilities that are too sure of themselves."""
    rng = np.random.default_rng(5)
    logits = rng.normal(-2.0, 1.5, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-logits))).astype(float)
    return labels, 1 / (1 + np.exp(-(2.0 * logits + 0.5)))


@pytest.fixture
def predictions(spark, judged):
    labels, p = judged
    rows = spark.createDataFrame([(float(a), float(b)) for a, b in zip(labels[:500], p[:500], strict=True)], "label DOUBLE, p DOUBLE")
    return rows.select("label", "p", array_to_vector(F.array(1 - F.col("p"), "p")).alias("probability"), F.lit(0.0).alias("prediction"))


@pytest.fixture
def extreme(spark):
    """3,000 rows of which many have a saturated score, others one near 1e-300, or within 1e-5 of each other."""
    rng = np.random.default_rng(4)
    margins = rng.normal(0.0, 1.5, 3000)
    third = np.arange(3000) % 3
    p = np.select([third == 0, third == 1], [1 / (1 + np.exp(-25 * margins)), 10.0 ** (-300 + 5 * margins)], 0.3 + 1e-6 * margins)
    labels = (rng.random(3000) < 1 / (1 + np.exp(-margins))).astype(float)
    frame = spark.createDataFrame(pd.DataFrame({"label": labels, "p": p}))
    one = F.col("p")
    return (
        labels,
        p,
        frame.select("label", "p", array_to_vector(F.array(1 - one, one)).alias("probability"), F.lit(0.0).alias("prediction")),
    )


@pytest.mark.parametrize("kind", ["isotonic", "sigmoid"])
def test_the_stage_calibrates_extreme_scores_as_arrays_do_and_calls_the_rows_of_the_threshold(extreme, kind):
    labels, p, frame = extreme
    (histogram,) = count_scores_in_spark(frame)
    (expected,) = count_scores(labels, np.column_stack([1 - p, p]))
    assert all(np.array_equal(getattr(histogram, name), getattr(expected, name)) for name in ("scores", "rows", "positives"))
    (calibration,) = fit_calibrations(kind, [histogram])
    limit = choose_threshold(Threshold(maximise="f1"), calibrate_scores(histogram, calibration))
    rows = AdjustedProbabilities((), [calibration], limit).transform(frame).toPandas()
    calibrated = np.stack([vector.toArray()[1] for vector in rows["probability"]])
    assert np.allclose(calibrated, calibration.apply(rows["p"].to_numpy()), rtol=1e-9, atol=0)
    if kind == "isotonic":  # the same to the last digit
        assert np.array_equal(calibrated, calibration.apply(rows["p"].to_numpy()))
        precision, recall, _ = precision_recall_curve(rows["label"], calibrated)
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
        assert f1_score(rows["label"], rows["prediction"]) == pytest.approx(best, rel=1e-12)


def test_spark_makes_bins_of_more_scores_than_are_kept_as_arrays_do(spark, judged, monkeypatch):
    monkeypatch.setattr(out_of_fold, "SCORES_PER_TASK", 2000)
    labels, p = (values[:6000] for values in judged)
    probabilities = np.column_stack([1 - p, p, np.full(len(p), 0.25)])
    frame = spark.createDataFrame(
        pd.DataFrame({"label": labels, "probability": [list(row) for row in probabilities], "n": np.where(labels == 1, 0.5, 2.0)})
    ).select("label", array_to_vector("probability").alias("probability"), "n")
    weights = np.where(labels == 1, 0.5, 2.0)
    in_spark = count_scores_in_spark(frame, "n", 3, max_scores=1500)
    by_hand = count_scores(labels, probabilities, weights, max_scores=1500)
    assert len(in_spark[2].scores) == 1 and len(by_hand[2].scores) == 1
    for place in (0, 1):
        found, expected = in_spark[place], by_hand[place]
        assert found.rows.sum() == weights.sum() and found.positives.sum() == expected.positives.sum()
        assert len(expected.scores) <= len(found.scores) <= 500 + 8 * 2  # a bin more where a stretch begins
        assert set(expected.scores) <= set(found.scores)
        above = np.array([weights[probabilities[:, place] >= score].sum() for score in found.scores])
        assert np.allclose(np.cumsum(found.rows[::-1])[::-1], above)


def test_the_stage_does_by_expressions_what_arrays_do_and_is_saved_and_loaded(predictions, judged, tmp_path):
    p = judged[1][:500]
    (calibration,) = fit_calibrations("sigmoid", count_scores(judged[0], np.column_stack([1 - judged[1], judged[1]])))
    stage = AdjustedProbabilities([2.0, 0.5], [calibration], 0.3)
    PipelineModel([stage]).write().overwrite().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    rows = [
        model.transform(predictions).select("p", vector_to_array("probability")[1].alias("q"), "prediction").orderBy("p").toPandas()
        for model in (stage, loaded)
    ]
    assert rows[0].equals(rows[1])
    by_hand = correct_probabilities(np.column_stack([1 - p, p]), [2.0, 0.5])[:, 1]
    expected = calibration.apply(by_hand)[np.argsort(p)]
    assert np.allclose(rows[0]["q"], expected, atol=1e-9)
    assert (rows[0]["prediction"] == (expected >= 0.3)).all()


@pytest.mark.long("searches and refits, by MLlib in half of the cases")
@parametrize_product(("kind", "engine"), ["weights", "undersample"], ["tasks", "spark"])
def test_balanced_classes_are_brought_back(frames, tmp_path, kind, engine):
    rare = frames["binary"].where((F.col("label") == 0) | (F.pmod(F.col(ORDER), F.lit(6)) == 0))
    counts = {int(row["label"]): row["count"] for row in rare.groupBy("label").count().collect()}
    balance = compute_balance(kind, counts, 2)
    assert balance.factors[1] / balance.factors[0] == pytest.approx(counts[0] / counts[1])
    problem = Problem("binary", "logLoss", 2, 7, balance=balance)
    trial = Trial(0, "logistic_regression", {"regParam": 0.01})
    engines = Engines({"logistic_regression": engine}, str(tmp_path))
    search = Search(rare, PLAN, ["logistic_regression"], problem, engines=engines)
    rows = search.run([trial], [0, 1])
    assert [row.state for row in rows] == ["SUCCEEDED"] * 2
    (histogram,) = search.out_of_fold(trial, [0, 1])
    search.close()
    assert (histogram.rows.sum(), histogram.positives.sum()) == (sum(counts.values()), counts[1])
    model = refit(rare, PLAN, trial, problem, engines)
    share = model.transform(rare).agg(F.avg(vector_to_array("probability")[1])).first()[0]
    assert share == pytest.approx(counts[1] / sum(counts.values()), abs=0.05)
    # Without the correction, the rare class would seem to be about as frequent as the other.
    raw = PipelineModel(model.stages[:-1]).transform(rare).agg(F.avg(vector_to_array("probability")[1])).first()[0]
    assert raw > share + 0.1


@pytest.mark.parametrize("kind", ["isotonic", "sigmoid"])
def test_several_classes_are_calibrated_each_against_the_rest_as_scikit_learn_does(spark, kind):
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(4000, 3)) + np.array([0.5, 0.0, -1.0])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    sure = np.exp(2.5 * logits) / np.exp(2.5 * logits).sum(axis=1, keepdims=True)  # too sure of itself
    counts = count_scores(labels, sure)
    rows = [(float(label), [float(value) for value in p]) for label, p in zip(labels, sure, strict=True)]
    frame = spark.createDataFrame(rows, "label DOUBLE, p ARRAY<DOUBLE>").select(
        "label", "p", array_to_vector("p").alias("probability"), F.lit(0.0).alias("prediction")
    )
    for in_spark, by_hand in zip(count_scores_in_spark(frame, None, 3), counts, strict=True):
        assert np.array_equal(in_spark.scores, by_hand.scores) and np.array_equal(in_spark.positives, by_hand.positives)
    found = AdjustedProbabilities(calibrations=fit_calibrations(kind, counts)).transform(frame).toPandas()
    adjusted = np.stack([vector.toArray() for vector in found["probability"]])
    # What CalibratedClassifierCV does: a calibrator a class, the probabilities divided by their sum.
    given, each = np.stack(found["p"]), np.empty((4000, 3))
    for place in range(3):
        x, y = np.log(given[:, place] / (1 - given[:, place])), (found["label"] == place).astype(float)
        if kind == "isotonic":
            each[:, place] = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(x)
        else:
            each[:, place] = LogisticRegression(C=np.inf).fit(x[:, None], y).predict_proba(x[:, None])[:, 1]
    expected = each / each.sum(axis=1, keepdims=True)
    assert np.allclose(adjusted.sum(axis=1), 1.0) and (adjusted.argmax(axis=1) == found["prediction"]).all()
    assert np.abs(adjusted - expected).mean() < (1e-3 if kind == "isotonic" else 5e-3)
    assert log_loss(found["label"], adjusted) < log_loss(found["label"], given) - 0.1


@pytest.mark.long("searches over sixty columns, by MLlib in one of two cases")
@parametrize_first("engine", ["tasks", "spark"], 1)
def test_a_naive_bayes_that_counts_everything_thirty_times_is_brought_back_by_unseen_rows(frames, tmp_path, engine):
    names = [f"{sign}_{copy}" for sign in ("x", "opposite") for copy in range(30)]
    x, fold = F.coalesce("x", F.lit(0.0)), F.pmod(ORDER, F.lit(2)).cast("int").alias("fold")
    frame = frames["multiclass"].select(*[(x if name[0] == "x" else -x).alias(name) for name in names], "label", fold, ORDER)
    plan = FeaturePlan.of(numeric=Numeric(columns=names, scale="none"))
    problem, trial = Problem("multiclass", "logLoss", 3, 7), Trial(0, "naive_bayes", {"smoothing": 0.5})
    engines = Engines({"naive_bayes": engine}, str(tmp_path))
    search = Search(frame, plan, ["naive_bayes"], problem, engines=engines)
    counts = search.out_of_fold(trial, [0, 1])
    search.close()
    sizes = [row["count"] for row in frame.groupBy("label").count().orderBy("label").collect()]
    assert [(each.rows.sum(), each.positives.sum()) for each in counts] == [(sum(sizes), size) for size in sizes]
    model = refit(frame, plan, trial, problem, engines, calibrations=fit_calibrations("sigmoid", counts))
    last = model.stages[-1]
    last.write().overwrite().save(str(tmp_path / "stage"))
    losses = []
    for stages in (model.stages[:-1], [*model.stages[:-1], AdjustedProbabilities.load(str(tmp_path / "stage"))]):
        scored = PipelineModel(stages).transform(frame).select("label", "probability").toPandas()
        losses.append(log_loss(scored["label"], np.stack([vector.toArray() for vector in scored["probability"]])))
    assert losses[1] < losses[0] - 0.1


@parametrize_first("engine", ["spark", "tasks"], 1)
def test_scores_that_a_penalty_has_shrunk_are_told_apart_out_of_fold(frames, tmp_path, engine):
    frame, problem = frames["binary"], Problem("binary", "logLoss", 2, 7)
    trial, engines = Trial(0, "logistic_regression", {"regParam": 1000.0}), Engines({"logistic_regression": engine}, str(tmp_path))
    search = Search(frame, PLAN, ["logistic_regression"], problem, engines=engines)
    (histogram,) = search.out_of_fold(trial, [0, 1])
    search.close()
    labels, scores = [], []
    for fold in (0, 1):
        model = refit(frame.where(F.col("fold") != fold), PLAN, trial, problem, engines)
        unseen = (
            model.transform(frame.where(F.col("fold") == fold)).select("label", vector_to_array("probability")[1].alias("p")).toPandas()
        )
        assert unseen["p"].max() - unseen["p"].min() < 1e-3
        labels.append(unseen["label"].to_numpy())
        scores.append(unseen["p"].to_numpy())
    labels, scores = np.concatenate(labels), np.concatenate(scores)
    assert histogram.rows.sum() == len(labels) and len(histogram.scores) == pytest.approx(len(np.unique(scores)), abs=10)
    precision, recall, _ = precision_recall_curve(labels, scores)
    found = f1_score(labels, scores >= choose_threshold(Threshold(maximise="f1"), histogram) - 1e-12)
    assert found == pytest.approx((2 * precision * recall / np.maximum(precision + recall, 1e-300)).max(), abs=5e-3)
