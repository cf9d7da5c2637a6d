"""What to do about a repeated key, as the spec stands: only what is there is named."""

from __future__ import annotations

from tidemill.lake.sql import has_join, table_names
from tidemill.steps.result import StepContext


def key_remedy(context: StepContext, from_: str | None, sql: str | None) -> str:
    """Return how to keep one row a key, for rows that come from the table ``from_``, or from the query or SQL file ``sql``."""
    pipeline = context.spec.pipeline
    text = None if sql is None else context.spec.sql_text(sql)
    tables = sorted(table_names(text)) if text is not None else [str(from_)]
    key = pipeline.dataset.key
    remedies = ["look for a join that multiplies rows"] if text is not None and has_join(text) else []
    for table in tables:
        layer, _, name = table.partition(".")
        declared = pipeline.tables.get(name) if layer == "silver" else None
        if declared is not None and not (declared.key and set(declared.key) <= set(key)):
            keys = ", ".join(key)
            remedies.append(f"give `tables.{name}.key: [{keys}]` and `latest_by: <column>`, which keeps the latest row of each key")
        elif layer == "bronze":
            remedies.append(
                f"read {table} through a table of `tables:` with `key` and `latest_by: <column>`, which keeps the latest row of each key"
            )
    return ", or ".join((*remedies, "add a column to `dataset.key`"))
