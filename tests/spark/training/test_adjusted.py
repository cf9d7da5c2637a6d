"""Classes balanced and brought back, calibration and thresholds, against scikit-learn and by hand."""

import json

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import functions as F
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score

from tidemill.features import FeaturePlan
from tidemill.spec.models import Numeric
from tidemill.spec.search import Threshold
from tidemill.training.adjusted import AdjustedProbabilities
from tidemill.training.balance import balance_of, corrected
from tidemill.training.engines import Engines
from tidemill.training.folds import ORDER
from tidemill.training.out_of_fold import (
    LOGITS,
    SIZE,
    calibration,
    calibrations,
    counted,
    counted_by_class,
    counted_by_spark,
    moved,
    threshold,
)
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.search import Search
from tidemill.training.tuner import Trial

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


def test_sigmoid_is_a_logistic_regression_on_the_logit(judged):
    labels, p = judged
    table = calibration("sigmoid", counted(labels, p))
    logit = np.log(p / (1 - p))
    model = LogisticRegression(C=np.inf).fit(logit[:, None], labels)
    known = np.abs(LOGITS) < 8
    assert np.abs(table - model.predict_proba(LOGITS[:, None])[:, 1])[known].max() < 2e-3


def test_isotonic_never_falls_and_is_scikit_learns_up_to_the_grid(judged):
    labels, p = judged
    table = calibration("isotonic", counted(labels, p))
    model = IsotonicRegression(out_of_bounds="clip").fit(np.log(p / (1 - p)), labels)
    found = np.interp(np.log(p / (1 - p)), LOGITS, table)
    assert (np.diff(table) >= 0).all() and table.min() > 0 and table.max() < 1
    assert np.abs(found - model.predict(np.log(p / (1 - p)))).mean() < 3e-3


@pytest.mark.parametrize("rule", [{"maximise": "f1"}, {"maximise": "accuracy"}, {"at_precision": 0.7}, {"at_recall": 0.9}], ids=json.dumps)
def test_a_threshold_is_the_best_of_all(judged, rule):
    labels, p = judged
    found = threshold(Threshold(**rule), counted(labels, p))
    grid = 1 / (1 + np.exp(-LOGITS[(LOGITS > -9) & (LOGITS < 9)]))
    called = p >= found
    if "maximise" in rule:
        measure = f1_score if rule["maximise"] == "f1" else lambda truth, guess: (truth == guess).mean()
        assert measure(labels, called) > max(measure(labels, p >= other) for other in grid[::5]) - 2e-3
    elif "at_precision" in rule:
        assert precision_score(labels, called) >= 0.695
        looser = p >= 1 / (1 + np.exp(-(np.log(found / (1 - found)) - 0.2)))
        assert precision_score(labels, looser) < 0.7
    else:
        assert recall_score(labels, called) >= 0.895
        tighter = p >= 1 / (1 + np.exp(-(np.log(found / (1 - found)) + 0.2)))
        assert recall_score(labels, tighter) < 0.9


def test_the_stage_does_by_expressions_what_arrays_do_and_is_saved_and_loaded(predictions, judged, tmp_path):
    labels, p = judged[0][:500], judged[1][:500]
    table = calibration("sigmoid", counted(*judged))
    stage = AdjustedProbabilities([2.0, 0.5], [float(value) for value in table], 0.3)
    PipelineModel([stage]).write().overwrite().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    rows = [
        model.transform(predictions).select("p", vector_to_array("probability")[1].alias("q"), "prediction").orderBy("p").toPandas()
        for model in (stage, loaded)
    ]
    assert rows[0].equals(rows[1])
    by_hand = corrected(np.column_stack([1 - p, p]), [2.0, 0.5])[:, 1]
    expected = np.interp(np.log(by_hand / (1 - by_hand)), LOGITS, table)[np.argsort(p)]
    assert np.allclose(rows[0]["q"], expected, atol=1e-9)
    assert (rows[0]["prediction"] == (expected >= 0.3)).all()
    assert np.array_equal(counted_by_spark(predictions), counted(labels, p))
    assert counted(labels, p).shape == (2, SIZE)
    assert moved(counted(labels, p), table).sum() == counted(labels, p).sum()


@pytest.mark.parametrize("kind", ["weights", "undersample"])
@pytest.mark.parametrize("engine", ["tasks", "spark"])
def test_balanced_classes_are_brought_back(frames, tmp_path, kind, engine):
    rare = frames["binary"].where((F.col("label") == 0) | (F.pmod(F.col(ORDER), F.lit(6)) == 0))
    counts = {int(row["label"]): row["count"] for row in rare.groupBy("label").count().collect()}
    balance = balance_of(kind, counts, 2)
    assert balance.factors[1] / balance.factors[0] == pytest.approx(counts[0] / counts[1])
    problem = Problem("binary", "logLoss", 2, 7, balance=balance)
    trial = Trial(0, "logistic_regression", {"regParam": 0.01})
    engines = Engines({"logistic_regression": engine}, str(tmp_path))
    search = Search(rare, PLAN, ["logistic_regression"], problem, engines=engines)
    rows = search.run([trial], [0, 1])
    assert [row.state for row in rows] == ["SUCCEEDED"] * 2
    counted_rows = search.out_of_fold(trial, [0, 1])
    search.close()
    assert (counted_rows[0].sum(), counted_rows[1].sum()) == (sum(counts.values()), counts[1])
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
    counts = counted_by_class(labels, sure)
    rows = [(float(label), [float(value) for value in p]) for label, p in zip(labels, sure, strict=True)]
    frame = spark.createDataFrame(rows, "label DOUBLE, p ARRAY<DOUBLE>").select(
        "label", "p", array_to_vector("p").alias("probability"), F.lit(0.0).alias("prediction")
    )
    assert np.array_equal(counted_by_spark(frame, None, 3), counts)
    found = AdjustedProbabilities(table=calibrations(kind, counts)).transform(frame).toPandas()
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
    assert np.abs(adjusted - expected).mean() < 5e-3
    assert log_loss(found["label"], adjusted) < log_loss(found["label"], given) - 0.1


@pytest.mark.parametrize("engine", ["tasks", "spark"])
def test_a_naive_bayes_that_counts_everything_thirty_times_is_brought_back_by_unseen_rows(frames, tmp_path, engine):
    names = [f"{sign}_{copy}" for sign in ("x", "opposite") for copy in range(30)]
    x, fold = F.coalesce("x", F.lit(0.0)), F.pmod(ORDER, F.lit(2)).cast("int").alias("fold")
    frame = frames["multiclass"].select(*[(x if name[0] == "x" else -x).alias(name) for name in names], "label", fold, ORDER)
    plan = FeaturePlan(Numeric(columns=names, scale="none"))
    problem, trial = Problem("multiclass", "logLoss", 3, 7), Trial(0, "naive_bayes", {"smoothing": 0.5})
    engines = Engines({"naive_bayes": engine}, str(tmp_path))
    finder = Search(frame, plan, ["naive_bayes"], problem, engines=engines)
    counts = finder.out_of_fold(trial, [0, 1])
    finder.close()
    sizes = [row["count"] for row in frame.groupBy("label").count().orderBy("label").collect()]
    assert [int(value) for value in counts.sum(axis=1)] == [value for size in sizes for value in (sum(sizes), size)]
    model = refit(frame, plan, trial, problem, engines, table=calibrations("sigmoid", counts))
    last = model.stages[-1]
    last.write().overwrite().save(str(tmp_path / "stage"))
    losses = []
    for stages in (model.stages[:-1], [*model.stages[:-1], AdjustedProbabilities.load(str(tmp_path / "stage"))]):
        scored = PipelineModel(stages).transform(frame).select("label", "probability").toPandas()
        losses.append(log_loss(scored["label"], np.stack([vector.toArray() for vector in scored["probability"]])))
    assert losses[1] < losses[0] - 0.1
