"""The checks of the feature columns, as the step dataset makes them: judged, recorded, and refused where the spec says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.errors import ExpectationRefused
from tidemill.features.checks import judge_features
from tidemill.features.checks.findings import refusal, remarks
from tidemill.spec.models import RECOMMENDATION
from tidemill.steps.result import StepContext

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def check_features(context: StepContext, marked: DataFrame) -> tuple[str, ...]:
    """Judge the columns of ``marked`` that would become features, write ``ops.checks`` and return the remarks.

    Raises:
        ExpectationRefused: the label leaks into a column, and ``features.checks.leakage`` is ``block``.
    """
    pipeline = context.spec.pipeline
    if pipeline.training.task == RECOMMENDATION:
        return ()  # it has no feature columns
    findings = judge_features(marked, pipeline.dataset, pipeline.training.task, pipeline.features)
    common = {"pipeline": context.pipeline, "run_id": context.run_id, "table_name": pipeline.dataset_table}
    rows = [{**common, **finding.row()} for finding in findings]
    context.lake.ledger.put("ops.checks", rows, where={"pipeline": context.pipeline, "run_id": context.run_id})
    message = refusal(findings)
    if message is not None:
        raise ExpectationRefused(message)
    return remarks(findings)
