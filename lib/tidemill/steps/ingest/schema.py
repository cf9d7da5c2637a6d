"""The schema of a source: declared or pinned in its table, recorded in the lake a version each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.lake.ops import SchemaChangeRow, SchemaRow
from tidemill.sources.schema.declared import checked_schema, is_wider, parsed_schema
from tidemill.sources.schema.policies import Change, sql_name
from tidemill.spec.models import Source
from tidemill.steps.ingest.history import Past, stamp
from tidemill.steps.result import StepContext

_EXACT_IN_DOUBLE = 2**53


def known_schema(context: StepContext, source: Source, past: Past) -> T.StructType | None:
    """Return the columns that records must have: the declared ones, or those of the table; None where the first batch is yet to tell.

    What policies have added or widened since is in the table, and counts.
    """
    if source.schema_ is None:
        return past.schema
    declared = parsed_schema(context.spark, context.spec.schema_text(source.schema_))
    if past.schema is None:
        return declared
    pinned = {part.name: part for part in past.schema.fields}
    fields = [
        pinned[part.name] if part.name in pinned and is_wider(part.dataType, pinned[part.name].dataType) else part
        for part in declared.fields
    ]
    if source.on_new_column == "add":
        lower = {name.lower() for name in declared.names}
        fields += [part for part in past.schema.fields if part.name.lower() not in lower]
    return checked_schema(fields)


def record_schema(context: StepContext, schema: T.StructType, reason: str, batch: int) -> None:
    """Write a new version into ops.schemas where the columns are not those of the last one."""
    ledger = context.lake.ledger
    rows = ledger.read(SchemaRow, source=context.item)
    text = ", ".join(f"{part.name} {sql_name(part.dataType)}" for part in schema.fields)
    if rows and rows[-1].schema == text:
        return
    version = 1 + max((row.version or 0 for row in rows), default=0)
    ledger.append([SchemaRow(**stamp(context, batch), version=version, schema=text, reason=reason)])


def record_changes(context: StepContext, changes: Sequence[Change], batch: int) -> None:
    """Write what the policies did into ops.schema_changes; repeating it changes nothing."""
    where: dict[str, str | int] = {"run_id": context.run_id, "source": context.item, "batch_id": batch}
    context.lake.ledger.put(SchemaChangeRow, [SchemaChangeRow(**stamp(context, batch), **change.row()) for change in changes], where=where)


def lossy_columns(context: StepContext, table: str, kinds: Mapping[str, T.DataType]) -> list[str]:
    """Return the columns of the table that hold a BIGINT which DOUBLE would change."""
    rows = context.lake.read(context.spark, table)
    longs = [name for name, kind in kinds.items() if isinstance(kind, T.DoubleType) and isinstance(rows.schema[name].dataType, T.LongType)]
    if not longs:
        return []
    found = rows.agg(*[F.max(F.abs(column(name))).alias(f"m{place}") for place, name in enumerate(longs)]).first()
    assert found is not None  # an aggregate without groups always has one row
    return [name for place, name in enumerate(longs) if (found[f"m{place}"] or 0) > _EXACT_IN_DOUBLE]
