"""The columns of every table of a pipeline, computed from its sources, and the unknown columns in its SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tidemill.column_names import is_added
from tidemill.errors import Fault, TidemillError, did_you_mean
from tidemill.lake import Lake
from tidemill.preflight.queries import Columns, UnknownColumn, resolve_query
from tidemill.preflight.sources import bronze_columns, delta_columns
from tidemill.spec import Spec
from tidemill.spec.models import Dataset, column_names

_SHOWN = 12


@dataclass
class TableColumns:
    """The columns of a spec's tables, each computed once; ``faults`` are unknown columns in the SQL on the way."""

    spec: Spec
    lake: Lake
    faults: list[Fault] = field(default_factory=list)
    _known: dict[str, Columns | None] = field(default_factory=dict)

    def of(self, table: str) -> Columns | None:
        """Return the columns of ``layer.name`` after the next run, None if they are not known."""
        if table not in self._known:
            self._known[table] = None  # while it is being computed, for cyclic tables
            self._known[table] = self._compute_columns(table)
        return self._known[table]

    def dataset(self) -> Columns | None:
        """Return the columns of the dataset without ``split`` and ``fold``: those of its rows, its lookups and its aggregates."""
        return self._with_history(self.dataset_rows())

    def dataset_rows(self) -> Columns | None:
        """Return the columns of the rows of the dataset's SQL."""
        dataset = self.spec.pipeline.dataset
        return self.of(dataset.from_) if dataset.from_ else self.query(str(dataset.sql), ("dataset", "sql"))

    def scoring(self) -> Columns | None:
        """Return the columns of the rows to score."""
        scoring, pipeline = self.spec.pipeline.scoring, self.spec.pipeline
        if scoring.sql is None and scoring.from_ in (None, pipeline.dataset_table):
            columns = self.dataset()
            return None if columns is None else {**columns, "split": None, "fold": None}
        rows = self.of(scoring.from_) if scoring.from_ else self.query(str(scoring.sql), ("scoring", "sql"))
        known, own = self.dataset(), self.dataset_rows()
        if rows is None or known is None or own is None:
            return None
        # Scoring adds the columns of lookups and aggregates that the rows lack.
        return {**rows, **{name: None for name in known if name not in own}}

    def query(self, value: str, path: tuple[str, ...]) -> Columns | None:
        """Return the columns of the SQL at ``path`` of the spec, and record its faults."""
        name = ".".join(path)
        if name not in self._known:
            try:
                text = self.spec.sql_text(value)
            except TidemillError:
                return None  # the spec's own checks say so
            self._known[name], unknown = resolve_query(text, self.of)
            self.faults += [self._fault(each, value, text, path) for each in unknown]
        return self._known[name]

    def _compute_columns(self, table: str) -> Columns | None:
        layer, _, name = table.partition(".")
        pipeline = self.spec.pipeline
        if layer == "bronze" and name in pipeline.sources:
            return bronze_columns(self.spec, self.lake, name)
        if layer == "silver" and name in pipeline.tables:
            declared = pipeline.tables[name]
            return None if declared.sql is None else self.query(declared.sql, ("tables", name, "sql"))
        if table == pipeline.dataset_table:
            columns = self.dataset()
            return None if columns is None else {**columns, "split": None, "fold": None}
        is_own = layer in ("bronze", "silver") or table.startswith(f"gold.{pipeline.pipeline}_")
        return None if is_own or not self.lake.exists(table) else delta_columns(self.lake.path(table))

    def _with_history(self, rows: Columns | None) -> Columns | None:
        """Return rows with what lookups and aggregates add to them."""
        dataset = self.spec.pipeline.dataset
        if rows is None:
            return None
        columns = dict(rows)
        for name in dataset.lookups:
            added = self._lookup_columns(dataset, name, columns)
            if added is None:
                return None
            columns |= added
        for block in dataset.aggregate_blocks.values():
            columns |= dict.fromkeys(column_names(block.features, block.windows))
        return columns

    def _lookup_columns(self, dataset: Dataset, name: str, known: Columns) -> Columns | None:
        lookup = dataset.lookups[name]
        names, columns = lookup.columns, self.of(lookup.table)
        if names is None:
            if columns is None:
                return None
            is_bronze = lookup.table.startswith("bronze.")
            names = [column for column in columns if column not in lookup.by and not (is_bronze and is_added(column))]
        lower = {other.lower() for other in (*known, "split", "fold")}
        prefix = f"{name}_" if lookup.prefix is None else lookup.prefix
        kinds = columns or {}
        return {f"{prefix}{column}" if column.lower() in lower else column: kinds.get(column) for column in names}

    def _fault(self, unknown: UnknownColumn, value: str, text: str, path: tuple[str, ...]) -> Fault:
        line = text.count("\n", 0, unknown.start) + 1
        column = unknown.start - text.rfind("\n", 0, unknown.start)
        message = f"no column {unknown.name!r} in the tables of this query{nearest_or_all(unknown.name, unknown.known)}"
        if text is value:  # in the spec itself, where YAML may have folded its lines
            assert self.spec.tree is not None
            file, at = self.spec.tree.nearest(".".join(path)).fault_place()
            return Fault(file, at, ".".join(path), f"{message} (line {line}, column {column} of the SQL)")
        return Fault(str(self.spec.folder / value.strip()), line, ".".join(path), message, column)


def nearest_or_all(name: str, known: Sequence[str]) -> str:
    """Return the end of a message: the nearest name, and the known names."""
    shown = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
    return f"{did_you_mean(name, known)}; there are {shown}" if known else ""
