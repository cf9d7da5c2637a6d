"""The latest search, a row a trial: the mean of its metric over the folds."""

from __future__ import annotations

import json
from statistics import fmean

from tidemill.lake import Ledger
from tidemill.spec.models import MINIMISED

Row = dict[str, object]


def latest_search(ledger: Ledger, pipeline: str) -> str | None:
    """Return the run that searched last, None where none did."""
    rows = ledger.rows("ops.trials", pipeline=pipeline)
    return str(rows[-1]["run_id"]) if rows else None


def leaderboard(ledger: Ledger, pipeline: str) -> list[Row]:
    """Return the trials of the pipeline's latest search; ``value`` is null where a fold failed, or where it was stopped early."""
    rows = ledger.rows("ops.trials", pipeline=pipeline)
    if not rows:
        return []
    latest = rows[-1]["run_id"]
    trials: dict[object, list[Row]] = {}
    for row in rows:
        if row["run_id"] == latest:
            trials.setdefault(row["trial"], []).append(row)
    return [_trial(number, folds) for number, folds in sorted(trials.items(), key=lambda item: str(item[0]).zfill(9))]


def _trial(number: object, folds: list[Row]) -> Row:
    first = folds[0]
    unfinished = next((row for row in folds if row["state"] != "SUCCEEDED"), None)
    return {
        "trial": number,
        "family": first["family"],
        "metric": first["metric"],
        "value": None if unfinished else fmean(float(str(row["value"])) for row in folds),
        "folds": len(folds),
        "seconds": sum(float(str(row["seconds"] or 0)) for row in folds),
        "state": unfinished["state"] if unfinished else "SUCCEEDED",
        "engine": first["engine"],
        "library": first.get("library"),
        "params": json.loads(str(first["params"] or "{}")),
        "error": unfinished["error"] if unfinished else None,
    }


def rank(trial: Row) -> tuple[bool, float]:
    """Return what sorts trials from best to worst, those without a value last."""
    value = trial["value"]
    if value is None:
        return True, 0.0
    return False, float(str(value)) * (1 if trial["metric"] in MINIMISED else -1)
