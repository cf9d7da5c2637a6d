"""`compare`: two model versions side by side, from what the ledger and the folders of the versions hold; starts no Spark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tidemill.errors import StepError
from tidemill.lake import Lake
from tidemill.lake.ops import ImportanceRow, MetricRow
from tidemill.model_registry import Deployments, Manifest, read_manifest
from tidemill.model_registry.manifest import read_evidence
from tidemill.spec import Spec
from tidemill.workflow.reproduction.explanation import find_recorded_rows
from tidemill.workflow.reproduction.kept_spec import list_key_changes
from tidemill.workflow.reproduction.origin import Origin, find_version, trace_origin

if TYPE_CHECKING:
    from tidemill.workflow.reproduction.models import PredictionComparison

_MOST_COLUMNS = 20


@dataclass(frozen=True)
class Side:
    """One of the two versions: who made it, its state now, and the model."""

    model_version: int
    run_id: str
    state: str | None
    family: str
    library: str | None
    metric: str
    cv_value: float | None


@dataclass(frozen=True)
class Change:
    """A key, table, column or metric with its value on both sides; None where a side has none."""

    name: str
    a: object
    b: object


@dataclass(frozen=True)
class MetricChange:
    """A metric of all rows or of a slice: both values, the paired difference b - a, and its 95 % interval where both were measured."""

    metric: str
    slice: str | None
    a: float | None
    b: float | None
    difference: float | None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class VersionComparison:
    """Two versions side by side; lists hold what differs, but for ``metrics``, ``slices`` and ``importances``, which hold all.

    ``metrics`` are those of each version's own evaluation unless ``rows`` says on how many common test rows both were measured anew;
    ``predictions`` compares these rows, and is None where they were not scored.
    """

    pipeline: str
    a: Side
    b: Side
    spec: tuple[Change, ...]
    data: tuple[Change, ...]
    params: tuple[Change, ...]
    metrics: tuple[MetricChange, ...]
    slices: tuple[MetricChange, ...]
    importances: tuple[Change, ...]
    rows: int | None = None
    predictions: PredictionComparison | None = None
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        """Return what ``compare --json`` prints."""
        return asdict(self)


def find_side(spec: Spec, lake: Lake, name: str) -> int:
    """Return the model version that a word names: a number, a run, or ``champion``.

    Raises:
        UsageError: there is no such version or run.
    """
    if name == "champion":
        return find_version(spec, lake)
    return find_version(spec, lake, version=int(name)) if name.isdecimal() else find_version(spec, lake, run_id=name)


def compare_versions(spec: Spec, lake: Lake, a: int, b: int) -> VersionComparison:
    """Compare two versions by what is stored about them.

    Raises:
        StepError: a version has no manifest, or a damaged one.
    """
    name = spec.pipeline.pipeline
    first, second = read_manifest(lake, name, a), read_manifest(lake, name, b)
    origins = [_trace(spec, lake, version) for version in (a, b)]
    changes, notes = _compare_specs(first, second, [read_evidence(lake, each) for each in (first, second)], origins)
    states = Deployments(lake.ledger, name).states()
    return VersionComparison(
        name,
        _side(first, states),
        _side(second, states),
        tuple(changes),
        tuple(_compare_data(lake, first, second, origins)),
        tuple(_changes({"family": first.family, **first.params}, {"family": second.family, **second.params})),
        tuple(_compare_metrics(lake, first, second, of_slices=False)),
        tuple(_compare_metrics(lake, first, second, of_slices=True)),
        tuple(_compare_importances(lake, first, second)),
        notes=tuple(notes),
    )


def _trace(spec: Spec, lake: Lake, version: int) -> Origin | None:
    try:
        return trace_origin(spec, lake, version)
    except StepError:  # such as a copied version, whose steps are in another lake
        return None


def _side(manifest: Manifest, states: Mapping[int, str]) -> Side:
    version = manifest.version
    return Side(version, manifest.run_id, states.get(version), manifest.family, manifest.library, manifest.metric, manifest.cv_value)


def _changes(a: Mapping[str, object], b: Mapping[str, object]) -> Iterator[Change]:
    for name in dict.fromkeys((*a, *b)):
        if a.get(name) != b.get(name):
            yield Change(name, a.get(name), b.get(name))


def _compare_specs(
    first: Manifest, second: Manifest, evidence: list[dict[str, Any]], origins: list[Origin | None]
) -> tuple[list[Change], list[str]]:
    """Compare the kept specs key by key; without them the features and the fingerprints of the steps, and say so."""
    specs = [each.get("spec.json", {}).get("spec") for each in evidence]
    if all(specs):
        texts = [{name: entry["sha256"] for name, entry in each.get("code.json", {}).items()} for each in evidence]
        packages = [each.get("environment.json", {}).get("packages", {}) for each in evidence]
        notes = [f"code differs: {change.name}" for change in _changes(*texts)]
        notes += [f"package {change.name}: {change.a or 'absent'} and {change.b or 'absent'}" for change in _changes(*packages)]
        return [Change(*change) for change in list_key_changes(*specs)], notes
    sides = [{"training": {"task": each.task, "metric": each.metric}, "features": each.features} for each in (first, second)]
    without = dict.fromkeys(str(each.version) for each, spec in zip((first, second), specs, strict=True) if not spec)
    notes = [f"the spec of model {' and of model '.join(without)} is not kept; the keys of its features are compared"]
    return [Change(*change) for change in list_key_changes(*sides)], [*notes, *_list_code_changes(origins, ("spec", "code"))]


def _list_code_changes(origins: list[Origin | None], parts: tuple[str, ...]) -> list[str]:
    """Return a sentence on each step whose part of the spec, or whose code, differs by its fingerprint."""
    if origins[0] is None or origins[1] is None:
        return []
    prints = [
        {step.node.name: dict(part.split("=", 1) for part in step.fingerprint.split()) for step in each.steps} for each in origins if each
    ]
    words = {"spec": "part of the spec", "code": "SQL or Python, or the version of tidemill,"}
    return [
        f"{node}: its {words[part]} differs"
        for node in sorted(prints[0].keys() & prints[1].keys())
        for part in parts
        if prints[0][node].get(part) != prints[1][node].get(part)
    ]


def _compare_data(lake: Lake, first: Manifest, second: Manifest, origins: list[Origin | None]) -> Iterator[Change]:
    """Yield each table of which the two read another version, with its rows."""
    rows = find_recorded_rows(lake)
    sides = []
    for manifest, origin in zip((first, second), origins, strict=True):
        versions = dict(manifest.dataset_inputs) if origin is None else {**origin.pinned, **origin.written_versions}
        sides.append(versions | {f"gold.{manifest.pipeline}_dataset": manifest.dataset_version})
    for table in sorted({*sides[0], *sides[1]}):
        described = [_describe_table(table, side.get(table), rows) for side in sides]
        if described[0] != described[1]:
            yield Change(table, *described)


def _describe_table(table: str, version: int | None, rows: Mapping[tuple[str, int], int]) -> str | None:
    if version is None:
        return None
    count = rows.get((table, version))
    return f"version {version}" if count is None else f"version {version}, {count:,} rows"


def _compare_metrics(lake: Lake, first: Manifest, second: Manifest, *, of_slices: bool) -> Iterator[MetricChange]:
    """Yield the stored metrics of both, of all rows or of slices; those of slices are of the selection metric."""
    sides = [_stored_metrics(lake, manifest) for manifest in (first, second)]
    for metric, part in dict.fromkeys((*sides[0], *sides[1])):
        if (part is not None) != of_slices or (of_slices and metric != second.metric):
            continue
        a, b = (side.get((metric, part)) for side in sides)
        yield MetricChange(metric, part, a, b, None if a is None or b is None else b - a)


def _stored_metrics(lake: Lake, manifest: Manifest) -> dict[tuple[str, str | None], float | None]:
    """Return metric and slice → value of the test rows, by the last evaluation of the version."""
    rows = lake.ledger.read(MetricRow, pipeline=manifest.pipeline, model_version=manifest.version, split="test")
    last = rows[-1].run_id if rows else None
    return {(str(row.metric), row.slice): row.value for row in rows if row.run_id == last}


def _compare_importances(lake: Lake, first: Manifest, second: Manifest) -> Iterator[Change]:
    """Yield the importance of each raw column on both sides, the most important first, by each kind that both have."""
    sides = [_importances(lake, manifest) for manifest in (first, second)]
    kinds = {kind for kind, _ in sides[0]} & {kind for kind, _ in sides[1]}
    for kind in sorted(kinds):
        names = dict.fromkeys(name for side in sides for of_kind, name in side if of_kind == kind)
        ranked = sorted(names, key=lambda name: -max(abs(side.get((kind, name), 0.0)) for side in sides))
        for name in ranked[:_MOST_COLUMNS]:
            yield Change(f"{name} ({kind})", *(side.get((kind, name)) for side in sides))


def _importances(lake: Lake, manifest: Manifest) -> dict[tuple[str, str], float]:
    """Return kind and raw column → importance in the latest run that has the kind, added up over the slots of the column."""
    rows = lake.ledger.read(ImportanceRow, pipeline=manifest.pipeline, model_version=manifest.version)
    latest_run = {row.kind: row.run_id for row in rows}  # oldest first
    totals: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.run_id != latest_run[row.kind]:
            continue
        place = str(row.kind), str(row.column_name or row.slot)
        totals[place] = totals.get(place, 0.0) + (row.importance or 0.0)
    return totals
