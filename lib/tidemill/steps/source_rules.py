"""What a source's own expectations ask of its records: judged as these are staged, decided before the table takes them in."""

from __future__ import annotations

from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import ExpectationRefused
from tidemill.lake.staging import Staged
from tidemill.quality.records import tally_records
from tidemill.quality.refusals import refusal, refused_rules, warnings
from tidemill.quality.rules import Rule, rules_of
from tidemill.quality.verdicts import BROKEN, columns_of, samples
from tidemill.sources.records import (
    NOTED,
    RULES,
)
from tidemill.spec.models import Source
from tidemill.steps.result import StepContext
from tidemill.steps.table_expectations import record_expectations, what_stays

_BYTES_A_FILE = 64 * 2**20


def hold_to_expectations(context: StepContext, kept: Staged, schema: T.StructType, good: int) -> tuple[str, ...]:
    """Record what the source's expectations found in ops.expectations, and return a remark for each that is broken.

    ``good`` is the number of records that no rule refuses.

    Raises:
        ExpectationRefused: one of them fails the batch; nothing of it is in the tables.
    """
    rules = source_rules(context.spec.pipeline.sources[context.item])
    if not rules:
        return ()
    table = f"bronze.{context.item}"
    counts = tally_records(kept.frame, rules, good, RULES, NOTED)
    record_expectations(context, table, rules, counts)
    refused = refused_rules(rules, counts)
    if refused:
        stays = what_stays(context, table)
        rows = kept.frame.select(*columns_of(schema.names), F.coalesce(F.col(RULES), F.col(NOTED)).alias(BROKEN))
        raise ExpectationRefused("\n".join(refusal(table, rule, counts, samples(rows, rule, ()), stays) for rule in refused))
    return tuple(warnings(table, rules, counts))


def source_rules(source: Source) -> list[Rule]:
    """Return the rules for the records of a source."""
    return rules_of(source.expectations, ())
