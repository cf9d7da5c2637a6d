"""The inputs of a pipeline's tables, from the parameters of their Python functions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tidemill.errors import UsageError, did_you_mean
from tidemill.runtime.user_code import parameter_names

if TYPE_CHECKING:
    from tidemill.spec.loading.loader import Spec


SESSION = "spark"
"""The parameter that receives the session, not a table."""


def function_arguments(spec: Spec, name: str) -> tuple[str, ...]:
    """Return the arguments of a table's Python function, in order: tables, and ``spark`` for the session."""
    table, pipeline = spec.pipeline.tables[name], spec.pipeline
    names = parameter_names(spec.folder, str(table.python))
    if table.inputs:
        return tuple(table.inputs) if names is None else _insert_session(table.inputs, names)
    if names is None:
        raise UsageError(f"tables.{name}: the parameters of {table.python} cannot be read; name its tables: `inputs: [bronze.flights]`")
    return parameter_tables(names, name, pipeline.sources, pipeline.tables)


def parameter_tables(names: Sequence[str], table: str, sources: Collection[str], tables: Collection[str]) -> tuple[str, ...]:
    """Return the table for each parameter of the function of ``table``, ``spark`` for the session.

    ``bronze_x`` and ``silver_x`` name the layer; ``x`` is silver.x if that is another table, else bronze.x; a single parameter of
    any other name is the source with the table's own name.

    Raises:
        UsageError: a parameter names no source and no table.
    """
    only = [name for name in names if name != SESSION]
    arguments = []
    for name in names:
        layer, _, noun = name.partition("_")
        if name == SESSION:
            arguments.append(SESSION)
        elif name in tables and name != table:
            arguments.append(f"silver.{name}")
        elif name in sources:
            arguments.append(f"bronze.{name}")
        elif layer == "bronze" and noun in sources:
            arguments.append(f"bronze.{noun}")
        elif layer == "silver" and noun in tables and noun != table:
            arguments.append(f"silver.{noun}")
        elif len(only) == 1 and table in sources:
            arguments.append(f"bronze.{table}")
        else:
            near = did_you_mean(name, {*sources, *tables})
            raise UsageError(f"parameter {name!r} names no source or table{near}; rename it, or give `inputs: [bronze.flights]`")
    return tuple(arguments)


def _insert_session(inputs: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the declared inputs with the session inserted at its parameter's place."""
    left = iter(inputs)
    placed = [SESSION if name == SESSION else next(left, None) for name in names]
    return (*[name for name in placed if name is not None], *left)
