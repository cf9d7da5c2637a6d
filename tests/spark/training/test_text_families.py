"""The families for texts against scikit-learn, on the same documents."""

import numpy as np
import pytest
from pyspark.ml.functions import vector_to_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.svm import LinearSVC

from tidemill.errors import StepError
from tidemill.features import FeaturePlan
from tidemill.features.groups import Text
from tidemill.learners.class_labels import class_metadata
from tidemill.training.problem import Problem
from tidemill.training.refit import refit
from tidemill.training.tuning.tuner import Trial

TOPICS = {
    0: "grain wheat harvest corn tonnes crop farm export",
    1: "bank rate interest money loan credit export market",
    2: "ship port cargo strike dock tonnes vessel market",
}
ROWS = 150


def _documents():
    rng = np.random.default_rng(5)
    everywhere = ["the", "said", "of", "year", "new", "per", "company", "today", "week"]
    rows = []
    for row in range(ROWS):
        topic = row % 3
        own = rng.choice(TOPICS[topic].split(), 4)
        other = rng.choice(TOPICS[(topic + 1) % 3].split(), 3)
        words = [*own, *other, *rng.choice(everywhere, 6)]
        rows.append((" ".join(words), float(topic)))
    return rows


@pytest.fixture(scope="module")
def documents():
    return _documents()


@pytest.fixture(scope="module")
def frame(spark, documents):
    made = spark.createDataFrame(documents, "words STRING, label DOUBLE").coalesce(1)
    made = made.withMetadata("label", class_metadata(3)).persist()
    yield made
    made.unpersist()


PLAN = FeaturePlan.of(text=Text.model_validate({"columns": ["words"], "stages": ["tokens", {"tfidf": {"min_df": 1}}]}))


def _fitted(frame, name, params):
    return refit(frame, PLAN, Trial(0, name, params), Problem("multiclass", "accuracy", 3, seed=7))


def _predicted(model, frame):
    return np.array([row[0] for row in model.transform(frame).select("prediction").collect()])


def test_the_support_vector_machine_is_liblinears(frame, documents):
    texts, labels = zip(*documents, strict=True)
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    matrix = vectorizer.fit_transform(texts)
    reg = 0.01
    expected = LinearSVC(loss="hinge", C=1 / (reg * ROWS), max_iter=100_000, tol=1e-6).fit(matrix, labels)
    model = _fitted(frame, "linear_svm", {"regParam": reg, "maxIter": 500})
    columns = [vectorizer.vocabulary_[word] for word in next(stage for stage in model.stages if hasattr(stage, "vocabulary")).vocabulary]
    last = model.stages[-1]
    # The scale of the scores is twice the margin; the hinge loss has a kink, so that the weights agree less well than the margins.
    found = last.coefficientMatrix.toArray() / 2
    np.testing.assert_allclose(found, expected.coef_[:, columns], atol=0.02)
    np.testing.assert_allclose(last.interceptVector.toArray() / 2, expected.intercept_, atol=0.02)
    assert (_predicted(model, frame) == expected.predict(matrix)).mean() > 0.99


@pytest.mark.parametrize(("kind", "other"), [("multinomial", MultinomialNB), ("complement", ComplementNB)])
def test_naive_bayes_is_scikit_learns(frame, documents, kind, other):
    texts, labels = zip(*documents, strict=True)
    matrix = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    expected = other(alpha=0.3).fit(matrix, labels)
    model = _fitted(frame, "naive_bayes", {"modelType": kind, "smoothing": 0.3})
    assert (_predicted(model, frame) == expected.predict(matrix)).mean() > 0.98
    if kind == "multinomial":
        found = np.stack([row[0] for row in model.transform(frame).select(vector_to_array("probability")).collect()])
        np.testing.assert_allclose(found, expected.predict_proba(matrix), atol=0.02)


def test_rows_beyond_one_task_are_fitted_class_by_class(frame, monkeypatch):
    in_one = _predicted(_fitted(frame, "linear_svm", {"regParam": 0.01, "maxIter": 50}), frame)
    monkeypatch.setattr("tidemill.learners.linear_svm.MAX_VALUES", 10)
    by_class = _predicted(_fitted(frame, "linear_svm", {"regParam": 0.01, "maxIter": 6}), frame)
    assert (in_one == by_class).mean() > 0.97


def test_a_perceptron_refuses_more_slots_than_it_can_stack(frame, monkeypatch):
    monkeypatch.setattr("tidemill.learners.estimators.MAX_PERCEPTRON_SLOTS", 5)
    with pytest.raises(StepError, match="takes at most 5 slots"):
        _fitted(frame, "multilayer_perceptron", {"hiddenUnits": 2})
