"""What a saved model is: everything needed to score with it, and where it came from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from tidemill.errors import StepError
from tidemill.tasks import TaskKind

if TYPE_CHECKING:
    from tidemill.lake import Lake


FILES = "spark"
"""The folder of a version that holds the model's files."""

_REMEDY = "bring it back from a backup, or run the pipeline: `tidemill run SPEC` trains a new version"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _plain(value: object) -> object:
    """Return a value of a row as JSON can hold it; Spark casts it back to the label's type."""
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value


@dataclass(frozen=True)
class Manifest:
    """One model version, as ``model.json`` beside its files says it.

    ``classes`` are the label's values in the order of their indices (None for a regression, and for clusters, whose numbers are
    predicted) and ``positive`` is the one of index 1 of two and of anomalies; ``dataset_inputs`` are the tables that the dataset was
    made of with their versions; ``label_type``, the type of a predicted class, and the values of ``feature_columns`` are Spark's simple
    type strings; ``created_at`` is UTC. ``task`` is the kind of its task.
    ``features`` is the block of the spec that the model was trained with (None in models of earlier releases), ``code`` the Python of the
    user's own that its stages need, module to text, ``slots`` the names of the places of its feature vector, in order, ``chosen`` what
    `features: auto` made of each column and why, a row of ``ops.features`` each. ``files`` are the model's files, path to size and
    SHA-256. The JSON ends with ``digest``, the SHA-256 of all the rest.
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
        for name in ("params", "feature_columns", "dataset_inputs", "code", "files"):
            values[name] = dict(values[name])
        values["slots"], values["chosen"] = list(self.slots), [dict(row) for row in self.chosen]
        values["classes"] = None if self.classes is None else [_plain(value) for value in self.classes]
        values["positive"] = _plain(self.positive)
        # As they are read back, so that the digest of what was read is that of what was written.
        values = json.loads(json.dumps(values, default=str))
        return json.dumps({**values, "digest": _digest(values)}, indent=2, ensure_ascii=False) + "\n"

    def is_same_model(self, other: Manifest) -> bool:
        """Return True where both describe one model, whichever run made it and when; its files are not compared."""
        own, others = (dataclasses.replace(one, run_id="", created_at="", version=0, files={}) for one in (self, other))
        return own.to_json() == others.to_json()

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest back; keys that a later release added are left out.

        Raises:
            StepError: the text is not a manifest, or was changed since it was written.
        """
        try:
            values = json.loads(text)
            digest = values.pop("digest", None)
            if digest is not None and digest != _digest(values):
                raise StepError("model.json was changed since it was written: its digest does not fit")
            later = {"dataset_inputs", "features", "code", "slots", "library", "chosen", "files"} - set(values)
            return cls(**{item.name: values[item.name] for item in dataclasses.fields(cls) if item.name not in later})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StepError(f"model.json is not a model's manifest, or not all of one ({error})") from error


def model_folder(pipeline: str, version: int) -> str:
    """Return where a version lies, relative to the lake."""
    return f"models/{pipeline}/{version}"


def manifest_file(pipeline: str, version: int) -> str:
    """Return where the manifest of a version lies, relative to the lake."""
    return f"{model_folder(pipeline, version)}/model.json"


def read_manifest(lake: Lake, pipeline: str, version: int) -> Manifest:
    """Read the manifest of a version; starts no JVM.

    Raises:
        StepError: there is no such version, or its manifest is damaged or another one's.
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
    """Do nothing where the model's files are those that its manifest names, by their sizes or also ``by_content``.

    A manifest of an earlier release names none.

    Raises:
        StepError: a file is missing, or is not the one that was written.
    """
    folder = f"{model_folder(manifest.pipeline, manifest.version)}/{FILES}"
    sizes = lake.file_sizes(folder) if manifest.files else {}
    for path, told in manifest.files.items():
        size, _, digest = told.partition(" ")
        what = f"model {manifest.version} of {manifest.pipeline}: {lake.root}/{folder}/{path}"
        if path not in sizes:
            raise StepError(f"{what} is missing; {_REMEDY}")
        if sizes[path] != int(size) or (by_content and lake.file_hash(f"{folder}/{path}") != digest):
            raise StepError(f"{what} is not the file that was written with the model; {_REMEDY}")


def written_files(lake: Lake, pipeline: str, version: int) -> dict[str, str]:
    """Return the files of a model that was just written, path to size and SHA-256."""
    folder = f"{model_folder(pipeline, version)}/{FILES}"
    return {path: f"{size} {lake.file_hash(f'{folder}/{path}')}" for path, size in lake.file_sizes(folder).items()}


def model_fault(lake: Lake, pipeline: str, version: int) -> str | None:
    """Return why a version cannot be used, None where manifest and files are there as they were written; starts no JVM."""
    try:
        refuse_other_files(lake, read_manifest(lake, pipeline, version), by_content=False)
    except StepError as error:
        return str(error)
    return None


def _digest(values: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
