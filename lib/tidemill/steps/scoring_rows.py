"""The rows that the champion scores: ``scoring.from``, ``scoring.sql``, or the dataset itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.steps.dataset_history import known_then

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidemill.steps.result import StepContext


def scoring_rows(context: StepContext) -> DataFrame:
    """Return the rows to score at the versions that the step's inputs pin; of the dataset every row, labelled or not.

    Rows of elsewhere get the columns of the dataset's lookups and aggregates, unless they have them.
    """
    pipeline = context.spec.pipeline
    if pipeline.scoring.sql is not None:
        return known_then(
            context, context.lake.sql(context.spark, context.spec.sql_text(pipeline.scoring.sql), context.inputs, trust=pipeline.trust)
        )
    if pipeline.scoring.from_ not in (None, pipeline.dataset_table):
        return known_then(context, context.lake.read(context.spark, pipeline.scoring.from_, context.inputs[pipeline.scoring.from_]))
    return context.lake.read(context.spark, pipeline.dataset_table, context.inputs[pipeline.dataset_table])


def scoring_name(context: StepContext) -> str:
    """Return what to call these rows in a message."""
    pipeline = context.spec.pipeline
    return "scoring.sql" if pipeline.scoring.sql is not None else pipeline.scoring.from_ or pipeline.dataset_table
