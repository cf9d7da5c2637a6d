"""A tidemill model as MLflow's ``python_function``: takes a pandas frame, returns predictions as in the lake."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tidemill
from tidemill.model_registry.manifest import Manifest

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.ml import PipelineModel
    from pyspark.sql import SparkSession


SPARK_FILES, MANIFEST = "sparkml", "model.json"
_ROW_NUMBER = "_tidemill_place"


class PredictingModel:
    """The object that `mlflow.pyfunc.load_model` returns for a tidemill model."""

    def __init__(self, spark: SparkSession, model: PipelineModel, manifest: Manifest) -> None:
        """Take the session, the model and its manifest."""
        self._spark, self._model, self._manifest = spark, model, manifest

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return ``prediction``, ``probability`` and ``score_error`` of each row, as the lake's table of predictions has them.

        ``model_input`` has the feature columns; a value of another type is cast. The rows keep their order and their index.
        """
        import pandas as pd
        import pyarrow as pa

        from tidemill.model_registry.predict import OUTPUTS, predict

        rows = pd.DataFrame(model_input)[[name for name in self._manifest.feature_columns if name in model_input]]
        categories = [name for name in rows.columns if isinstance(rows[name].dtype, pd.CategoricalDtype)]
        plain = rows.astype(dict.fromkeys(categories, object))
        table = pa.Table.from_pandas(plain.reset_index(drop=True), preserve_index=False).append_column(
            _ROW_NUMBER, pa.array(range(len(rows)))
        )
        frame = self._spark.createDataFrame(table)
        scored = predict(self._model, self._manifest, frame).select(_ROW_NUMBER, *OUTPUTS).toArrow().sort_by(_ROW_NUMBER)
        return scored.drop_columns([_ROW_NUMBER]).to_pandas(integer_object_nulls=True, date_as_object=True).set_axis(rows.index)


def _load_pyfunc(path: str) -> PredictingModel:
    """Load the model below ``path``; MLflow calls this by its name."""
    from pyspark.ml import PipelineModel

    from tidemill.model_registry.store import importable_modules
    from tidemill.runtime.session import child_session, get_spark

    manifest = Manifest.from_json((Path(path) / MANIFEST).read_text(encoding="utf-8"))
    spark = child_session(get_spark(f"{manifest.pipeline} {manifest.version}", needs_delta=False))
    archive = Path(tidemill.__file__).parent.parent
    if archive.is_file():  # tidemill is not installed: this process imports it from the model's wheel
        _ship_to_workers(spark, archive)
    with importable_modules(manifest.code):
        return PredictingModel(spark, PipelineModel.load(f"file://{Path(path).resolve()}/{SPARK_FILES}"), manifest)


def _ship_to_workers(spark: SparkSession, wheel: Path) -> None:
    """Ship a wheel to Spark's Python workers, as a ``.zip``, the only form that they import from."""
    folder = tempfile.mkdtemp(prefix="tidemill-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    archive = Path(folder) / f"{wheel.stem}.zip"
    shutil.copyfile(wheel, archive)
    spark.sparkContext.addPyFile(str(archive))
