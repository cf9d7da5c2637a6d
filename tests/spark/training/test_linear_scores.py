"""Models of given weights, made both ways, against numpy; and saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.linalg import DenseMatrix, Vectors

from tidemill.learners.linear_scores import build_linear_classifier, build_linear_regressor, fit_bounded, fit_least_squares

ROWS = np.array([[0.5, -2.0, 0.0], [1.5, 0.25, -1.0], [0.0, 0.0, 0.0], [-3.0, 4.0, 2.5]])


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_of_given_weights_are_the_softmax_of_their_margins_made_either_way(spark, tmp_path, classes):
    rng = np.random.default_rng(classes)
    weights, biases = rng.normal(size=(1 if classes == 2 else classes, 3)), rng.normal(size=1 if classes == 2 else classes)
    margins = ROWS @ weights.T + biases
    margins = np.hstack([np.zeros_like(margins), margins]) if classes == 2 else margins
    expected = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    frame = spark.createDataFrame([(Vectors.dense(row),) for row in ROWS], ["x"])
    matrix = DenseMatrix(*weights.shape, weights.ravel(), isTransposed=True)
    models = [
        build_linear_classifier(spark, weights, biases, classes, "x"),
        fit_bounded(spark, matrix, Vectors.dense(biases), classes, "x", probability="probability", raw="rawPrediction"),
    ]
    for place, model in enumerate(models):
        PipelineModel([model]).write().overwrite().save(str(tmp_path / str(place)))
        for scorer in (model, PipelineModel.load(str(tmp_path / str(place)))):
            found = scorer.transform(frame).select("probability", "prediction").collect()
            assert np.allclose([row.probability.toArray() for row in found], expected, atol=1e-12)
            assert [row.prediction for row in found] == list(expected.argmax(axis=1))
    bare = build_linear_classifier(spark, weights, biases, classes, "x", probability="", raw="").transform(frame)
    assert bare.columns == ["x", "prediction"]


def test_values_of_given_weights_made_either_way(spark, tmp_path):
    weights, bias = np.array([2.0, -0.5, 1e-3]), -7.0
    frame = spark.createDataFrame([(Vectors.dense(row),) for row in ROWS], ["x"])
    for place, model in enumerate([build_linear_regressor(spark, weights, bias, "x"), fit_least_squares(spark, weights, bias, "x")]):
        PipelineModel([model]).write().overwrite().save(str(tmp_path / str(place)))
        for scorer in (model, PipelineModel.load(str(tmp_path / str(place)))):
            found = [row.prediction for row in scorer.transform(frame).collect()]
            assert np.allclose(found, ROWS @ weights + bias, atol=1e-8)
