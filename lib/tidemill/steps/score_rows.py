"""Predictions for rows that have just arrived, without a run: nothing is written to the lake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import StepError, UsageError
from tidemill.lake.names import LAYERS
from tidemill.registry import Deployments, load_model
from tidemill.registry.predict import OUTPUTS, predict
from tidemill.steps.feature_spec import refuse_other_features

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from tidemill.lake import Lake
    from tidemill.spec import Spec

_CORRUPT = "_tidemill_corrupt"
_KINDS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
_PACKED = (".gz", ".bz2", ".zst")
_TABLE = re.compile(rf"^({'|'.join(LAYERS)})\.[A-Za-z_]\w*$")


def score_rows(spark: SparkSession, spec: Spec, lake: Lake, source: str) -> DataFrame:
    """Return the champion's predictions for a CSV, JSON or Parquet file (by its suffix), or for the latest version of a lake table.

    Columns: the dataset's key where the rows have it (else all of their columns), ``prediction``, ``probability``, ``model_version``,
    ``score_error``. Values are cast to the types that the model was trained on; one that cannot be cast, and a line that cannot be
    parsed, leaves its row without a prediction and says so in ``score_error``. CSV files have a header line; options that all of the
    spec's CSV sources share (such as ``nullValue``) hold for them too.

    Raises:
        UsageError: the file is missing or of no known kind, or lacks feature columns of the model.
        StepError: there is no champion yet.
    """
    pipeline = spec.pipeline
    version = Deployments(lake.ledger, pipeline.pipeline).champion()
    if version is None:
        raise StepError(f"{pipeline.pipeline} has no champion to score with; run the pipeline first: tidemill run {spec.file}")
    rows = _read(spark, spec, lake, source)
    model, manifest = load_model(lake, pipeline.pipeline, version)
    refuse_other_features(lake, pipeline.pipeline, pipeline.features, manifest)
    scored = predict(model, manifest, rows)
    names = [name for name in rows.columns if name not in (*OUTPUTS, "model_version", _CORRUPT)]
    shown = list(pipeline.dataset.key) if set(pipeline.dataset.key) <= set(names) else names
    is_broken = F.col(_CORRUPT).isNotNull() if _CORRUPT in rows.columns else F.lit(False)
    return scored.select(
        *shown,
        F.when(~is_broken, F.col("prediction")).alias("prediction"),
        F.when(~is_broken, F.col("probability")).alias("probability"),
        F.lit(version).cast("int").alias("model_version"),
        F.when(is_broken, F.lit("the line cannot be parsed into its fields")).otherwise(F.col("score_error")).alias("score_error"),
    )


def _read(spark: SparkSession, spec: Spec, lake: Lake, source: str) -> DataFrame:
    path = Path(source)
    if _TABLE.match(source) and not path.exists():
        return lake.read(spark, source)
    if not path.exists():
        raise UsageError(f"--input {source}: no such file, and not a table of the lake such as silver.flights")
    kind = _KINDS.get(Path(path.stem).suffix if path.suffix in _PACKED else path.suffix)
    location = str(path.resolve())
    if kind == "csv":
        return _read_csv(spark, location, _shared_options(spec))
    if kind == "json":
        return spark.read.option("columnNameOfCorruptRecord", _CORRUPT).option("multiLine", _is_array(path)).json(location)
    if kind == "parquet":
        return spark.read.parquet(location)
    raise UsageError(f"--input {source}: unknown kind of file, expected a name that ends in {', '.join(_KINDS)}, packed or not")


def _read_csv(spark: SparkSession, location: str, options: Mapping[str, str]) -> DataFrame:
    """Read all fields as strings, in the order of the header; a line with another number of fields is marked, not dropped."""
    reader = spark.read.options(**{**options, "header": "true", "columnNameOfCorruptRecord": _CORRUPT})
    columns = reader.csv(location).columns
    schema = T.StructType([T.StructField(name, T.StringType()) for name in [*columns, _CORRUPT]])
    return reader.schema(schema).csv(location)


def _shared_options(spec: Spec) -> dict[str, str]:
    """Return the options that every CSV source of the spec has, as strings."""
    blocks = [
        {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in source.options.items()}
        for source in spec.pipeline.sources.values()
        if source.format == "csv"
    ]
    return dict(set.intersection(*(set(block.items()) for block in blocks))) if blocks else {}


def _is_array(path: Path) -> bool:
    """Return True for a JSON file that is one array, not one object a line."""
    if path.is_dir() or path.suffix in _PACKED:
        return False
    with path.open("rb") as file:
        return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
