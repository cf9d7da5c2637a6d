"""The model card: what a version is for, what it was made of, how good it is, who approved it, and how to go back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tidemill.lake.ops import ImportanceRow
from tidemill.model_registry.card_text import render_card
from tidemill.model_registry.deployments import Deployments
from tidemill.model_registry.evaluations import Evaluation, read_evaluation
from tidemill.model_registry.manifest import Manifest, model_folder, read_evidence, read_manifest

if TYPE_CHECKING:
    from tidemill.lake import Lake

logger = logging.getLogger(__name__)

Row = dict[str, Any]

CARD = "model_card"
_TOP_IMPORTANCES = 20
_LATEST_CHANGES = 3


def build_card(lake: Lake, pipeline: str, version: int) -> Row:
    """Return the card of a version as plain values; what is not known is null. Starts no Spark.

    Keys: ``pipeline``, ``model_version``, ``state``, ``description``, ``model``, ``training``, ``data``, ``evaluation`` (null before it),
    ``importances``, ``limits``, ``history``, ``roll_back``.

    Raises:
        StepError: there is no such version, or its manifest or evidence was damaged or changed.
    """
    manifest = read_manifest(lake, pipeline, version)
    evidence = read_evidence(lake, manifest)
    declared: Row = evidence.get("spec.json", {}).get("spec", {})
    deployments = Deployments(lake.ledger, pipeline)
    evaluation = read_evaluation(lake, pipeline, version)
    history = [row for row in deployments.rows() if row.model_version == version]
    return {
        "pipeline": pipeline,
        "model_version": version,
        "state": deployments.state(version),
        "description": declared.get("description") or None,
        "model": _describe_model(manifest, declared),
        "training": {
            "run_id": manifest.run_id,
            "author": manifest.author,
            "created_at": manifest.created_at,
            "environment": {key: value for key, value in evidence.get("environment.json", {}).items() if key != "packages"} or None,
        },
        "data": {
            "dataset": {"table": f"gold.{pipeline}_dataset", "version": manifest.dataset_version},
            "inputs": evidence.get("data.json", {}).get("inputs") or dict(manifest.dataset_inputs),
            "splits": evidence.get("data.json", {}).get("splits"),
        },
        "evaluation": None if evaluation is None else _describe_evaluation(evaluation, version),
        "importances": _list_importances(lake, pipeline, version),
        "limits": list(_list_limits(manifest, declared, evaluation, version)),
        "history": [
            {
                "recorded_at": row.recorded_at,
                "from_state": row.from_state,
                "to_state": row.to_state,
                "actor": row.actor,
                "reason": row.reason,
            }
            for row in history
        ],
        "roll_back": f'tidemill rollback SPEC --version {version} --reason "…"',
    }


def write_cards(lake: Lake, pipeline: str, versions: Iterable[int]) -> None:
    """Write ``model_card.json`` and ``model_card.md`` of versions into their folders.

    Cards follow from the lake: where one cannot be written, such as that of a damaged version, it stays as it is, and nothing is raised.
    """
    for version in versions:
        try:
            card = build_card(lake, pipeline, version)
            for name, text in ((f"{CARD}.json", to_json(card)), (f"{CARD}.md", render_card(card))):
                lake.write_text(f"{model_folder(pipeline, version)}/{name}", text)
        except Exception as error:  # noqa: BLE001 - no card is worth a failed step
            logger.info("the card of model %d of %s is not written: %s", version, pipeline, error)


def list_changed_versions(lake: Lake, pipeline: str) -> list[int]:
    """Return the versions that changed last, such as a new champion, the one that it retired, and a candidate."""
    return list(Deployments(lake.ledger, pipeline).states())[-_LATEST_CHANGES:]


def repair_cards(lake: Lake, pipeline: str) -> None:
    """Write the cards of the versions that changed last where they show another state, as after a process that was killed."""
    states = Deployments(lake.ledger, pipeline).states()
    versions = list(states)[-_LATEST_CHANGES:]
    write_cards(lake, pipeline, [version for version in versions if f'"state": "{states[version]}"' not in _read(lake, pipeline, version)])


def to_json(card: Row) -> str:
    """Return a card as an indented JSON object; instants are ISO 8601."""
    return json.dumps(card, indent=2, ensure_ascii=False, default=lambda value: value.isoformat()) + "\n"


def _read(lake: Lake, pipeline: str, version: int) -> str:
    try:
        return lake.read_text(f"{model_folder(pipeline, version)}/{CARD}.json")
    except (OSError, UnicodeDecodeError):
        return ""


def _describe_model(manifest: Manifest, declared: Row) -> Row:
    return {
        "task": declared.get("training", {}).get("task") or manifest.task,
        "family": manifest.family,
        "params": dict(manifest.params),
        "library": manifest.library,
        "label": declared.get("dataset", {}).get("label"),
        "label_type": manifest.label_type,
        "classes": None if manifest.classes is None else list(manifest.classes),
        "positive": manifest.positive,
        "metric": manifest.metric,
        "cv_value": manifest.cv_value,
        "columns": dict(manifest.feature_columns),
        "slots": len(manifest.slots),
    }


def _describe_evaluation(evaluation: Evaluation, version: int) -> Row:
    """Return metrics with their intervals, beside those of the baseline and the champion of that time; slices; gates."""
    whole = {(row.get("model_version"), row["metric"]): row for row in evaluation.metrics if "slice" not in row}

    def value_of(model: int | None, metric: str) -> float | None:
        return whole.get((model, metric), {}).get("value")

    own = [row for row in evaluation.metrics if row.get("model_version") == version]
    champion = None if evaluation.champion == version else evaluation.champion
    return {
        "run_id": evaluation.run_id,
        "digest": evaluation.digest,
        "champion": champion,
        "metrics": [
            {
                **_pick(row, "metric", "value", "lower", "upper", "rows"),
                "baseline": value_of(0, row["metric"]),
                "champion": None if champion is None else value_of(champion, row["metric"]),
            }
            for row in own
            if "slice" not in row
        ],
        "slices": [_pick(row, "slice", "metric", "value", "lower", "upper", "rows", "is_small") for row in own if "slice" in row],
        "gates": [_pick(row, "gate", "value", "bound", "passed", "compared") for row in evaluation.gates],
    }


def _pick(row: Row, *names: str) -> Row:
    return {name: row.get(name) for name in names}


def _list_importances(lake: Lake, pipeline: str, version: int) -> list[Row]:
    """Return the most important columns: by permutation where that was computed, else by what the model itself says of its slots."""
    rows = lake.ledger.read(ImportanceRow, pipeline=pipeline, model_version=version)
    of_columns = [row for row in rows if row.slot is None] or rows
    latest = [row for row in of_columns if (row.run_id, row.kind) == (of_columns[-1].run_id, of_columns[-1].kind)]
    ranked = sorted(latest, key=lambda row: -abs(row.importance or 0.0))[:_TOP_IMPORTANCES]
    return [_pick(row.cells(), "column_name", "slot", "kind", "importance", "lower", "upper") for row in ranked]


def _list_limits(manifest: Manifest, declared: Row, evaluation: Evaluation | None, version: int) -> Iterable[str]:
    """Yield what a user of the model should know that its metrics do not say."""
    split = declared.get("dataset", {}).get("split")
    if isinstance(split, dict) and split.get("by") == "time":
        yield "It was tested on the latest rows of the dataset; how it does on later ones is what monitoring shows."
    if manifest.classes is not None:
        yield f"It predicts no other class than {', '.join(map(str, manifest.classes))}."
    yield "Rows in which a column has a value that is not of its type get no prediction, and score_error says why."
    if evaluation is None:
        yield "It was not evaluated."
        return
    rows = [row for row in evaluation.metrics if row.get("model_version") == version]
    small = sorted({str(row["slice"]) for row in rows if row.get("is_small")})
    if small:
        yield f"Slices with too few test rows to be judged: {', '.join(small)}."
    undefined = sorted({f"{row['metric']} ({row.get('slice', 'all rows')})" for row in rows if row.get("value") is None})
    if undefined:
        yield f"Metrics that are not defined on their rows: {', '.join(undefined)}."
    if rows and not any("lower" in row for row in rows):
        yield "Its metrics have no intervals."
    failed = [str(row.get("gate")) for row in evaluation.gates if not row.get("passed")]
    if failed:
        yield f"Gates that it did not pass: {'; '.join(failed)}."
