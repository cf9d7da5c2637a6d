"""Which tables a table is made of: as a spec says it, or as the ledger has seen it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.lake.names import split_name

if TYPE_CHECKING:
    from tidemill.lake import Lake
    from tidemill.spec import Spec

_LAYERS = {"ingest": "bronze", "prepare": "silver"}
_DONE = ("SUCCEEDED", "SKIPPED")


@dataclass(frozen=True)
class Lineage:
    """The bronze and silver tables that are known, each with those it reads."""

    reads: Mapping[str, frozenset[str]]

    def below(self, tables: Collection[str]) -> set[str]:
        """Return the tables that are made of these, however many tables lie between."""
        found = set(tables)
        while more := {table for table, reads in self.reads.items() if table not in found and reads & found}:
            found |= more
        return found - set(tables)

    def copied(self, table: str) -> Iterator[str]:
        """Yield the only table that this one reads, the only one which that reads, and so on."""
        seen = {table}
        while len(reads := self.reads.get(table, frozenset())) == 1:
            [table] = reads
            if table in seen:
                return
            seen.add(table)
            yield table


def declared_lineage(spec: Spec) -> Lineage:
    """Return the lineage that a spec declares."""
    sources = {f"bronze.{name}": frozenset[str]() for name in spec.pipeline.sources}
    return Lineage({**sources, **{f"silver.{name}": frozenset(spec.table_inputs(name)) for name in spec.pipeline.tables}})


def recorded_lineage(lake: Lake, table: str) -> Lineage:
    """Return the lineage of the pipelines that have made ``table`` or its bronze or silver namesake, as they ran last; starts no JVM.

    It is empty where the ledger knows of no such pipeline.
    """
    noun = split_name(table)[1]
    rows = [row for row in lake.ledger.rows("ops.steps") if row["state"] in _DONE]
    pipelines = {row["pipeline"] for row in rows if str(row["node"]) in {f"{step}.{noun}" for step in _LAYERS}}
    reads: dict[str, frozenset[str]] = {}
    for row in rows:
        step, _, item = str(row["node"]).partition(".")
        if row["pipeline"] in pipelines and step in _LAYERS:
            inputs = row["inputs"]
            reads[f"{_LAYERS[step]}.{item}"] = frozenset(inputs if isinstance(inputs, Mapping) else ())
    return Lineage(reads)
