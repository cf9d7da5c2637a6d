"""The manifest of a saved model: everything needed to score with it, and its origin."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tidemill.errors import StepError
from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from tidemill.lake import Lake


FILES = "spark"
"""The folder of a version that holds the model's files."""
SAMPLE = "sample.parquet"
"""The file of a version that holds rows of its dataset with their predictions; see `tidemill.model_registry.sample`."""
EVIDENCE = "evidence"
"""The folder of a version that holds what it was made of, as JSON; see `tidemill.steps.train.evidence`."""

_REMEDY = "restore it from a backup, or run the pipeline: `tidemill run SPEC` trains a new version"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _to_json_value(value: object) -> object:
    """Return a value as JSON can store it; Spark casts it back to the label's type."""
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value


@dataclass(frozen=True)
class Manifest:
    """One model version, stored as ``model.json`` beside its files.

    ``classes`` are the label's values in the order of their indices (None for a regression and for clusters) and ``positive`` is the one of
    index 1 of two and of anomalies; ``dataset_inputs`` are the tables that the dataset was built from, with their versions; ``label_type``,
    the type of a predicted class, and the values of ``feature_columns`` are Spark's simple type strings; ``created_at`` is UTC. ``task`` is
    the kind of its task. ``features`` is the block of the spec that the model was trained with (None in models of earlier releases),
    ``code`` the user's Python modules that its stages need, name to source, ``slots`` the names of the slots of its feature vector, in
    order, ``chosen`` the choices of `features: auto`, one row of ``ops.features`` each. ``files`` are the model's files, path to size and
    SHA-256, ``sample`` the same of the sample file (None in models of earlier releases), ``author`` who ran the training,
    ``evidence`` the files of the folder ``evidence`` that training wrote. The JSON ends with ``digest``, the SHA-256 of all the rest.
    """

    pipeline: str
    version: int
    task: str
    family: str
    params: Mapping[str, object]
    metric: str
    cv_value: float | None
    classes: Sequence[object] | None
    label_type: str
    positive: object
    feature_columns: Mapping[str, str]
    run_id: str
    dataset_version: int
    dataset_inputs: Mapping[str, int] = field(default_factory=dict)
    created_at: str = field(default_factory=_now)
    features: object = None
    code: Mapping[str, str] = field(default_factory=dict)
    slots: Sequence[str] = ()
    library: str | None = None
    chosen: Sequence[Mapping[str, object]] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    sample: str | None = None
    author: str | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> TaskKind:
        """What the model predicts."""
        return TaskKind(self.task)

    @property
    def n_classes(self) -> int:
        """The number of classes; 0 for a regression."""
        return len(self.classes or ())

    def to_json(self) -> str:
        """Return the manifest as an indented JSON object."""
        values = {name: getattr(self, name) for name in (item.name for item in dataclasses.fields(self))}
        for name in ("params", "feature_columns", "dataset_inputs", "code", "files", "evidence"):
            values[name] = dict(values[name])
        values["slots"], values["chosen"] = list(self.slots), [dict(row) for row in self.chosen]
        values["classes"] = None if self.classes is None else [_to_json_value(value) for value in self.classes]
        values["positive"] = _to_json_value(self.positive)
        # Normalise the values as JSON does, so that the digest is the same after reading.
        values = json.loads(json.dumps(values, default=str))
        return json.dumps({**values, "digest": _digest(values)}, indent=2, ensure_ascii=False) + "\n"

    def is_same_model(self, other: Manifest) -> bool:
        """Return True if both describe the same model; run, author, time, version and files are not compared."""
        blank: dict[str, object] = {
            "run_id": "",
            "author": None,
            "created_at": "",
            "version": 0,
            "files": {},
            "sample": None,
            "evidence": {},
        }
        own, others = ({**json.loads(one.to_json()), **blank, "digest": ""} for one in (self, other))
        return bool(own == others)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse a manifest; unknown keys of later releases are ignored.

        Raises:
            StepError: the text is not a manifest, or was changed after it was written.
        """
        try:
            values = json.loads(text)
            digest = values.pop("digest", None)
            if digest is not None and digest != _digest(values):
                raise StepError("model.json was changed after it was written: its digest does not match")
            later = {"dataset_inputs", "features", "code", "slots", "library", "chosen", "files", "sample", "author", "evidence"} - set(
                values
            )
            return cls(**{item.name: values[item.name] for item in dataclasses.fields(cls) if item.name not in later})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StepError(f"model.json is not a complete manifest of a model ({error})") from error


def model_folder(pipeline: str, version: int) -> str:
    """Return the folder of a version, relative to the lake."""
    return f"models/{pipeline}/{version}"


def manifest_file(pipeline: str, version: int) -> str:
    """Return the path of a version's manifest, relative to the lake."""
    return f"{model_folder(pipeline, version)}/model.json"


def read_manifest(lake: Lake, pipeline: str, version: int) -> Manifest:
    """Read the manifest of a version; starts no JVM.

    Raises:
        StepError: there is no such version, or its manifest is damaged or of another version.
    """
    relative = manifest_file(pipeline, version)
    what = f"model {version} of {pipeline}: {lake.root}/{relative}"
    try:
        manifest = Manifest.from_json(lake.read_text(relative))
    except (OSError, UnicodeDecodeError) as error:
        raise StepError(f"{what} cannot be read; {_REMEDY}") from error
    except StepError as error:
        raise StepError(f"{what} is refused: {error}; {_REMEDY}") from error
    if (manifest.pipeline, manifest.version) != (pipeline, version):
        raise StepError(f"{what} is refused: it is the manifest of model {manifest.version} of {manifest.pipeline}; {_REMEDY}")
    return manifest


def refuse_other_files(lake: Lake, manifest: Manifest, *, by_content: bool) -> None:
    """Check that the model's files are those of its manifest, by size or also ``by_content``.

    Manifests of earlier releases name no files.

    Raises:
        StepError: a file is missing, or is not the one that was written.
    """
    folder = f"{model_folder(manifest.pipeline, manifest.version)}/{FILES}"
    sizes = lake.file_sizes(folder) if manifest.files else {}
    for path, size_and_digest in manifest.files.items():
        size, _, digest = size_and_digest.partition(" ")
        what = f"model {manifest.version} of {manifest.pipeline}: {lake.root}/{folder}/{path}"
        if path not in sizes:
            raise StepError(f"{what} is missing; {_REMEDY}")
        if sizes[path] != int(size) or (by_content and lake.file_hash(f"{folder}/{path}") != digest):
            raise StepError(f"{what} is not the file that was written with the model; {_REMEDY}")


def read_sample_file(lake: Lake, manifest: Manifest) -> bytes:
    """Return the content of the version's sample file.

    Raises:
        StepError: the version has none, or the file is missing or not the one that was written.
    """
    if manifest.sample is None:
        raise StepError(
            f"model {manifest.version} of {manifest.pipeline} has no stored sample of predictions: "
            "an earlier release of tidemill trained it; train a new version"
        )
    return _read_written(lake, manifest, SAMPLE, manifest.sample)


def read_evidence(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    """Return what the version's training left as evidence, file name to content; empty for models of earlier releases.

    Raises:
        StepError: a file is missing or not the one that was written.
    """
    return {
        name: json.loads(_read_written(lake, manifest, f"{EVIDENCE}/{name}", described)) for name, described in manifest.evidence.items()
    }


def _read_written(lake: Lake, manifest: Manifest, name: str, described: str) -> bytes:
    file = f"{model_folder(manifest.pipeline, manifest.version)}/{name}"
    what = f"model {manifest.version} of {manifest.pipeline}: {lake.root}/{file}"
    try:
        content = lake.read_bytes(file)
    except OSError as error:
        raise StepError(f"{what} cannot be read; {_REMEDY}") from error
    if describe_content(content) != described:
        raise StepError(f"{what} is not the file that was written with the model; {_REMEDY}")
    return content


def describe_content(content: bytes) -> str:
    """Return the size and the SHA-256 of a file, as manifests have them."""
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}"


def list_model_files(lake: Lake, pipeline: str, version: int) -> dict[str, str]:
    """Return the files of a model that was just written, path to size and SHA-256."""
    folder = f"{model_folder(pipeline, version)}/{FILES}"
    return {path: f"{size} {lake.file_hash(f'{folder}/{path}')}" for path, size in lake.file_sizes(folder).items()}


def model_fault(lake: Lake, pipeline: str, version: int) -> str | None:
    """Return why a version cannot be used, None if manifest and files are intact; starts no JVM."""
    try:
        refuse_other_files(lake, read_manifest(lake, pipeline, version), by_content=False)
    except StepError as error:
        return str(error)
    return None


def _digest(values: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
