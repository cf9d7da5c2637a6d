"""What the tables of a pipeline read: from their SQL, or from the parameters of their Python function."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tidemill.errors import UsageError, did_you_mean
from tidemill.runtime.user_code import parameter_names

if TYPE_CHECKING:
    from tidemill.spec.loading.loader import Spec


SESSION = "spark"
"""The parameter that is given the session and not a table."""


def function_arguments(spec: Spec, name: str) -> tuple[str, ...]:
    """Return what the Python function of a table is called with, in order: tables, and ``spark`` for the session."""
    table, pipeline = spec.pipeline.tables[name], spec.pipeline
    found = parameter_names(spec.folder, str(table.python))
    if table.inputs:
        return tuple(table.inputs) if found is None else _in_place(table.inputs, found)
    if found is None:
        raise UsageError(f"tables.{name}: the parameters of {table.python} cannot be read; name its tables: `inputs: [bronze.flights]`")
    return parameter_tables(found, name, pipeline.sources, pipeline.tables)


def parameter_tables(names: Sequence[str], table: str, sources: Collection[str], tables: Collection[str]) -> tuple[str, ...]:
    """Return the table that each parameter of the function of ``table`` means, ``spark`` for the session.

    ``bronze_x`` and ``silver_x`` name the layer; ``x`` is silver.x where that is another table, else bronze.x; a single parameter of
    any other name is the source that has the table's own name.

    Raises:
        UsageError: a parameter names no source and no table.
    """
    only = [name for name in names if name != SESSION]
    found = []
    for name in names:
        layer, _, noun = name.partition("_")
        if name == SESSION:
            found.append(SESSION)
        elif name in tables and name != table:
            found.append(f"silver.{name}")
        elif name in sources:
            found.append(f"bronze.{name}")
        elif layer == "bronze" and noun in sources:
            found.append(f"bronze.{noun}")
        elif layer == "silver" and noun in tables and noun != table:
            found.append(f"silver.{noun}")
        elif len(only) == 1 and table in sources:
            found.append(f"bronze.{table}")
        else:
            near = did_you_mean(name, {*sources, *tables})
            raise UsageError(f"parameter {name!r} names no source or table{near}; rename it, or give `inputs: [bronze.flights]`")
    return tuple(found)


def _in_place(inputs: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the declared inputs with the session where a parameter asks for it."""
    left = iter(inputs)
    placed = [SESSION if name == SESSION else next(left, None) for name in names]
    return (*[name for name in placed if name is not None], *left)
