"""The inputs of a spec's parts: tables named in SQL and parameters of Python functions, and whether they exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from tidemill.errors import Fault, UsageError, did_you_mean
from tidemill.options import split_reference
from tidemill.runtime.user_code import parameter_names
from tidemill.spec.loading.document import MAX_FAULTS, Key, Node, dotted_key, read_small
from tidemill.spec.loading.table_inputs import SESSION, parameter_tables
from tidemill.spec.models import REFERENCE
from tidemill.spec.validation.dataset import aggregate_nodes


def sql_text(folder: Path, value: str) -> str:
    """Return the SQL of ``value``: the text of a file beside the spec, or ``value`` itself where it holds white space.

    Raises:
        UsageError: there is no such file.
    """
    if any(character.isspace() for character in value.strip()):
        return value
    file = folder / value.strip()
    if not file.is_file():
        near = did_you_mean(value, [path.name for path in folder.glob("*.sql")])
        raise UsageError(f"no file {file}{near}; SQL files are looked up beside the spec")
    return _text_of(file)


def schema_text(folder: Path, value: str) -> str:
    """Return the text of the schema file ``value`` (``.ddl`` or ``.json``) beside the spec, or ``value`` itself: it is DDL then.

    Raises:
        UsageError: there is no such file, or it is too large or not UTF-8.
    """
    if not value.endswith((".ddl", ".json")):
        return value
    if not (folder / value).is_file():
        near = did_you_mean(value, [file.name for file in folder.iterdir() if file.suffix in (".ddl", ".json")])
        raise UsageError(f"no file {folder / value}{near}; schema files are looked up beside the spec")
    return _text_of(folder / value)


def _text_of(file: Path) -> str:
    try:
        return read_small(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8: byte {error.start}; save it as UTF-8") from error


def sql_inputs(folder: Path, value: str) -> list[str]:
    """Return the tables that the SQL of ``value`` reads, sorted.

    Raises:
        UsageError: the file is missing, the SQL does not parse, or it does more than read.
    """
    from tidemill.lake.sql import is_query, table_names

    text = sql_text(folder, value)
    try:
        names = sorted(table_names(text))
        reads_only = is_query(text)
    except UsageError as error:
        where = "" if text is value else f"{folder / value}: "
        raise UsageError(f"{where}{error}") from error
    if not reads_only:
        raise UsageError("the SQL must be one query (SELECT …); tidemill itself writes the result")
    return names


@dataclass(frozen=True)
class DeclaredNames:
    """The names that a spec declares, and its folder."""

    folder: Path
    pipeline: str
    sources: tuple[str, ...]
    tables: tuple[str, ...]

    def python_inputs(self, function: str, inputs: Sequence[str], table: str) -> list[str]:
        """Return the tables of a function's parameters, in their order.

        DeclaredNames ``inputs`` count; else the names of the parameters do, as ``parameter_tables`` reads them.

        Raises:
            UsageError: the function does not exist, or a parameter names no table.
        """
        names = parameter_names(self.folder, function)
        if inputs:
            return list(inputs)
        if names is None:
            raise UsageError(f"the parameters of {function} cannot be read; name its tables: `inputs: [bronze.flights]`")
        arguments = parameter_tables(names, table, self.sources, self.tables)
        return [argument for argument in arguments if argument != SESSION]

    def find_undeclared(self, names: Sequence[str], *, may_read_dataset: bool = False) -> Iterator[str]:
        """Yield a message for each table that this part of the spec cannot read."""
        tables = [*(f"bronze.{name}" for name in self.sources), *(f"silver.{name}" for name in self.tables)]
        known = [*tables, *([f"gold.{self.pipeline}_dataset"] if may_read_dataset else [])]
        for name in names:
            layer, _, noun = name.partition(".")
            if name.removesuffix("_quarantine") in known or layer == "ops":
                continue
            if layer == "gold" and not noun.startswith(f"{self.pipeline}_"):
                continue  # another pipeline's
            if layer == "gold":
                yield f"reads {name}, which this pipeline makes later; read bronze and silver tables here"
            else:
                yield f"reads {name}, which is not declared under `{'sources' if layer == 'bronze' else 'tables'}:`{_suggest(name, known)}"


def reference_faults(root: Node, folder: Path) -> list[Fault]:
    """Return a fault for each missing file or function, unparsable SQL, undeclared table, and each cycle among the tables."""
    pipeline = root.at("pipeline")
    names = DeclaredNames(folder, (pipeline and pipeline.string) or "", tuple(_entries(root, "sources")), tuple(_entries(root, "tables")))
    faults: list[Fault] = []
    graph: dict[str, list[str]] = {}
    for name, table in _entries(root, "tables").items():
        if len(faults) >= MAX_FAULTS:
            break
        reads, definition_faults = _read_definition(names, table, ("tables", name))
        expectation_reads, expectation_faults = _read_expectations(names, table, name)
        graph[f"silver.{name}"] = [*reads, *expectation_reads]
        faults += [*definition_faults, *expectation_faults]
    for part, may_read_dataset in (("dataset", False), ("scoring", True)):
        block = root.at(part)
        if block is not None:
            faults += _read_definition(names, block, (part,), may_read_dataset=may_read_dataset)[1]
    faults += _joined_table_faults(names, root)
    faults += _custom_stage_faults(root, folder)
    faults += [_cycle_fault(root, cycle) for cycle in _find_cycles(graph)]
    return faults


def _joined_table_faults(names: DeclaredNames, root: Node) -> list[Fault]:
    """Return a fault for each table of a lookup or an aggregate that the dataset cannot read."""
    lookups = root.at("dataset", "lookups")
    named: list[tuple[tuple[Key, ...], Node]] = [
        (("dataset", "lookups", name, "table"), block) for name, block in (lookups.mapping if lookups else {}).items()
    ]
    named += [((*path, "over"), block) for path, block in aggregate_nodes(root)]
    faults = []
    for path, block in named:
        node = block.at(path[-1])
        if node is not None and node.string is not None and "." in node.string:
            faults += [Fault(*node.fault_place(), dotted_key(path), message) for message in names.find_undeclared([node.string])]
    return faults


def _read_definition(
    names: DeclaredNames, block: Node, path: tuple[Key, ...], *, may_read_dataset: bool = False
) -> tuple[list[str], list[Fault]]:
    """Return the tables a definition (``sql``, ``from`` or ``python``) reads, and its faults."""
    reads: list[str] = []
    faults: list[Fault] = []
    for key in ("sql", "from", "python"):
        node = block.at(key)
        if node is None or node.string is None:
            continue
        place, where = node.fault_place(), dotted_key((*path, key))
        try:
            tables = _read_inputs(names, block, key, node.string, str(path[-1]))
        except UsageError as error:
            faults.append(Fault(*place, where, str(error)))
            continue
        reads += tables
        faults += [Fault(*place, where, message) for message in names.find_undeclared(tables, may_read_dataset=may_read_dataset)]
    return reads, faults


def _read_expectations(names: DeclaredNames, table: Node, name: str) -> tuple[list[str], list[Fault]]:
    """Return the tables that a table's expectations read, and a fault for each that they cannot read."""
    reads: list[str] = []
    faults: list[Fault] = []
    for rule, block in _entries(table, "expectations").items():
        for key in (("in_reference",), ("sum", "equals")):
            node = block.at(*key)
            if node is None or node.string is None or not re.match(REFERENCE, node.string):
                continue
            place, where = node.fault_place(), dotted_key(("tables", name, "expectations", rule, *key))
            other, _ = split_reference(node.string)
            if other == f"silver.{name}":
                faults.append(Fault(*place, where, f"{other} is the table that is being judged; name another one"))
                continue
            reads.append(other)
            faults += [Fault(*place, where, message) for message in names.find_undeclared([other])]
    return reads, faults


def _custom_stage_faults(root: Node, folder: Path) -> list[Fault]:
    """Return a fault for each class of ``features.custom`` that does not exist."""
    faults = []
    custom = root.at("features", "custom")
    for place, part in enumerate(custom.items if custom else []):
        node = part.at("python")
        if node is None or node.string is None or "." not in node.string:
            continue
        try:
            parameter_names(folder, node.string)
        except UsageError as error:
            faults.append(Fault(*node.fault_place(), dotted_key(("features", "custom", place, "python")), str(error)))
    return faults


def _read_inputs(names: DeclaredNames, block: Node, key: str, value: str, table: str) -> list[str]:
    if key == "sql":
        return sql_inputs(names.folder, value)
    if key == "from":
        return [value] if "." in value else []
    declared = block.at("inputs")
    return names.python_inputs(value, declared.strings if declared else [], table) if "." in value else []


def _find_cycles(graph: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return one cycle for each table that is part of one and was not yet reported."""
    cycles: list[list[str]] = []
    done: set[str] = set()
    for first in graph:
        trail: dict[str, Iterator[str]] = {first: iter(graph[first])}  # the path from `first`, with the unvisited inputs of each table
        while trail:
            name, below = next(reversed(trail.items()))
            child = next(below, None)
            if child is None:
                done.add(name)
                del trail[name]
                continue
            child = child if child in graph else child.removesuffix("_quarantine")
            if child in trail:
                names = list(trail)
                cycles.append([*names[names.index(child) :], child])
            elif child not in done:
                trail[child] = iter(graph.get(child, ()))
    return cycles


def _cycle_fault(root: Node, cycle: list[str]) -> Fault:
    path: tuple[Key, ...] = ("tables", cycle[0].partition(".")[2])
    node = root.at(*path) or root
    names = cycle if len(cycle) <= 12 else [*cycle[:6], "…", *cycle[-5:]]
    return Fault(*node.fault_place(), dotted_key(path), f"reads itself: {' → '.join(names)}; split one of these tables in two")


def _entries(root: Node, key: str) -> dict[str, Node]:
    node = root.at(key)
    return node.mapping if node else {}


def _suggest(name: str, known: Sequence[str]) -> str:
    """Suggest the nearest name, compared without the layer; names of the same layer come first."""
    layer, _, noun = name.partition(".")
    ranked = sorted(known, key=lambda other: not other.startswith(f"{layer}."))
    nouns = {other.partition(".")[2]: other for other in reversed(ranked)}
    nearest = get_close_matches(noun, nouns, n=1)
    return f"; did you mean {nouns[nearest[0]]!r}?" if nearest else ""
