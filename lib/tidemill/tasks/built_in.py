"""The tasks that come with tidemill."""

from __future__ import annotations

from tidemill.tasks.metrics import ERROR_QUANTILES, QUANTILE_LOSS, RANKING
from tidemill.tasks.task import Task, TaskKind

_LABEL_KEYS = frozenset({"dataset.weight", "training.monotone"})

BINARY = Task(
    name="binary",
    kind=TaskKind.BINARY,
    metrics=(
        *("areaUnderPR", "areaUnderROC", "averagePrecision", "accuracy", "balancedAccuracy", "f1", "precision", "recall", "specificity"),
        *("mcc", "logLoss", "brier", "expectedCalibrationError", "selectionRate", "falsePositiveRate"),
    ),
    families=("logistic_regression", "random_forest", "gradient_boosted_trees"),
    text_families=("linear_svm", "logistic_regression", "naive_bayes"),
    classes=(2, 2),
    keys=_LABEL_KEYS | {"training.calibrate", "training.threshold", "training.balance", "training.ensemble"},
    query="SELECT prediction, count(*), avg(probability) FROM {predictions} GROUP BY prediction",
)
MULTICLASS = Task(
    name="multiclass",
    kind=TaskKind.MULTICLASS,
    metrics=("f1", "macroF1", "accuracy", "balancedAccuracy", "mcc", "logLoss", "top2Accuracy", "top3Accuracy", "top5Accuracy"),
    families=("logistic_regression", "random_forest", "gradient_boosted_trees"),
    text_families=("linear_svm", "logistic_regression", "naive_bayes"),
    classes=(2, 1000),
    keys=_LABEL_KEYS | {"training.calibrate", "training.balance", "training.ensemble"},
)
REGRESSION = Task(
    name="regression",
    kind=TaskKind.REGRESSION,
    metrics=("rmse", "mae", "mape", "r2", "medianAbsoluteError", *ERROR_QUANTILES, QUANTILE_LOSS),
    families=("linear_regression", "random_forest", "gradient_boosted_trees"),
    text_families=("linear_regression",),
    keys=_LABEL_KEYS | {"training.target", "training.loss", "training.ensemble"},
    query="SELECT min(prediction), avg(prediction), max(prediction) FROM {predictions}",
)
CLUSTERING = Task(
    name="clustering",
    kind=TaskKind.CLUSTERING,
    metrics=("silhouette",),
    families=("kmeans", "bisecting_kmeans", "gaussian_mixture"),
    text_families=("kmeans", "bisecting_kmeans"),
    evaluator="tidemill.steps.evaluate.unsupervised:ClusterEvaluator",
)
ANOMALY = Task(
    name="anomaly",
    kind=TaskKind.ANOMALY,
    metrics=("areaUnderPR", "areaUnderROC", "averagePrecision", "massVolume"),
    families=("isolation_forest", "gaussian_mixture"),
    text_families=("isolation_forest",),
    classes=(2, 2),
    keys=frozenset({"training.contamination"}),
    evaluator="tidemill.steps.evaluate.unsupervised:AnomalyEvaluator",
    query="SELECT * FROM {predictions} ORDER BY probability DESC LIMIT 10",
)
RECOMMENDATION = Task(
    name="recommendation",
    kind=TaskKind.RECOMMENDATION,
    metrics=(*RANKING, "rmse", "mae", "coverage"),
    families=("als",),
    text_families=("als",),
    keys=frozenset({"training.user", "training.item", "training.implicit", "training.at", "training.relevant", "scoring.seen"}),
    trainer="tidemill.steps.train.recommender:train_recommender",
    evaluator="tidemill.steps.evaluate.ranking:RankingEvaluator",
    query="SELECT * FROM {recommendations} WHERE rank <= 3",
)
