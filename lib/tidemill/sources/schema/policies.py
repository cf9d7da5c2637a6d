"""Apply the schema policies of a source: add, widen, rescue, quarantine or fail where records do not have the known columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.records import Difference, Records, add_status, count_by_rule
from tidemill.sources.schema.types import common_type, is_wider, list_wider_types, match_names, validate_schema
from tidemill.spec.models import Source

CAST = "cast:"


@dataclass(frozen=True)
class SchemaChange:
    """The action of a policy on one column: added, widened, rescued, null, quarantined or failed."""

    difference: Difference
    action: str
    records: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of ops.schema_changes, without the columns that identify run, source and batch."""
        difference = self.difference
        return {
            "column_name": difference.column,
            "difference": difference.kind,
            "found": difference.actual,
            "expected": difference.expected,
            "action": self.action,
            "records": self.records,
            "files": len(difference.files) or None,
            "sample": difference.files[0] if difference.files else None,
        }

    def __str__(self) -> str:
        """Return a remark for the user."""
        difference, files = self.difference, self.difference.files
        where = f" in {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "") if files else ""
        what = {
            "added": f"new column {difference.column} {difference.actual}: added",
            "widened": f"column {difference.column} widened from {difference.expected} to {difference.actual}",
            "rescued": f"unknown column {difference.column}: kept in _rescued",
            "null": f"no column {difference.column}: null there",
            "quarantined": f"column {difference.column}: {self._count_text} not {difference.expected}: quarantined",
            "failed": _explain_failure(difference),
        }[self.action]
        return what + where

    @property
    def _count_text(self) -> str:
        return "1 record is" if self.records == 1 else f"{self.records or 'some'} records are"


@dataclass(frozen=True)
class SchemaEvolution:
    """The records with the schema that the policies lead to, and the changes."""

    schema: T.StructType
    records: Records
    changes: tuple[SchemaChange, ...] = ()


Read = Callable[[T.StructType], Records]
Infer = Callable[[Sequence[str] | None], T.StructType]


def evolve_schema(source: Source, schema: T.StructType, read: Read, infer: Infer, *, by_record: bool) -> SchemaEvolution:
    """Read the records, adding and widening columns as the policies say.

    Args:
        source: the source with its policies.
        schema: the known columns.
        read: reads the records with a schema.
        infer: infers the schema of the files with these paths, of all files with None.
        by_record: only records have columns (JSON, XML), so new ones are known only by inferring over all records.

    Raises:
        SourceError: a policy is ``fail`` and applies to a column.
    """
    records = read(schema)
    differences = _merge_differences(records.differences)
    if by_record and (source.on_new_column != "rescue" or source.on_missing_column == "fail"):
        differences += _compare_inferred(schema, infer(None))
    changes: list[SchemaChange] = []
    new = [difference for difference in differences if difference.kind == "new"]
    if new and source.on_new_column == "add":
        paths = None if by_record else sorted({path for difference in new for path in difference.files})
        inferred = {part.name.lower(): part for part in infer(paths).fields}
        added = [(difference, inferred[difference.column.lower()]) for difference in new if difference.column.lower() in inferred]
        fields = {part.name.lower(): part for _, part in added}
        schema = validate_schema([*schema.fields, *fields.values()])
        changes += [SchemaChange(replace(difference, actual=sql_name(part.dataType)), "added") for difference, part in added]
        differences = [difference for difference in differences if difference.kind != "new"]
        records = read(schema)
    wider = {name: kind for name, kind in _find_wider_types(schema, differences).items() if source.on_type_change == "widen"}
    if wider:
        changes += [
            SchemaChange(Difference("type", name, (), sql_name(kind), sql_name(schema[name].dataType)), "widened")
            for name, kind in wider.items()
        ]
        schema = T.StructType([T.StructField(part.name, wider.get(part.name, part.dataType)) for part in schema.fields])
        differences = [difference for difference in differences if difference.kind != "type" or difference.column not in wider]
        records = read(schema)
    changes += [SchemaChange(difference, _choose_action(source, difference)) for difference in differences]
    return SchemaEvolution(schema, records, tuple(changes))


def widen_by_values(
    source: Source, schema: T.StructType, read: Read, rejected: Mapping[str, int]
) -> tuple[T.StructType, tuple[SchemaChange, ...]]:
    """Widen columns whose values were rejected, if that accepts more records; return the schema and the changes.

    Each wider type is tried on the records, so that one junk value does not exclude large numbers. The narrowest type with the fewest
    rejections wins.
    """
    misfits = {name: rejected[CAST + name] for name in schema.names if rejected.get(CAST + name)}
    if source.on_type_change != "widen" or not misfits:
        return schema, ()
    candidates = {name: list_wider_types(schema[name].dataType) for name in misfits}
    best: dict[str, T.DataType] = {}
    remaining = dict(misfits)
    for place in range(max(map(len, candidates.values()))):
        attempt = {name: kinds[place] for name, kinds in candidates.items() if place < len(kinds) and remaining[name]}
        if not attempt:
            break
        frame = read(T.StructType([T.StructField(part.name, attempt.get(part.name, part.dataType)) for part in schema.fields])).frame
        counts = {} if frame is None else count_by_rule(add_status(frame))
        for name, kind in attempt.items():
            if counts.get(CAST + name, 0) < remaining[name]:
                best[name], remaining[name] = kind, counts.get(CAST + name, 0)
    changes = tuple(
        SchemaChange(
            Difference("type", name, (), sql_name(kind), sql_name(schema[name].dataType)), "widened", misfits[name] - remaining[name]
        )
        for name, kind in best.items()
    )
    return T.StructType([T.StructField(part.name, best.get(part.name, part.dataType)) for part in schema.fields]), changes


def apply_policies(
    source: Source, changes: Sequence[SchemaChange], rejected: Mapping[str, int], schema: T.StructType
) -> tuple[SchemaChange, ...]:
    """Return the changes, with one more for each column whose values were rejected.

    Raises:
        SchemaRejected: a policy is ``fail`` for one of them.
    """
    action = "failed" if source.on_type_change == "fail" else "quarantined"
    cast = [
        SchemaChange(
            Difference("type", rule.removeprefix(CAST), (), None, sql_name(schema[rule.removeprefix(CAST)].dataType)), action, count
        )
        for rule, count in rejected.items()
        if rule.startswith(CAST) and rule.removeprefix(CAST) in schema.names
    ]
    all_changes = (*changes, *cast)
    failed = [str(change) for change in all_changes if change.action == "failed"]
    if failed:
        raise SchemaRejected("; ".join(failed), all_changes)
    return all_changes


class SchemaRejected(SourceError):
    """A policy of the source is ``fail`` for one of the ``changes``."""

    def __init__(self, message: str, changes: Sequence[SchemaChange]) -> None:
        """Take the message and all changes, for the ledger."""
        super().__init__(message)
        self.changes = tuple(changes)


def _merge_differences(differences: Sequence[Difference]) -> list[Difference]:
    """Merge differences that differ only in their files."""
    files: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    kinds: dict[tuple[str, str, str | None, str | None], Difference] = {}
    for each in differences:
        what = (each.kind, each.column, each.actual, each.expected)
        kinds.setdefault(what, each)
        files.setdefault(what, []).extend(path for path in each.files if path not in files.get(what, []))
    return [replace(each, files=tuple(files[what])) for what, each in kinds.items()]


def _compare_inferred(schema: T.StructType, inferred: T.StructType) -> list[Difference]:
    matched = match_names(inferred.names, schema)
    new = [
        Difference("new", part.name, (), sql_name(part.dataType))
        for part, name in zip(inferred.fields, matched, strict=True)
        if name is None
    ]
    return new + [Difference("missing", part.name, (), None, sql_name(part.dataType)) for part in schema.fields if part.name not in matched]


def _find_wider_types(schema: T.StructType, differences: Sequence[Difference]) -> dict[str, T.DataType]:
    """Return a wider type for each column that whole files have as another type, if one type holds both."""
    wider: dict[str, T.DataType] = {}
    for difference in differences:
        if difference.kind == "type" and difference.actual and difference.column in schema.names:
            before = wider.get(difference.column, schema[difference.column].dataType)
            both = common_type(before, T.DataType.fromDDL(difference.actual))
            if both != before and (is_wider(before, both) or both in list_wider_types(before)):
                wider[difference.column] = both
    return wider


def _choose_action(source: Source, difference: Difference) -> str:
    policy = {"new": source.on_new_column, "missing": source.on_missing_column, "type": source.on_type_change}[difference.kind]
    done = {"fail": "failed", "null": "null", "rescue": "rescued", "add": "rescued"}
    return done.get(policy, "quarantined")


def _explain_failure(difference: Difference) -> str:
    return {
        "new": f"new column {difference.column}, and `on_new_column: fail` is set; add it to `schema:`, or choose `add` or `rescue`",
        "missing": f"no column {difference.column}, and `on_missing_column: fail` is set; correct the file, or choose `null`",
        "type": (
            f"column {difference.column} holds values that are not {difference.expected}"
            + (f" but {difference.actual}" if difference.actual else "")
            + ", and `on_type_change: fail` is set; correct the data, or choose `widen` or `quarantine`"
        ),
    }[difference.kind]


def sql_name(kind: T.DataType) -> str:
    """Return the type in SQL."""
    return kind.simpleString().upper()
