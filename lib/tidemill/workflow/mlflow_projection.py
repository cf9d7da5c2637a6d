"""MLflow beside a run: made from the lake when a run has ended, repaired when the next one starts; it never stops a run."""

from __future__ import annotations

import logging

from tidemill.errors import TidemillError
from tidemill.lake import Lake
from tidemill.model_registry import is_projected, lacks_mlflow, project
from tidemill.redaction import redact
from tidemill.spec import Spec

logger = logging.getLogger(__name__)


def show_in_mlflow(spec: Spec, lake: Lake, *, has_news: bool = True) -> str | None:
    """Let MLflow show the pipeline's runs, versions and champion as the lake has them, where it does not yet.

    Args:
        spec: the pipeline, and with ``registry`` where MLflow is.
        lake: the lake, which is the source of truth.
        has_news: False where nothing new is expected; then it is not told that there is no MLflow here at all.

    Returns:
        A sentence for people where MLflow could not be updated, else None. Nothing is raised.
    """
    pipeline = spec.pipeline
    try:
        absence = lacks_mlflow(lake, pipeline.registry)
        if absence is not None:
            return absence if has_news else None
        if not is_projected(lake, pipeline.pipeline, pipeline.registry):
            project(lake, pipeline.pipeline, pipeline.registry, pipeline.description)
    except TidemillError as error:
        reason = str(error)
    except Exception as error:
        logger.info("MLflow failed", exc_info=True)
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    else:
        return None
    return redact(f"MLflow does not show everything yet: {reason}; the lake does, and the next run repairs MLflow")
