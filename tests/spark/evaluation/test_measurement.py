"""Slices measured in one pass: against scikit-learn on the rows of each slice, the same in any layout, row by row or in cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F

from tidemill.errors import StepError
from tidemill.evaluation.measurement import ALL_ROWS, Pass, measure_slices
from tidemill.evaluation.row_kinds import ClassifiedRows, RegressionRows, ScoredRows
from tidemill.evaluation.slices import name_slices
from tidemill.tasks import TaskKind

N = 3000
BINARY = Pass(TaskKind.BINARY, ScoredRows(), 2, draws=100)


def _frame(spark, rows: pd.DataFrame, slices=("part",), partitions=2):
    frame = spark.createDataFrame(rows).repartition(partitions)
    columns = [array_to_vector("probability").alias("probability")] if "probability" in rows else []
    terms = F.array().cast("array<double>") if "term" not in rows else F.array(F.col("term"))
    unit = F.xxhash64("id").alias("unit")
    names = name_slices(list(slices)).alias("slices")
    return frame.select("label", "prediction", *columns, "weight", unit, names, terms.alias("terms")).cache()


@pytest.fixture(scope="module")
def binary() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    z = rng.normal(-1, 1.2, N)
    p = np.round(1 / (1 + np.exp(-z)), 3)  # with ties
    y = (rng.random(N) < p).astype(float)
    part = rng.choice(["a", "b", "c", None], N, p=[0.6, 0.3, 0.05, 0.05])
    weight = rng.choice([0.5, 1.0, 2.0], N)
    rows = pd.DataFrame({"id": range(N), "label": y, "prediction": (p > 0.4).astype(float), "weight": weight, "part": part})
    return rows.assign(probability=list(np.column_stack([1 - p, p])), x=rng.normal(size=N))


def test_every_metric_of_every_slice_is_that_of_scikit_learn(spark, binary):
    measured = measure_slices(_frame(spark, binary), BINARY)
    assert set(measured) == {ALL_ROWS, "0:part=a", "0:part=b", "0:part=c", "0:part=null"}
    for name, rows in ((ALL_ROWS, binary), ("0:part=b", binary[binary.part == "b"]), ("0:part=null", binary[binary.part.isna()])):
        y, yhat, w, p = rows.label, rows.prediction, rows.weight, np.array([each[1] for each in rows.probability])
        expected = {
            "areaUnderROC": sk.roc_auc_score(y, p, sample_weight=w),
            "averagePrecision": sk.average_precision_score(y, p, sample_weight=w),
            "accuracy": sk.accuracy_score(y, yhat, sample_weight=w),
            "balancedAccuracy": sk.balanced_accuracy_score(y, yhat, sample_weight=w),
            "precision": sk.precision_score(y, yhat, sample_weight=w),
            "recall": sk.recall_score(y, yhat, sample_weight=w),
            "specificity": sk.recall_score(y, yhat, sample_weight=w, pos_label=0),
            "f1": sk.f1_score(y, yhat, sample_weight=w),
            "mcc": sk.matthews_corrcoef(y, yhat, sample_weight=w),
            "logLoss": sk.log_loss(y, p, sample_weight=w),
            "brier": sk.brier_score_loss(y, p, sample_weight=w),
        }
        assert measured[name].rows == len(rows)
        actual = {metric: measured[name].estimates[metric].value for metric in expected}
        assert actual == pytest.approx(expected, abs=1e-9), name
        for metric, estimate in measured[name].estimates.items():
            assert estimate.lower < estimate.value < estimate.upper, (name, metric)


def test_intervals_do_not_depend_on_the_layout(spark, binary):
    one, other = (measure_slices(_frame(spark, rows, partitions=n), BINARY) for rows, n in ((binary, 1), (binary.iloc[::-1], 5)))
    for name in one:
        for metric, estimate in one[name].estimates.items():
            assert estimate.interval == pytest.approx(other[name].estimates[metric].interval, abs=1e-12), (name, metric)


def test_rows_that_are_added_up_in_cells_give_the_same_within_the_stated_bound(spark, binary):
    rng = np.random.default_rng(5)
    p = 1 / (1 + np.exp(-rng.normal(-1, 1.2, N)))  # more distinct scores than bins
    rows = binary.assign(probability=list(np.column_stack([1 - p, p])), label=(rng.random(N) < p).astype(float))
    frame = _frame(spark, rows)
    alone, in_cells = measure_slices(frame, BINARY), measure_slices(frame, BINARY, max_single_rows=10)
    for name in alone:
        for metric, estimate in alone[name].estimates.items():
            other, bound = in_cells[name].estimates[metric], in_cells[name].bounds.get(metric, 0.0)
            assert abs(other.value - estimate.value) <= bound + 1e-9, (name, metric)
            width = estimate.upper - estimate.lower
            assert other.upper - other.lower == pytest.approx(width, rel=0.45), (name, metric)
    assert in_cells[ALL_ROWS].bounds == {}  # the areas of all rows are exact
    assert 0 < in_cells["0:part=a"].bounds["areaUnderROC"] < 0.01


def test_terms_are_summed_and_resampled(spark, binary):
    amount = np.random.default_rng(1).exponential(5, N)
    plan = Pass(TaskKind.BINARY, ScoredRows(), 2, draws=400, n_terms=1)
    frame = _frame(spark, binary.assign(term=amount))
    for limit in (10, 10**6):
        term = measure_slices(frame, plan, max_single_rows=limit)["0:part=a"].terms[0]
        of_slice = np.where(binary.part == "a", amount, 0.0)
        assert term.value == pytest.approx(of_slice.sum())
        assert term.draws.std() == pytest.approx(np.sqrt(N) * of_slice.std(), rel=0.2)


def test_groups_are_resampled_as_a_whole(spark, binary):
    group = np.arange(N) // 50
    plan = Pass(TaskKind.BINARY, ScoredRows(), 2, draws=400)
    same = np.repeat(np.random.default_rng(2).random(N // 50) < 0.5, 50)  # all rows of a group are right, or none
    rows = binary.assign(id=group, weight=1.0, prediction=np.where(same, binary.label, 1 - binary.label))
    for limit in (10, 10**6):
        accuracy = measure_slices(_frame(spark, rows), plan, max_single_rows=limit)[ALL_ROWS].estimates["accuracy"]
        share = same.mean()
        assert accuracy.draws.std() == pytest.approx(np.sqrt(share * (1 - share) / (N // 50)), rel=0.25)


def test_classes(spark):
    rng = np.random.default_rng(8)
    p = rng.dirichlet(np.ones(4), N)
    y = (p.cumsum(axis=1) < rng.random(N)[:, None]).sum(axis=1).astype(float)
    weight, part = rng.choice([0.5, 1.0], N), rng.choice(["a", "b"], N)
    rows = pd.DataFrame({"id": range(N), "label": y, "prediction": p.argmax(axis=1).astype(float), "weight": weight, "part": part})
    frame = _frame(spark, rows.assign(probability=list(p)))
    for limit in (10, 10**6):
        measured = measure_slices(frame, Pass(TaskKind.MULTICLASS, ClassifiedRows(4), 4, draws=50), max_single_rows=limit)
        chosen = part == "b"
        y_b, p_b, w_b = y[chosen], p[chosen], weight[chosen]
        expected = {
            "accuracy": sk.accuracy_score(y_b, p_b.argmax(axis=1), sample_weight=w_b),
            "macroF1": sk.f1_score(y_b, p_b.argmax(axis=1), sample_weight=w_b, average="macro"),
            "f1": sk.f1_score(y_b, p_b.argmax(axis=1), sample_weight=w_b, average="weighted"),
            "logLoss": sk.log_loss(y_b, p_b, sample_weight=w_b),
            "top2Accuracy": sk.top_k_accuracy_score(y_b, p_b, k=2, sample_weight=w_b),
            "top3Accuracy": sk.top_k_accuracy_score(y_b, p_b, k=3, sample_weight=w_b),
        }
        actual = measured["0:part=b"].estimates
        assert {name: actual[name].value for name in expected} == pytest.approx(expected)
        matrix = np.zeros((4, 4))
        for point in measured[ALL_ROWS].points:
            matrix[int(point.x), int(point.y)] = point.threshold
        np.testing.assert_allclose(matrix, sk.confusion_matrix(y, p.argmax(axis=1), sample_weight=weight))


def test_errors(spark):
    rng = np.random.default_rng(9)
    y = 1e5 + rng.normal(0, 10, N)
    yhat, weight = y + rng.standard_t(5, N), rng.choice([0.0, 1.0, 3.0], N)
    rows = pd.DataFrame({"id": range(N), "label": y, "prediction": yhat, "weight": weight, "part": rng.choice(["a", "b"], N)})
    frame = _frame(spark, rows)
    plan = Pass(TaskKind.REGRESSION, RegressionRows(0.3, 1e5), 0, draws=50)
    chosen = rows[rows.part == "a"]
    given = {"y_true": chosen.label, "y_pred": chosen.prediction, "sample_weight": chosen.weight}
    expected = {
        "rmse": sk.root_mean_squared_error(**given),
        "mae": sk.mean_absolute_error(**given),
        "r2": sk.r2_score(**given),
        "mape": sk.mean_absolute_percentage_error(**given),
        "quantileLoss": sk.mean_pinball_loss(**given, alpha=0.3),
        "medianAbsoluteError": sk.median_absolute_error(**given),
    }
    for limit in (10, 10**6):
        whole = measure_slices(frame, plan, max_single_rows=limit)
        assert {point.curve for point in whole[ALL_ROWS].points} == {"residuals", "residual_quantiles"}
        measured = whole["0:part=a"]
        for metric, value in expected.items():
            assert measured.estimates[metric].value == pytest.approx(value, abs=measured.bounds.get(metric, 0) + 1e-7), metric
            assert measured.estimates[metric].lower < value < measured.estimates[metric].upper, metric


def test_nothing_and_no_number_are_refused(spark, binary):
    with pytest.raises(StepError, match="found no row"):
        measure_slices(_frame(spark, binary).where("label > 5"), BINARY)
    bad = binary.assign(prediction=np.where(binary.id == 7, np.nan, binary.prediction))
    with pytest.raises(StepError, match="1 of 3000 predictions are null or no number"):
        measure_slices(_frame(spark, bad), BINARY)
