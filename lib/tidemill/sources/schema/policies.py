"""What a source's policies do where its records do not have the columns that are known: add, widen, rescue, quarantine, refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.records import Difference, Records, judged_records, refused_by_rule
from tidemill.sources.schema.types import checked_schema, is_wider, matched_names, wider_types, widest
from tidemill.spec.models import Source

CAST = "cast:"


@dataclass(frozen=True)
class Change:
    """What a policy did about one column: ``action`` is added, widened, rescued, null, quarantined or failed."""

    difference: Difference
    action: str
    records: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of ops.schema_changes, without the columns that tell whose it is."""
        found = self.difference
        return {
            "column_name": found.column,
            "difference": found.kind,
            "found": found.found,
            "expected": found.expected,
            "action": self.action,
            "records": self.records,
            "files": len(found.files) or None,
            "sample": found.files[0] if found.files else None,
        }

    def __str__(self) -> str:
        """Return a remark for the person who watches the run."""
        found, files = self.difference, self.difference.files
        where = f" in {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "") if files else ""
        what = {
            "added": f"new column {found.column} {found.found}: added",
            "widened": f"column {found.column} widened from {found.expected} to {found.found}",
            "rescued": f"unknown column {found.column}: kept in _rescued",
            "null": f"no column {found.column}: null there",
            "quarantined": f"column {found.column}: {self._counted} not {found.expected}: quarantined",
            "failed": _refusal(found),
        }[self.action]
        return what + where

    @property
    def _counted(self) -> str:
        return "1 record is" if self.records == 1 else f"{self.records or 'some'} records are"


@dataclass(frozen=True)
class Evolution:
    """The records read with the schema that the policies arrived at, and what these did on the way."""

    schema: T.StructType
    records: Records
    changes: tuple[Change, ...] = ()


Read = Callable[[T.StructType], Records]
Infer = Callable[[Sequence[str] | None], T.StructType]


def evolved(source: Source, schema: T.StructType, read: Read, infer: Infer, *, by_record: bool) -> Evolution:
    """Read the records, adding and widening columns as the policies say.

    Args:
        source: its policies.
        schema: the columns known before.
        read: reads the records with a schema.
        infer: infers the schema of the files with these paths, of all with None.
        by_record: columns show in the records alone (JSON, XML), so that only inferring over all of them tells new ones.

    Raises:
        SourceError: a policy is ``fail`` and there is such a column.
    """
    records = read(schema)
    found = _merged(records.differences)
    if by_record and (source.on_new_column != "rescue" or source.on_missing_column == "fail"):
        found += _by_record(schema, infer(None))
    changes: list[Change] = []
    new = [difference for difference in found if difference.kind == "new"]
    if new and source.on_new_column == "add":
        paths = None if by_record else sorted({path for difference in new for path in difference.files})
        inferred = {part.name.lower(): part for part in infer(paths).fields}
        added = [(difference, inferred[difference.column.lower()]) for difference in new if difference.column.lower() in inferred]
        fields = {part.name.lower(): part for _, part in added}
        schema = checked_schema([*schema.fields, *fields.values()])
        changes += [Change(replace(difference, found=sql_name(part.dataType)), "added") for difference, part in added]
        found = [difference for difference in found if difference.kind != "new"]
        records = read(schema)
    wider = {name: kind for name, kind in _wider_files(schema, found).items() if source.on_type_change == "widen"}
    if wider:
        changes += [
            Change(Difference("type", name, (), sql_name(kind), sql_name(schema[name].dataType)), "widened") for name, kind in wider.items()
        ]
        schema = T.StructType([T.StructField(part.name, wider.get(part.name, part.dataType)) for part in schema.fields])
        found = [difference for difference in found if difference.kind != "type" or difference.column not in wider]
        records = read(schema)
    changes += [Change(difference, _action(source, difference)) for difference in found]
    return Evolution(schema, records, tuple(changes))


def widened_by_values(
    source: Source, schema: T.StructType, read: Read, refused: Mapping[str, int]
) -> tuple[T.StructType, tuple[Change, ...]]:
    """Return the schema widened where that lets records in whose values did not fit, and what was widened.

    Each wider type is tried on the records themselves: one junk value among large numbers must not keep the numbers out. The narrowest
    type that refuses fewest wins.
    """
    suffering = {name: refused[CAST + name] for name in schema.names if refused.get(CAST + name)}
    if source.on_type_change != "widen" or not suffering:
        return schema, ()
    candidates = {name: wider_types(schema[name].dataType) for name in suffering}
    best: dict[str, T.DataType] = {}
    left = dict(suffering)
    for place in range(max(map(len, candidates.values()))):
        tried = {name: kinds[place] for name, kinds in candidates.items() if place < len(kinds) and left[name]}
        if not tried:
            break
        frame = read(T.StructType([T.StructField(part.name, tried.get(part.name, part.dataType)) for part in schema.fields])).frame
        counts = {} if frame is None else refused_by_rule(judged_records(frame))
        for name, kind in tried.items():
            if counts.get(CAST + name, 0) < left[name]:
                best[name], left[name] = kind, counts.get(CAST + name, 0)
    changes = tuple(
        Change(Difference("type", name, (), sql_name(kind), sql_name(schema[name].dataType)), "widened", suffering[name] - left[name])
        for name, kind in best.items()
    )
    return T.StructType([T.StructField(part.name, best.get(part.name, part.dataType)) for part in schema.fields]), changes


def settled(source: Source, changes: Sequence[Change], refused: Mapping[str, int], schema: T.StructType) -> tuple[Change, ...]:
    """Return the changes with a row for each column whose values were refused.

    Raises:
        SourceError: a policy says ``fail`` to one of them.
    """
    action = "failed" if source.on_type_change == "fail" else "quarantined"
    cast = [
        Change(Difference("type", rule.removeprefix(CAST), (), None, sql_name(schema[rule.removeprefix(CAST)].dataType)), action, count)
        for rule, count in refused.items()
        if rule.startswith(CAST) and rule.removeprefix(CAST) in schema.names
    ]
    found = (*changes, *cast)
    failed = [str(change) for change in found if change.action == "failed"]
    if failed:
        raise SchemaRefused("; ".join(failed), found)
    return found


class SchemaRefused(SourceError):
    """A policy of the source says ``fail`` to what its files look like; ``changes`` tell all that was found."""

    def __init__(self, message: str, changes: Sequence[Change]) -> None:
        """Keep what was found, for the ledger."""
        super().__init__(message)
        self.changes = tuple(changes)


def _merged(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with those that differ in their files alone made one."""
    files: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    kinds: dict[tuple[str, str, str | None, str | None], Difference] = {}
    for each in differences:
        what = (each.kind, each.column, each.found, each.expected)
        kinds.setdefault(what, each)
        files.setdefault(what, []).extend(path for path in each.files if path not in files.get(what, []))
    return [replace(each, files=tuple(files[what])) for what, each in kinds.items()]


def _by_record(schema: T.StructType, inferred: T.StructType) -> list[Difference]:
    matched = matched_names(inferred.names, schema)
    new = [
        Difference("new", part.name, (), sql_name(part.dataType))
        for part, name in zip(inferred.fields, matched, strict=True)
        if name is None
    ]
    return new + [Difference("missing", part.name, (), None, sql_name(part.dataType)) for part in schema.fields if part.name not in matched]


def _wider_files(schema: T.StructType, found: Sequence[Difference]) -> dict[str, T.DataType]:
    """Return the wider type of each column that whole files have in another type, where one holds both."""
    wider: dict[str, T.DataType] = {}
    for difference in found:
        if difference.kind == "type" and difference.found and difference.column in schema.names:
            before = wider.get(difference.column, schema[difference.column].dataType)
            both = widest(before, T.DataType.fromDDL(difference.found))
            if both != before and (is_wider(before, both) or both in wider_types(before)):
                wider[difference.column] = both
    return wider


def _action(source: Source, difference: Difference) -> str:
    policy = {"new": source.on_new_column, "missing": source.on_missing_column, "type": source.on_type_change}[difference.kind]
    done = {"fail": "failed", "null": "null", "rescue": "rescued", "add": "rescued"}
    return done.get(policy, "quarantined")


def _refusal(found: Difference) -> str:
    return {
        "new": f"new column {found.column}, and `on_new_column: fail` is set; add it to `schema:`, or choose `add` or `rescue`",
        "missing": f"no column {found.column}, and `on_missing_column: fail` is set; correct the file, or choose `null`",
        "type": (
            f"column {found.column} holds values that are not {found.expected}"
            + (f" but {found.found}" if found.found else "")
            + ", and `on_type_change: fail` is set; correct the data, or choose `widen` or `quarantine`"
        ),
    }[found.kind]


def sql_name(kind: T.DataType) -> str:
    """Return the type as SQL writes it."""
    return kind.simpleString().upper()
