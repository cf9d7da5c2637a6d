"""The spec as it was when a version was trained, from the evidence in its folder, and how code and packages differ since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from typing import Any

from pydantic import ValidationError

from tidemill.extensions import search_beside
from tidemill.lake import Lake
from tidemill.lake.ops import TrialRow
from tidemill.model_registry import Manifest
from tidemill.model_registry.manifest import read_evidence
from tidemill.spec import Spec
from tidemill.spec.models import Pipeline
from tidemill.steps.train.evidence import list_code
from tidemill.version import VERSION
from tidemill.workflow.reproduction.explanation import Cause

_MOST_PACKAGES = 8


@dataclass(frozen=True)
class KeptSpec:
    """The spec to run again: the kept one with its SQL, or the present one where none is kept.

    ``causes`` are code and packages that are not as they were; ``notes`` say which keys of the present spec differ, which the replay does
    not use, or why it uses the present spec. ``trials`` and ``splits`` are the recorded trials and the digests of splits and folds.
    """

    spec: Spec
    is_kept: bool
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    trials: tuple[TrialRow, ...] = ()
    splits: tuple[Mapping[str, object], ...] = ()


def read_kept_spec(spec: Spec, lake: Lake, manifest: Manifest) -> KeptSpec:
    """Return the spec that a version was trained with, with its SQL; Python comes from beside the present spec.

    Raises:
        StepError: the evidence of the version is damaged or was changed.
    """
    evidence = read_evidence(lake, manifest)
    declared: Mapping[str, Any] | None = evidence.get("spec.json", {}).get("spec")
    if not declared:
        return KeptSpec(spec, False, notes=(f"the spec of model {manifest.version} was not kept; the present one is used",))
    code: Mapping[str, Mapping[str, str]] = evidence.get("code.json", {})
    try:
        with search_beside(spec.folder):
            was = Pipeline.model_validate(_with_sql(declared, code))
    except ValidationError as error:
        first = f"{'.'.join(map(str, error.errors()[0]['loc']))}: {error.errors()[0]['msg']}"
        return KeptSpec(spec, False, notes=(f"the kept spec is none of this release ({first}); the present one is used",))
    whole = replace(spec, pipeline=was.model_copy(update={"lake": spec.pipeline.lake}), tree=None)
    present = spec.pipeline.model_dump(mode="json", by_alias=True)
    changed = [name for name, _, _ in list_key_changes(declared, present) if name != "lake"]
    notes = (f"the spec has changed since, and is used as it was: {', '.join(changed[:10])}",) if changed else ()
    with search_beside(spec.folder):
        causes = (*_list_code_changes(whole, code), *list_package_changes(evidence.get("environment.json", {})))
    trials = tuple(TrialRow.from_cells(cells) for cells in evidence.get("trials.json", ()))
    return KeptSpec(whole, True, causes, notes, trials, tuple(evidence.get("data.json", {}).get("splits") or ()))


def list_key_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Yield each key, as a dotted path, in which two specs differ, with both values; lists are compared as a whole."""
    first, second = flatten(a), flatten(b)
    for name in dict.fromkeys((*first, *second)):
        if first.get(name) != second.get(name):
            yield name, first.get(name), second.get(name)


def flatten(value: object, path: str = "") -> dict[str, object]:
    """Return the leaves of nested mappings by dotted path; lists are leaves."""
    if isinstance(value, Mapping) and value:
        return {key: leaf for name, part in value.items() for key, leaf in flatten(part, f"{path}.{name}" if path else str(name)).items()}
    return {path: value}


def list_package_changes(environment: Mapping[str, Any]) -> list[Cause]:
    """Return tidemill and the packages whose version is not the recorded one."""
    recorded: Mapping[str, str] = environment.get("packages", {})
    present = {name: each.version for each in distributions() if (name := each.metadata["Name"])}
    changes = [(name, before, present.get(name)) for name, before in recorded.items() if present.get(name) != before]
    if environment and environment.get("tidemill") != VERSION:
        changes.insert(0, ("tidemill", str(environment.get("tidemill")), VERSION))
    unique = list(dict.fromkeys(changes))
    causes = [Cause("package", name, f"{now or 'absent'} now, and {before} then") for name, before, now in unique[:_MOST_PACKAGES]]
    if len(unique) > _MOST_PACKAGES:
        causes.append(Cause("package", f"{len(unique) - _MOST_PACKAGES} more packages", "have other versions now"))
    return causes


def _with_sql(declared: Mapping[str, Any], code: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the block with the kept text of each SQL in place of the name of its file."""

    def find_kept_sql(name: str) -> str | None:
        entry = code.get(name)
        is_whole = entry is not None and hashlib.sha256(entry["text"].encode()).hexdigest() == entry["sha256"]
        return entry["text"] if entry is not None and is_whole and any(map(str.isspace, entry["text"].strip())) else None

    tables = {
        name: {**table, "sql": find_kept_sql(f"tables.{name}.sql")} if find_kept_sql(f"tables.{name}.sql") else table
        for name, table in declared.get("tables", {}).items()
    }
    sql = find_kept_sql("dataset.sql")
    dataset = {**declared["dataset"], "sql": sql} if sql else declared["dataset"]
    return {**declared, "tables": tables, "dataset": dataset}


def _list_code_changes(spec: Spec, code: Mapping[str, Mapping[str, str]]) -> list[Cause]:
    """Return the Python of the spec that is not the recorded one; its SQL is used as it was."""
    present = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in list_code(spec)}
    return [
        Cause("code", name, "its Python has changed since")
        for name, entry in code.items()
        if not name.endswith(".sql") and name in present and present[name] != entry["sha256"]
    ]
