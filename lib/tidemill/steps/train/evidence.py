"""The evidence of a training: what a version was made of, kept in its folder with digests in the manifest."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.lake.ops import TrialRow
from tidemill.redaction import redact
from tidemill.runtime.session import java_version
from tidemill.steps.result import StepContext
from tidemill.version import VERSION

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.lake import Lake
    from tidemill.model_registry import Manifest
    from tidemill.spec import Spec

_EXAMPLE_ROWS = 5
_OUTPUTS = ("prediction", "probability", "score_error")


def collect_evidence(context: StepContext, manifest: Manifest, dataset: DataFrame, sample: pa.Table) -> dict[str, str]:
    """Return the files of the folder ``evidence`` of a version, name to JSON text, without secrets.

    - ``spec.json``: the spec with overlays, settings and variables resolved; secrets are the references ``${secret:scope/key}``.
    - ``code.json``: SQL and Python of the spec: what it is for → its text and the SHA-256 of that.
    - ``environment.json``: versions of Python, Java, Spark, Delta, tidemill and all packages; the operating system.
    - ``data.json``: the tables that the dataset was made of, back to the sources, with their versions; the dataset's splits and folds, each
      with its rows and a digest of their keys.
    - ``trials.json``: the rows of ``ops.trials`` of the run.
    - ``signature.json``: the columns that the model reads and returns, with their types; its feature slots; some rows with predictions.
    """
    spec = context.spec.pipeline.model_dump(mode="json", by_alias=True)
    code = {name: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text} for name, text in list_code(context.spec)}
    files: dict[str, object] = {
        "spec.json": {"file": str(context.spec.file), "spec": spec},
        "code.json": code,
        "environment.json": _describe_environment(context),
        "data.json": _describe_data(context, manifest, dataset),
        "trials.json": [row.cells() for row in context.lake.ledger.read(TrialRow, **context.run_columns)],
        "signature.json": _describe_signature(manifest, sample),
    }
    return {name: redact(json.dumps(content, indent=2, ensure_ascii=False, default=str)) + "\n" for name, content in files.items()}


def list_code(spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield the text of each SQL and Python of the spec, with what it is for."""
    pipeline = spec.pipeline
    for name, table in pipeline.tables.items():
        if table.sql is not None:
            yield f"tables.{name}.sql", spec.sql_text(table.sql)
        if table.python is not None:
            yield f"tables.{name}.python", "\n".join(spec.code(table.python))
    for name, sql in (("dataset.sql", pipeline.dataset.sql), ("scoring.sql", pipeline.scoring.sql)):
        if sql is not None:
            yield name, spec.sql_text(sql)
    for number, text in enumerate(spec.training_code(), start=1):
        yield f"training.{number}", text


def _describe_environment(context: StepContext) -> dict[str, object]:
    packages = {name: each.version for each in distributions() if (name := each.metadata["Name"])}
    return {
        "tidemill": VERSION,
        "python": sys.version.split()[0],
        "java": java_version(context.spark),
        "spark": context.spark.version,
        "delta": _version_of("delta-spark"),
        "system": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _describe_data(context: StepContext, manifest: Manifest, dataset: DataFrame) -> dict[str, object]:
    table = context.spec.pipeline.dataset_table
    return {
        "dataset": {"table": table, "version": manifest.dataset_version},
        "inputs": trace_inputs(context.lake, table, manifest.dataset_version),
        "splits": digest_splits(dataset, context.spec.pipeline.dataset.key),
    }


def trace_inputs(lake: Lake, table: str, table_version: int) -> dict[str, int]:
    """Return the tables that a version of a table was made of, directly or through others, as its commits say; starts no Spark."""
    inputs: dict[str, int] = {}
    waiting = [(table, table_version)]
    while waiting:
        name, number = waiting.pop()
        commits = lake.metadata(name, limit=None) if lake.exists(name) else []
        meta = next((commit for commit in commits if commit["version"] == number), {})
        read = meta.get("inputs")
        for source, source_version in read.items() if isinstance(read, Mapping) else ():
            if source not in inputs:
                inputs[str(source)] = int(str(source_version))
                waiting.append((str(source), int(str(source_version))))
    return inputs


def digest_splits(dataset: DataFrame, key: Sequence[str]) -> list[dict[str, object]]:
    """Return the rows of each split and fold, and a digest of their keys that does not depend on the order of the rows.

    The digest is the sum and the exclusive or of the rows' 64-bit hashes of key, split and fold, in hexadecimal.
    """
    row = F.xxhash64(*[column(name).cast("string") for name in key], F.col("split"), F.col("fold").cast("string"))
    groups = dataset.groupBy("split", "fold").agg(
        F.count("*").alias("rows"), F.sum(row.cast("decimal(38,0)")).alias("total"), F.bit_xor(row).alias("mixed")
    )
    mask = 2**64 - 1
    return [
        {
            "split": group["split"],
            "fold": group["fold"],
            "rows": group["rows"],
            "digest": f"{int(group['total']) & mask:016x}{int(group['mixed']) & mask:016x}",
        }
        for group in sorted(groups.collect(), key=lambda group: (group["split"] or "", -1 if group["fold"] is None else group["fold"]))
    ]


def _describe_signature(manifest: Manifest, sample: pa.Table) -> dict[str, object]:
    example = sample.slice(0, _EXAMPLE_ROWS).to_pylist()
    return {
        "inputs": dict(manifest.feature_columns),
        "outputs": {name: str(sample.schema.field(name).type) for name in _OUTPUTS},
        "slots": list(manifest.slots),
        "input_example": [row["features"] for row in example],
        "output_example": [{name: row[name] for name in _OUTPUTS} for row in example],
    }
