"""The step deploy: a challenger that loads and reproduces its predictions for a sample becomes champion."""

from __future__ import annotations

from tidemill.errors import GateRefused, StepError
from tidemill.model_registry import Deployments
from tidemill.model_registry.approval import refuse_unapproved
from tidemill.steps.result import StepContext, StepResult


def deploy(context: StepContext) -> StepResult:
    """Make the challenger champion, after it was loaded from its files and has reproduced the stored predictions of a sample.

    The old champion is RETIRED in the same commit. Safe to repeat.

    Raises:
        GateRefused: the version was rejected by its gates.
        ApprovalRequired: `evaluation.approval` is manual; the version waits.
        StepError: the version was not evaluated, does not load, or predicts something else for the sample.
    """
    pipeline = context.spec.pipeline
    version = context.inputs[pipeline.model_name]
    deployments = Deployments(context.lake.ledger, context.pipeline)
    state = deployments.state(version)
    notes: tuple[str, ...] = ()
    rows = None
    if state == "REJECTED":
        raise GateRefused(f"model {version} of {context.pipeline} was REJECTED by its gates; train a better one, or change the gates")
    if state == "CHALLENGER":
        from tidemill.model_registry.sample import refuse_other_predictions  # imports Spark, which a waiting version does not need

        refuse_unapproved(context.lake, context.spec, version)
        rows = refuse_other_predictions(context.spark, context.lake, context.pipeline, version)
        reason = f"loaded from its files, its predictions for {rows} sample rows are those of training time"
        deployments.move(version, "CHAMPION", run_id=context.run_id, reason=reason)
    elif state == "RETIRED":
        notes = (f"model {version} was RETIRED before; the champion stays {deployments.champion()}",)
    elif state != "CHAMPION":
        raise StepError(f"model {version} of {context.pipeline} is {state or 'unknown'}, expected CHALLENGER; run evaluate first")
    return StepResult(outputs={pipeline.model_name: version}, rows_in=rows, rows_out=rows, notes=notes)
