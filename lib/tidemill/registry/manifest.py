"""What a saved model is: everything needed to score with it, and where it came from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from tidemill.errors import StepError

if TYPE_CHECKING:
    from tidemill.lake import Lake


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
    type strings; ``created_at`` is UTC.
    ``features`` is the block of the spec that the model was trained with (None in models of earlier releases), ``code`` the Python of the
    user's own that its stages need, module to text, ``slots`` the names of the places of its feature vector, in order, ``chosen`` what
    `features: auto` made of each column and why, a row of ``ops.features`` each.
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

    @property
    def n_classes(self) -> int:
        """The number of classes; 0 for a regression."""
        return len(self.classes or ())

    def to_json(self) -> str:
        """Return the manifest as an indented JSON object."""
        values = {name: getattr(self, name) for name in (item.name for item in dataclasses.fields(self))}
        for name in ("params", "feature_columns", "dataset_inputs", "code"):
            values[name] = dict(values[name])
        values["slots"], values["chosen"] = list(self.slots), [dict(row) for row in self.chosen]
        values["classes"] = None if self.classes is None else [_plain(value) for value in self.classes]
        values["positive"] = _plain(self.positive)
        return json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest back; keys that a later release added are left out.

        Raises:
            StepError: the text is not a manifest.
        """
        try:
            values = json.loads(text)
            later = {"dataset_inputs", "features", "code", "slots", "library", "chosen"} - set(values)
            return cls(**{item.name: values[item.name] for item in dataclasses.fields(cls) if item.name not in later})
        except (ValueError, KeyError, TypeError) as error:
            raise StepError(f"model.json is not a model's manifest ({error}); run train again to write the model anew") from error


def model_folder(pipeline: str, version: int) -> str:
    """Return where a version lies, relative to the lake."""
    return f"models/{pipeline}/{version}"


def manifest_file(pipeline: str, version: int) -> str:
    """Return where the manifest of a version lies, relative to the lake."""
    return f"{model_folder(pipeline, version)}/model.json"


def is_saved(lake: Lake, pipeline: str, version: int) -> bool:
    """Return True where the version has a manifest, and so all of its files; starts no JVM."""
    try:
        lake.read_text(manifest_file(pipeline, version))
    except OSError:
        return False
    return True
