"""What explains that a run made again differs: tables that were rewritten, changed parts of the spec or code, other package versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidemill.lake import Lake
from tidemill.lake.ops import StepRow, TrialRow
from tidemill.lake.pinned import FileChange, find_changed_files
from tidemill.spec import Spec
from tidemill.workflow.fingerprint import fingerprint_definition
from tidemill.workflow.reproduction.origin import Origin


@dataclass(frozen=True)
class Cause:
    """One input that is not as it was: a table, a part of the spec, code or a package."""

    kind: str
    name: str
    why: str

    def __str__(self) -> str:
        """Return the cause as a sentence."""
        return f"{self.name}: {self.why}"


def check_table(lake: Lake, table: str, version: int, rows: int | None) -> tuple[list[FileChange], list[Cause]]:
    """Return the changed files of a pinned version, and what is wrong with it: another commit, another number of rows, rewritten files.

    ``rows`` is how many rows the table had when its step recorded the version, None where that is not known.

    Raises:
        TableNotFound: the version, or one of its files, is gone.
    """
    changed = find_changed_files(lake, table, version)
    causes = []
    if changed:
        more = f", and {len(changed) - 1} more files" if len(changed) > 1 else ""
        why = f"rows of version {version} were changed in its files: {changed[0].path}: {changed[0].why}{more}"
        causes.append(Cause("table", table, why))
    present = lake.rows(table, version)
    if rows is not None and present is not None and present != rows:
        causes.append(Cause("table", table, f"version {version} has {present:,} rows, and had {rows:,} when it was read"))
    return changed, causes


def find_recorded_rows(lake: Lake) -> dict[tuple[str, int], int]:
    """Return the rows of each version of each table, as the step recorded them that wrote it."""
    return {
        (table, version): (row.output_rows or {})[table]
        for row in reversed(lake.ledger.read(StepRow))
        for table, version in (row.outputs or {}).items()
        if table in (row.output_rows or {})
    }


def find_foreign_commit(lake: Lake, table: str, version: int) -> list[Cause]:
    """Return that no run wrote this version, where its commit is by another writer: the table was made anew, or written past the runs."""
    entry = next((each for each in lake.history(table) if int(each["version"]) == version), None)
    is_own = any(meta["version"] == version and meta.get("run_id") for meta in lake.metadata(table, limit=None))
    if entry is None or is_own or str(entry.get("operation", "")).startswith("TIDEMILL"):
        return []
    return [Cause("table", table, f"version {version} was not written by a run; its commit says {entry.get('operation', 'nothing')}")]


def find_definition_changes(spec: Spec, origin: Origin) -> Iterator[Cause]:
    """Yield the nodes whose part of the spec, or whose code, has changed since they ran."""
    for step in origin.steps:
        before, now = (_parts(text) for text in (step.fingerprint, fingerprint_definition(spec, step.node)))
        if before and before.get("spec") != now["spec"]:
            yield Cause("spec", step.node.name, "its part of the spec has changed since")
        if before and before.get("code") != now["code"]:
            yield Cause("code", step.node.name, "its SQL or Python, or the version of tidemill, has changed since")


def find_library_changes(recorded: Sequence[TrialRow], now: Sequence[TrialRow]) -> Iterator[Cause]:
    """Yield the libraries that fitted a family then and now, where they differ."""
    before, after = (_libraries(rows) for rows in (recorded, now))
    for family in before.keys() & after.keys():
        if before[family] != after[family]:
            yield Cause("package", family, f"fitted by {after[family]} now, and by {before[family]} then")


def find_later_versions(lake: Lake, pinned: Mapping[str, int]) -> list[str]:
    """Return a remark on each pinned table that has gone on since; the replay reads the pinned version all the same."""
    remarks = []
    for table, version in sorted(pinned.items()):
        latest = lake.version(table)
        if latest is not None and latest > version:
            remarks.append(f"{table} has changed since: the run read version {version}, the latest is {latest}")
    return remarks


def _parts(fingerprint: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in fingerprint.split() if "=" in part)


def _libraries(rows: Sequence[TrialRow]) -> dict[str, str]:
    return {str(row.family): str(row.library) for row in rows if row.library}
