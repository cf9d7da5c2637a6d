"""Weights of rows, monotone columns, targets that are learned by their logarithm, and losses, in both engines, against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mean_pinball_loss, r2_score
from tests.tiers import parametrize_first

from tidemill.errors import SpecError, StepError
from tidemill.families import ENGINES
from tidemill.features import FeaturePlan
from tidemill.features.groups import Buckets, Categorical, Numeric
from tidemill.learners.class_labels import class_metadata
from tidemill.training.engines.choice import Engines, Resources, choose_engines
from tidemill.training.folds import ORDER, WEIGHT
from tidemill.training.labels import LabelEncoding, read_labels
from tidemill.training.monotone import check_monotone
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.search import Search, cross_validate
from tidemill.training.tuning.tuner import Trial

PLAN = FeaturePlan.of(numeric=Numeric(columns=["x", "z"], scale="none"))
PARAMS = {
    "hist_gradient_boosting": {"max_iter": 25, "min_samples_leaf": 5},
    "xgboost": {"n_estimators": 25, "max_depth": 4},
    "lightgbm": {"n_estimators": 25, "min_child_samples": 5},
    "linear_regression": {"regParam": 0.1},
    "logistic_regression": {"regParam": 0.05, "maxIter": 100},
}


def table(rows=600):
    """A price that grows with x but for a dent, and with the spread of its noise; weights that turn the small half upside down."""
    rng = np.random.default_rng(3)
    x, z = rng.uniform(0, 10, rows), rng.normal(size=rows)
    price = np.exp(0.3 * x + 0.8 * np.sin(x) + 0.3 * rng.normal(size=rows))
    weight = np.where(rng.random(rows) < 0.5, 5.0, 0.0) + 0.25 * (x < 5)
    return pd.DataFrame({"x": x, "z": z, "price": price, "weight": weight, "late": (x + 2 * z + rng.normal(size=rows) > 5).astype(float)})


@pytest.fixture(scope="module")
def rows(spark):
    frame = spark.createDataFrame(table()).withColumn(ORDER, F.xxhash64("x")).withColumn("fold", F.pmod(ORDER, F.lit(2)).cast("int"))
    yield frame.cache()
    frame.unpersist()


def framed(rows, label="price", *, classes=0, weighted=False, target="identity"):
    column = (
        F.col("late").alias("label", metadata=class_metadata(2))
        if classes
        else LabelEncoding(label, "double", None, target=target).encode()
    )
    return rows.select("x", "z", column, "fold", ORDER, *([F.col("weight").alias(WEIGHT)] if weighted else []))


def engines_of(tmp_path, name, engine="tasks"):
    return Engines({name: engine}, str(tmp_path))


def scored(model, frame):
    return model.transform(frame.select("x", "z", "label", ORDER)).orderBy(ORDER).toPandas()


@pytest.mark.parametrize("name", ["logistic_regression", "linear_regression"])
def test_weighted_linear_models_are_the_same_in_both_engines_and_as_with_repeated_rows(rows, tmp_path, name):
    is_binary = name == "logistic_regression"
    whole = rows.withColumn("weight", F.floor(F.col("weight")) % 3)  # 0, 1 or 2
    frame = framed(whole, classes=2 if is_binary else 0, weighted=True)
    problem = Problem(
        "binary" if is_binary else "regression", "logLoss" if is_binary else "rmse", 2 if is_binary else 0, 7, is_weighted=True
    )
    # The deviation of repeated rows is another one, so columns are taken as they are; that of a label is not asked for without a penalty.
    params = {**PARAMS[name], "standardization": False} if is_binary else {"regParam": 0.0}
    trial = Trial(0, name, params)
    repeated = frame.withColumn("n", F.explode(F.sequence(F.lit(1), F.lit(2)))).where(F.col("n") <= F.col(WEIGHT)).drop("n", WEIGHT)
    repeated = repeated.withColumn("label", F.col("label").alias("label", metadata=frame.schema["label"].metadata))
    plain = Problem(problem.task, problem.metric, problem.n_classes, 7)
    models = [
        refit(frame, PLAN, trial, problem, engines_of(tmp_path, name)).stages[-1],
        refit(frame, PLAN, trial, problem).stages[-1],
        refit(repeated, PLAN, trial, plain, engines_of(tmp_path, name)).stages[-1],
    ]
    found = [(model.coefficientMatrix.toArray()[0] if is_binary else model.coefficients.toArray()) for model in models]
    assert np.allclose(found[0], found[1], atol=2e-3) and np.allclose(found[0], found[2], atol=2e-3)
    unweighted = refit(frame.drop(WEIGHT), PLAN, trial, plain, engines_of(tmp_path, name)).stages[-1]
    away = unweighted.coefficientMatrix.toArray()[0] if is_binary else unweighted.coefficients.toArray()
    assert not np.allclose(found[0], away, atol=2e-3)
    if not is_binary:  # a penalty of standardised columns and labels
        penalised = Trial(0, name, {"regParam": 0.4})
        both = [refit(frame, PLAN, penalised, problem, each).stages[-1].coefficients for each in (engines_of(tmp_path, name), None)]
        assert np.allclose(*both, rtol=1e-3)


def test_validation_is_weighted_and_so_are_the_counts_of_unseen_rows(rows, tmp_path):
    frame = framed(rows, classes=2, weighted=True)
    problem, trial = (
        Problem("binary", "logLoss", 2, 7, is_weighted=True),
        Trial(0, "logistic_regression", {"regParam": 0.0, "maxIter": 100}),
    )
    data = frame.orderBy(ORDER).toPandas()
    values, expected = [], np.zeros(2)
    for fold in (0, 1):
        train, held_out = data[data["fold"] != fold], data[data["fold"] == fold]
        model = LogisticRegression(C=np.inf).fit(train[["x", "z"]], train["label"], train[WEIGHT])
        p = model.predict_proba(held_out[["x", "z"]])[:, 1]
        loss = -np.log(np.where(held_out["label"] == 1, p, 1 - p))
        values.append(np.average(loss, weights=held_out[WEIGHT]))
        expected += held_out[WEIGHT].sum(), held_out[WEIGHT][held_out["label"] == 1].sum()
    for engine in ("tasks", "spark"):
        search = Search(frame, PLAN, ["logistic_regression"], problem, engines=engines_of(tmp_path, "logistic_regression", engine))
        found = search.run([trial], [0, 1])
        assert [row.value for row in found] == pytest.approx(values, abs=2e-3)
        (histogram,) = search.out_of_fold(trial, [0, 1])
        assert (histogram.rows.sum(), histogram.positives.sum()) == pytest.approx(tuple(expected))
        search.close()


def test_families_without_weights_say_so(rows, tmp_path):
    frame, problem = framed(rows, classes=2, weighted=True), Problem("binary", "logLoss", 2, 7, is_weighted=True)
    with pytest.raises(StepError, match=r"linear_svm does not support sample weights; leave `dataset.weight` out, or `engine: tasks`"):
        refit(frame, PLAN, Trial(0, "linear_svm", {}), problem)
    model = refit(frame, PLAN, Trial(0, "linear_svm", {"regParam": 0.1}), problem, engines_of(tmp_path, "linear_svm"))
    assert scored(model, frame)["prediction"].nunique() == 2


def rises(model, spark, sign=1):
    """Whether predictions never fall (rise) along x, at several z."""
    grid = spark.createDataFrame([(float(x), float(z)) for z in (-1, 0, 1) for x in np.linspace(0, 10, 101)], "x double, z double")
    columns = model.transform(grid).columns
    value = vector_to_array(F.col("probability"))[1] if "probability" in columns else F.col("prediction")
    found = model.transform(grid).select("z", "x", value.alias("p")).orderBy("z", "x").toPandas()
    return all((sign * np.diff(part["p"]) >= -1e-12).all() for _, part in found.groupby("z"))


@pytest.mark.long("fits XGBoost on Spark twice")
def test_xgboost_on_all_workers_is_held_too_and_knows_absolute_losses(spark, rows):
    engines, trial = Engines({"xgboost": "spark"}), Trial(0, "xgboost", PARAMS["xgboost"])
    free, held = (
        Problem("regression", "mae", 0, 7, loss=loss, monotone=ways) for loss, ways in (("absolute", {}), ("squared", {"x": "increasing"}))
    )
    models = [refit(framed(rows), PLAN, trial, problem, engines) for problem in (free, held)]
    assert [rises(model, spark) for model in models] == [False, True]
    assert models[0].stages[-1].getOrDefault("objective") == "reg:absoluteerror"
    assert cross_validate(framed(rows), PLAN, [trial], [0], held, engines).rows[0].state == "SUCCEEDED"


def test_monotone_probabilities_fall_and_slots_of_categories_are_left_alone(spark, rows, tmp_path):
    plan = FeaturePlan.of(numeric=Numeric(columns=["x", "z"]), categorical=Categorical(columns=["c"]))
    frame = framed(rows, classes=2).withColumn("c", F.when(F.col("z") > 0, "a").otherwise("b"))
    for name in ("hist_gradient_boosting", "lightgbm"):
        problem = Problem("binary", "logLoss", 2, 7, monotone={"x": "decreasing"})
        model = refit(frame, plan, Trial(0, name, PARAMS[name]), problem, engines_of(tmp_path, name))
        grid = [(float(x), 0.5, "a") for x in np.linspace(0, 10, 101)]
        found = model.transform(spark.createDataFrame(grid, "x double, z double, c string"))
        p = found.orderBy("x").select(vector_to_array("probability")[1].alias("p")).toPandas()["p"]
        assert (np.diff(p) <= 1e-12).all()


def test_what_cannot_be_held_is_refused():
    plan = FeaturePlan.of(
        numeric=Numeric(columns=["x", "z"]), categorical=Categorical(columns=["c"]), buckets=Buckets(columns=["z"], quantiles=3)
    )
    with pytest.raises(SpecError) as caught:
        check_monotone(plan, {"x": "increasing", "z": "increasing", "c": "decreasing", "y": "increasing"}, "pipeline.yml")
    assert [(fault.key, fault.message.partition(",")[0]) for fault in caught.value.faults] == [
        ("training.monotone.z", "'z' is in `features.buckets`"),
        ("training.monotone.c", "'c' is in `features.categorical`"),
        ("training.monotone.y", "'y' is no feature; name a numeric column"),
    ]
    problem = Problem("regression", "rmse", 0, 7, monotone={"x": "increasing"})
    given = {"scratch": "/tmp/x", "rows": 1, "columns": 1, "most_bytes": 99}
    with pytest.raises(SpecError, match=r"gradient_boosted_trees cannot keep `training.monotone` by `engine: spark`; name xgboost"):
        choose_engines(ENGINES.get("spark"), {"gradient_boosted_trees": {}}, problem, Resources(**given))
    space = {"gradient_boosted_trees": {"subsamplingRate": 0.5}}  # which scikit-learn's do not know
    assert (
        choose_engines(ENGINES.get("auto"), space, Problem("regression", "rmse", 0, 7), Resources(**given)).engine_of(
            "gradient_boosted_trees"
        )
        == "spark"
    )
    with pytest.raises(SpecError, match="subsamplingRate"):
        choose_engines(ENGINES.get("auto"), space, problem, Resources(**given))


@parametrize_first("engine", ["tasks", "spark"], 1)
def test_logarithms_are_learned_and_prices_given_back(rows, tmp_path, engine):
    name = "hist_gradient_boosting" if engine == "tasks" else "linear_regression"
    frame, trial = framed(rows, target="log"), Trial(0, name, PARAMS[name])
    problem = Problem("regression", "r2", 0, 7, target="log")
    engines = engines_of(tmp_path, name, engine)
    model = refit(frame, PLAN, trial, problem, engines)
    model.write().overwrite().save(str(tmp_path / "model"))
    data = rows.orderBy(ORDER).toPandas()
    found = scored(PipelineModel.load(str(tmp_path / "model")), frame)["prediction"]
    assert r2_score(np.log1p(data["price"]), np.log1p(found)) > 0.3
    values = [row.value for row in cross_validate(frame, PLAN, [trial], [0, 1], problem, engines).rows]
    for fold in (0, 1):
        train, held_out = data[data["fold"] != fold], data[data["fold"] == fold]
        if engine == "tasks":
            own = HistGradientBoostingRegressor(**PARAMS[name], early_stopping=False, random_state=7)
            peer = TransformedTargetRegressor(own, func=np.log1p, inverse_func=np.expm1).fit(train[["x", "z"]], train["price"])
            assert values[fold] == pytest.approx(r2_score(held_out["price"], peer.predict(held_out[["x", "z"]])), abs=1e-9)
        else:
            part = refit(frame.where(F.col("fold") != fold), PLAN, trial, problem, engines)
            predicted = scored(part, frame.where(F.col("fold") == fold))["prediction"]
            assert values[fold] == pytest.approx(r2_score(held_out["price"], predicted), abs=1e-9)


def test_a_label_below_zero_has_no_logarithm_here(spark):
    from tidemill.spec.models import Dataset

    declared = Dataset(sql="SELECT 1", key=["id"], label="price")
    frame = spark.createDataFrame([(1, -0.5), (2, 0.0), (3, 4.0)], "id int, price double")
    with pytest.raises(StepError, match=r"price is below 0 in 1 of 3 labelled training rows \(the least is -0.5\)"):
        read_labels(frame, declared, "regression", "log")
    assert read_labels(frame.where("id > 1"), declared, "regression", "log").target == "log"


def test_a_quantile_is_learned_measured_and_saved(rows, tmp_path):
    name, frame = "hist_gradient_boosting", framed(rows)
    engines, trial = engines_of(tmp_path, name), Trial(0, name, PARAMS[name])
    problem = Problem("regression", "quantileLoss", 0, 7, loss="quantile", quantile=0.8)
    model = refit(frame.where("fold = 0"), PLAN, trial, problem, engines)
    unseen = scored(model, frame.where("fold = 1"))
    assert (unseen["label"] <= unseen["prediction"]).mean() == pytest.approx(0.8, abs=0.08)
    found = cross_validate(frame, PLAN, [trial], [1], problem, engines).rows[0].value
    assert found == pytest.approx(mean_pinball_loss(unseen["label"], unseen["prediction"], alpha=0.8))
    last = model.stages[-1]
    last.write().overwrite().save(str(tmp_path / "model"))
    again = PipelineModel([*model.stages[:-1], type(last).load(str(tmp_path / "model"))])
    assert scored(again, frame.where("fold = 1"))["prediction"].equals(unseen["prediction"])


def test_losses_that_a_family_lacks_are_one_trials_failure(rows, tmp_path):
    problem = Problem("regression", "mae", 0, 7, loss="absolute")
    with pytest.raises(StepError, match=r"linear_regression cannot minimise `training.loss: absolute` by `engine: spark`; name xgboost"):
        cross_validate(framed(rows), PLAN, [Trial(0, "linear_regression", {})], [0], problem)


def test_nulls_that_are_not_imputed_reach_the_libraries_as_such(rows, tmp_path):
    frame = framed(rows.withColumn("x", F.when(F.pmod(ORDER, F.lit(5)) > 0, F.col("x"))))
    plan = FeaturePlan.of(numeric=Numeric(columns=["x", "z"], impute="none", scale="none"))
    names = ("hist_gradient_boosting", "xgboost", "lightgbm")
    trials = [Trial(number, name, PARAMS[name]) for number, name in enumerate(names)]
    found = cross_validate(
        frame, plan, trials, [0], Problem("regression", "r2", 0, 7), Engines(dict.fromkeys(names, "tasks"), str(tmp_path))
    ).rows
    data = frame.orderBy(ORDER).toPandas()
    train, held_out = data[data["fold"] != 0], data[data["fold"] == 0]
    assert train["x"].isna().mean() == pytest.approx(0.2, abs=0.05)
    own = HistGradientBoostingRegressor(**PARAMS[names[0]], early_stopping=False, random_state=7).fit(train[["x", "z"]], train["label"])
    assert found[0].value == pytest.approx(r2_score(held_out["label"], own.predict(held_out[["x", "z"]])))
    assert [row.state for row in found] == ["SUCCEEDED"] * 3
