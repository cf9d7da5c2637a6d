"""compute_metrics against scikit-learn on the same rows, and by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F
from sklearn import metrics as sk

from tidemill.errors import StepError
from tidemill.evaluation import compute_metrics, fit_constant, is_better, scores
from tidemill.evaluation.arrays import compute_array_metrics as of_arrays
from tidemill.tasks import METRICS


def _classified(spark, labels, probabilities):
    """Predictions whose class is the most probable one, as a fitted MLlib pipeline gives them."""
    p = np.asarray(probabilities, dtype=float)
    frame = pd.DataFrame({"label": np.asarray(labels, dtype=float), "prediction": p.argmax(axis=1).astype(float), "p": p.tolist()})
    return spark.createDataFrame(frame).select("label", "prediction", array_to_vector(F.col("p")).alias("probability"))


def _binary(spark, y, p):
    return _classified(spark, y, np.column_stack([1 - p, p]))


def _calibration_error(y, p, w):
    """Guo's definition, bin by bin: the gap between mean score and share of positive rows, weighted by the bin's rows."""
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (p > low) & (p <= low + 1 / 15) & (w > 0)
        if inside.any():
            gap = np.average(y[inside], weights=w[inside]) - np.average(p[inside], weights=w[inside])
            error += w[inside].sum() / w.sum() * abs(gap)
    return error


def _trapezoids_under_pr(y, p):
    """MLlib's definition, written down again: one point a distinct score, starting at recall 0 with the first precision."""
    thresholds = np.unique(p)[::-1]
    precision = [y[p >= t].mean() for t in thresholds]
    recall = [y[p >= t].sum() / y.sum() for t in thresholds]
    return np.trapezoid([precision[0], *precision], [0, *recall])


@pytest.mark.parametrize("kind", ["informative", "rare and narrow", "coarse with ties", "certain"])
def test_binary_agrees_with_scikit_learn(spark, kind):
    rng = np.random.default_rng(11)
    n = 4000
    x = rng.normal(size=n)
    if kind == "informative":
        y = (x + rng.normal(size=n) > 0.8).astype(float)
        p = 1 / (1 + np.exp(-(2 * x - 1)))
    elif kind == "rare and narrow":
        y = (rng.uniform(size=n) < 0.01 + 0.01 * (x > 1)).astype(float)
        p = 1 / (1 + np.exp(-(-4 + 0.1 * x)))
    elif kind == "coarse with ties":
        y = (x > 0.3).astype(float)
        p = np.round(1 / (1 + np.exp(-(x + rng.normal(size=n)))), 1)
    else:
        y = (x > 0).astype(float)
        p = np.where(x > 0.5, 1.0, np.where(x < -0.5, 0.0, 0.5 + 0.3 * x))
    actual = compute_metrics(_binary(spark, y, p), "binary")
    called = (p > 0.5).astype(float) if kind != "coarse with ties" else np.column_stack([1 - p, p]).argmax(axis=1)
    assert actual["areaUnderROC"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-9)
    assert actual["areaUnderPR"] == pytest.approx(_trapezoids_under_pr(y, p), abs=1e-9)
    assert actual["accuracy"] == pytest.approx(sk.accuracy_score(y, called), abs=1e-12)
    assert actual["f1"] == pytest.approx(sk.f1_score(y, called), abs=1e-12)
    loss = -np.log(np.clip(np.where(y == 1, p, 1 - p), 1e-15, 1 - 1e-15)).mean()
    assert actual["logLoss"] == pytest.approx(loss, rel=1e-9)
    if kind == "informative":
        assert actual["logLoss"] == pytest.approx(sk.log_loss(y, p), rel=1e-9)
        assert actual["areaUnderPR"] == pytest.approx(sk.average_precision_score(y, p), abs=2e-3)


@pytest.mark.long("seven kinds of scores, each measured three ways")
def test_binary_metrics_are_those_of_tasks_and_scikit_learns_whatever_the_scores_and_wherever_they_are_measured(spark, monkeypatch):
    """Few scores are counted on the driver, more are measured in parts by Spark; neither takes different scores for ties."""
    rng = np.random.default_rng(17)
    x = rng.normal(size=700)
    y = (x + 1.5 * rng.normal(size=700) > 1).astype(float)
    w = rng.choice([0.0, 0.5, 3.0], 700)
    sigmoid = 1 / (1 + np.exp(-x))
    kinds = {
        "shrunk": 0.27 + 1e-7 * x,
        "of two scales": np.where(x > 0, 0.9 + 1e-12 * x, 1e-300 * sigmoid),
        "saturated": 1 / (1 + np.exp(-60 * x)),
        "tied": np.round(sigmoid, 1),
        "constant": np.full(700, 0.3),
        "infinite": np.select([x > 1, x < -1], [np.inf, -np.inf], sigmoid),
    }
    rows = [
        (kind, float(label), float(score > 0.5), score, weight)
        for kind, p in kinds.items()
        for label, score, weight in zip(y, map(float, p), w.tolist(), strict=True)
    ]
    probability = array_to_vector(F.array(1 - F.col("p"), "p")).alias("probability")
    table = spark.createDataFrame(rows, "kind string, label double, prediction double, p double, w double")
    table = table.select("kind", "label", "prediction", "w", probability).repartition(3).cache()
    for kind, p in kinds.items():
        frame, ranks = table.where(F.col("kind") == kind), np.unique(p, return_inverse=True)[1]
        for most_scores, weight in ((200_000, "w"), (5, "w"), (5, None)):
            monkeypatch.setattr(scores, "MAX_SCORES_ON_DRIVER", most_scores)
            monkeypatch.setattr(scores, "SCORES_PER_TASK", 150)
            counts = w if weight else np.ones(700)
            actual = compute_metrics(frame, "binary", weight=weight)
            assert actual["areaUnderROC"] == pytest.approx(sk.roc_auc_score(y, ranks, sample_weight=counts), abs=1e-9), (kind, most_scores)
            expected = of_arrays(y, np.column_stack([1 - p, p]), "binary", counts)
            assert actual == pytest.approx(expected, abs=1e-9, nan_ok=True), (kind, most_scores)
    table.unpersist()


def test_binary_areas_agree_with_mllib(spark):
    rng = np.random.default_rng(3)
    x = rng.normal(size=800)
    frame = _binary(spark, (x + rng.normal(size=800) > 1).astype(float), 1 / (1 + np.exp(-x)))
    actual = compute_metrics(frame, "binary")
    for metric in ("areaUnderROC", "areaUnderPR"):
        evaluator = BinaryClassificationEvaluator(rawPredictionCol="probability", metricName=metric, numBins=0)
        assert actual[metric] == pytest.approx(evaluator.evaluate(frame), abs=1e-9)


def test_multiclass_agrees_with_scikit_learn_also_for_a_class_that_is_never_right(spark):
    rng = np.random.default_rng(5)
    y = rng.integers(0, 4, size=600)
    p = rng.dirichlet([1, 1, 1, 1], size=600)
    p[:, 3] = 0  # never predicted, so its F1 is 0 and its log loss the bound's
    p[np.arange(600), np.where(y == 3, 0, y)] += 0.7
    p /= p.sum(axis=1, keepdims=True)
    actual = compute_metrics(_classified(spark, y, p), "multiclass", 4)
    called = p.argmax(axis=1)
    assert actual["accuracy"] == pytest.approx(sk.accuracy_score(y, called))
    assert actual["f1"] == pytest.approx(sk.f1_score(y, called, average="weighted", zero_division=0))
    assert actual["logLoss"] == pytest.approx(-np.log(np.clip(p[np.arange(600), y], 1e-15, 1 - 1e-15)).mean())


def test_multiclass_label_that_the_model_does_not_know_counts_as_an_error(spark):
    actual = compute_metrics(_classified(spark, [0, 2], [[0.9, 0.1], [0.2, 0.8]]), "multiclass", 2)
    assert actual["accuracy"] == 0.5
    assert actual["logLoss"] == pytest.approx((-math.log(0.9) - math.log(1e-15)) / 2)


def test_regression_agrees_with_scikit_learn(spark):
    rng = np.random.default_rng(7)
    y = 1e6 + rng.normal(size=500)
    z = y + rng.normal(scale=0.5, size=500)
    actual = compute_metrics(spark.createDataFrame(pd.DataFrame({"label": y, "prediction": z})), "regression")
    assert actual["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(y, z)))
    assert actual["mae"] == pytest.approx(sk.mean_absolute_error(y, z))
    assert actual["r2"] == pytest.approx(sk.r2_score(y, z), rel=1e-9)


def _baseline_metrics(train, test, task, **options):
    constant = fit_constant(train, task, **options)
    rows = test.withColumn("prediction", F.lit(constant.prediction))
    if constant.probability:
        rows = rows.withColumn("probability", array_to_vector(F.array(*map(F.lit, constant.probability))))
    return compute_metrics(rows, task, **options)


def test_constant_baseline_predicts_the_training_shares_and_mean(spark):
    train = spark.createDataFrame([(1.0,), (0.0,), (0.0,), (0.0,)], "label double")
    test = spark.createDataFrame([(1.0,), (0.0,)], "label double")
    actual = _baseline_metrics(train, test, "binary")
    # Every row gets p = 1/4 and class 0: half of the test rows are right, and one score cannot rank.
    expected = {"areaUnderROC": 0.5, "areaUnderPR": 0.5, "averagePrecision": 0.5, "accuracy": 0.5, "balancedAccuracy": 0.5, "f1": 0.0}
    expected |= {
        "recall": 0.0,
        "specificity": 1.0,
        "falsePositiveRate": 0.0,
        "selectionRate": 0.0,
        "mcc": 0.0,
        "precision": 0.0,
        "expectedCalibrationError": 0.25,
    }
    expected |= {"logLoss": -(math.log(0.25) + math.log(0.75)) / 2, "brier": (0.75**2 + 0.25**2) / 2}
    assert actual == pytest.approx(expected, nan_ok=True)
    actual = _baseline_metrics(train, test, "regression")
    # Constant 1/4; residuals 3/4 and -1/4; the test labels' own variance is 1/4.
    expected = {"rmse": math.sqrt((9 / 16 + 1 / 16) / 2), "mae": 0.5, "r2": 1 - (5 / 16) / (1 / 4)}
    # The label 0 counts as the smallest number that scikit-learn divides by.
    expected["mape"] = (0.75 + 0.25 / np.finfo(float).eps) / 2
    assert actual == pytest.approx(expected)


def test_one_class_only_has_no_areas(spark):
    p = np.array([0.2, 0.7])
    assert math.isnan(compute_metrics(_binary(spark, [1, 1], p), "binary")["areaUnderROC"])
    actual = compute_metrics(_binary(spark, [0, 0], p), "binary")
    assert math.isnan(actual["areaUnderPR"])
    assert actual["accuracy"] == 0.5


def _nan_where(condition):
    nan = array_to_vector(F.array(F.lit(math.nan), F.lit(math.nan)))
    return F.when(F.expr(condition), nan).otherwise(F.col("probability"))


def test_nothing_and_nan_are_named(spark):
    with pytest.raises(StepError, match="no row"):
        compute_metrics(_binary(spark, [1.0], np.array([0.5])).where("label > 1"), "binary")
    with pytest.raises(StepError, match="1 of 2 predictions"):
        compute_metrics(_binary(spark, [1.0, 0.0], np.array([0.5, 0.5])).withColumn("probability", _nan_where("label = 1")), "binary")
    with pytest.raises(StepError, match="1 of 2 predictions"):
        compute_metrics(spark.createDataFrame([(1.0, 2.0), (1.0, math.nan)], "label double, prediction double"), "regression")
    with pytest.raises(StepError, match="1 of 2 predictions"):
        compute_metrics(spark.createDataFrame([(1.0, 2.0), (1.0, math.inf)], "label double, prediction double"), "regression")


def test_better_follows_the_direction_of_the_metric():
    assert is_better("areaUnderPR", 0.4, 0.3)
    assert is_better("rmse", 1.0, 2.0)
    assert not is_better("rmse", math.nan, 2.0)
    assert is_better("f1", 0.1, math.nan)
    assert not is_better("r2", 0.5, 0.5)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_weighted_metrics_agree_with_scikit_learn_and_with_those_of_tasks(spark, task):
    rng = np.random.default_rng(9)
    w = rng.choice([0.0, 0.5, 3.0], 400)
    if task == "regression":
        y, z = 1e6 + rng.normal(size=400), 1e6 + rng.normal(size=400)
        frame = spark.createDataFrame(pd.DataFrame({"label": y, "prediction": z, "w": w}))
        actual = compute_metrics(frame, task, weight="w", quantile=0.3)
        assert actual["r2"] == pytest.approx(sk.r2_score(y, z, sample_weight=w), rel=1e-9)
        assert actual["rmse"] == pytest.approx(sk.root_mean_squared_error(y, z, sample_weight=w))
        assert actual["quantileLoss"] == pytest.approx(sk.mean_pinball_loss(y, z, alpha=0.3, sample_weight=w))
        assert actual["mape"] == pytest.approx(sk.mean_absolute_percentage_error(y, z, sample_weight=w))
        assert actual == pytest.approx({name: value for name, value in of_arrays(y, z, task, w, 0.3).items() if name in actual})
        nothing = frame.withColumn("w", F.lit(0.0))
    else:
        n_classes = 2 if task == "binary" else 3
        p = rng.dirichlet(np.ones(n_classes), 400)
        y = rng.integers(0, n_classes, 400)
        table = pd.DataFrame({"label": y.astype(float), "prediction": p.argmax(axis=1).astype(float), "p": p.tolist(), "w": w})
        frame = spark.createDataFrame(table).withColumn("probability", array_to_vector("p"))
        actual = compute_metrics(frame, task, n_classes, weight="w")
        assert actual["logLoss"] == pytest.approx(sk.log_loss(y, p, sample_weight=w))
        assert actual["accuracy"] == pytest.approx(sk.accuracy_score(y, p.argmax(axis=1), sample_weight=w))
        assert actual == pytest.approx(of_arrays(y, p, task, w))
        called = p.argmax(axis=1)
        assert actual["mcc"] == pytest.approx(sk.matthews_corrcoef(y, called, sample_weight=w))
        assert actual["balancedAccuracy"] == pytest.approx(sk.balanced_accuracy_score(y, called, sample_weight=w))
        nothing = frame.withColumn("w", F.lit(0.0))
        if task == "multiclass":
            assert actual["macroF1"] == pytest.approx(sk.f1_score(y, called, average="macro", sample_weight=w))
        if task == "binary":
            assert actual["precision"] == pytest.approx(sk.precision_score(y, called, sample_weight=w))
            assert actual["recall"] == pytest.approx(sk.recall_score(y, called, sample_weight=w))
            assert actual["specificity"] == pytest.approx(sk.recall_score(y, called, pos_label=0, sample_weight=w))
            assert actual["averagePrecision"] == pytest.approx(sk.average_precision_score(y, p[:, 1], sample_weight=w))
            assert actual["brier"] == pytest.approx(sk.brier_score_loss(y, p[:, 1], sample_weight=w))
            assert actual["expectedCalibrationError"] == pytest.approx(_calibration_error(y, p[:, 1], w))
            for metric in ("areaUnderROC", "areaUnderPR"):
                evaluator = BinaryClassificationEvaluator(rawPredictionCol="probability", metricName=metric, numBins=0, weightCol="w")
                assert actual[metric] == pytest.approx(evaluator.evaluate(frame), abs=1e-9)
    with pytest.raises(StepError, match="weights of all 400 rows to evaluate are 0"):
        compute_metrics(nothing, task, 3, weight="w")


def test_the_constant_baseline_is_weighted_and_of_a_quantile_loss_a_quantile(spark):
    train = spark.createDataFrame([(1.0, 3.0), (0.0, 1.0), (5.0, 0.0)], "label double, w double")
    test = spark.createDataFrame([(1.0, 1.0), (0.0, 2.0)], "label double, w double")
    assert _baseline_metrics(train, test, "regression", weight="w")["mae"] == pytest.approx((0.25 * 1 + 0.75 * 2) / 3)
    actual = _baseline_metrics(train, test, "regression", weight="w", quantile=0.2)
    assert actual["quantileLoss"] == pytest.approx(0.2 * 1 / 3)  # the constant is 0
    assert _baseline_metrics(train, test, "regression", weight="w", quantile=0.9)["mae"] == pytest.approx(2 / 3)  # and here 1
    classes = train.where("label < 2")
    assert _baseline_metrics(classes, test, "binary", weight="w")["logLoss"] == pytest.approx(-(math.log(0.75) + 2 * math.log(0.25)) / 3)


class MeanCost:
    """A missed positive costs 5, a false alarm 1."""

    tasks = ("binary",)
    greater_is_better = False

    def terms(self, rows):
        return {"cost": np.where(rows.label == 1, 5.0 * (rows.prediction == 0), 1.0 * (rows.prediction == 1))}

    def value(self, counts):
        return counts.sums["cost"] / counts.n


class Percentage:
    """The mean absolute percentage error, and R² again from its counts: a formula needs no terms for that."""

    tasks = ("regression",)

    def terms(self, rows):
        return {"share": np.abs(rows.label - rows.prediction) / np.abs(rows.label)}

    def value(self, counts):
        return counts.sums["share"] / counts.n


def test_own_metric_of_terms_is_the_same_in_spark_and_of_arrays(spark, monkeypatch):
    """A metric that is given its sums by many small batches in Spark, and by one array elsewhere."""
    monkeypatch.setitem(METRICS._built_in, "meanCost", MeanCost)
    monkeypatch.setitem(METRICS._built_in, "percentage", Percentage)
    cost, percentage = METRICS.get("meanCost"), METRICS.get("percentage")
    rng = np.random.default_rng(3)
    y, p, w = (rng.uniform(size=3000) < 0.3).astype(float), rng.uniform(size=3000), rng.integers(1, 4, 3000).astype(float)
    frame = _binary(spark, y, p).repartition(3)
    by_hand = float(5 * ((y == 1) & (p <= 0.5)).sum() + ((y == 0) & (p > 0.5)).sum()) / 3000
    assert compute_metrics(frame, "binary", own=[cost])["meanCost"] == pytest.approx(by_hand, rel=1e-12)
    weighted = of_arrays(y, np.column_stack([1 - p, p]), "binary", w, own=[cost])["meanCost"]
    assert weighted == pytest.approx(float(w @ np.where(y == 1, 5.0 * (p <= 0.5), 1.0 * (p > 0.5))) / w.sum(), rel=1e-12)

    z = y + 1 + rng.normal(size=3000)
    values = spark.createDataFrame(pd.DataFrame({"label": y + 1, "prediction": z, "w": w})).repartition(2)
    actual = compute_metrics(values, "regression", weight="w", own=[percentage, cost])
    assert actual["percentage"] == pytest.approx(sk.mean_absolute_percentage_error(y + 1, z, sample_weight=w), rel=1e-12)
    assert of_arrays(y + 1, z, "regression", w, own=[percentage])["percentage"] == pytest.approx(actual["percentage"], rel=1e-12)
    assert "meanCost" not in actual
