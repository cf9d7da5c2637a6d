"""Models as MLflow loads them, compared with the predictions of the lake."""

from __future__ import annotations

import mlflow
import mlflow.spark
import numpy as np
from tests.e2e.place import Place

from tidemill.runtime.session import get_spark

MODEL = "models:/flight_delays@champion"


def compare_predictions(place: Place, store: str) -> None:
    """Compare what the champion in a store of MLflow predicts, as ``pyfunc`` and as ``spark``, with the lake's predictions of the rows."""
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    try:
        loaded, pipeline_model = mlflow.pyfunc.load_model(MODEL), mlflow.spark.load_model(MODEL)
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
    stored = place.table("gold.flight_delays_predictions").set_index("flight_id").sort_index()
    rows = place.table("gold.flight_delays_dataset").set_index("flight_id").sort_index()[::40]
    expected = stored.loc[rows.index]
    probability = expected["probability"].to_numpy(float)
    answers = loaded.predict(rows.reset_index())
    assert list(answers["prediction"]) == list(expected["prediction"]) and answers["score_error"].isna().all()
    np.testing.assert_allclose(answers["probability"].to_numpy(float), probability, rtol=0, atol=1e-12)

    frame = get_spark().read.format("delta").load(str(place.lake / "gold" / "flight_delays_dataset"))
    chosen = frame.where("flight_id IN (" + ", ".join(f"'{key}'" for key in rows.index) + ")")
    scored = dict(map(tuple, pipeline_model.transform(chosen).select("flight_id", "probability").collect()))
    np.testing.assert_allclose([scored[key][1] for key in rows.index], probability, rtol=0, atol=1e-12)
