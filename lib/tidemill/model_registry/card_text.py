"""A model card in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]


def render_card(card: Row) -> str:
    """Return the card as Markdown; sections without content are left out."""
    return "\n".join(line for section in (_head, _data, _evaluation, _importances, _limits, _decisions) for line in section(card)) + "\n"


def _head(card: Row) -> Iterator[str]:
    model, training = card["model"], card["training"]
    yield f"# {card['pipeline']}, version {card['model_version']}: {card['state']}"
    yield ""
    if card["description"]:
        yield from (card["description"], "")
    environment = training["environment"] or {}
    facts = {
        "task": model["task"],
        "predicts": model["label"],
        "classes": None if model["classes"] is None else ", ".join(map(str, model["classes"])),
        "positive class": model["positive"],
        "family": model["family"],
        "parameters": ", ".join(f"{name}={_show(value)}" for name, value in model["params"].items()),
        "library": model["library"],
        f"{model['metric']} in cross-validation": model["cv_value"],
        "trained": f"{training['created_at']}, run {training['run_id']}, by {training['author'] or 'an unknown person'}",
        "environment": ", ".join(f"{name} {value}" for name, value in environment.items() if value),
        "reads": ", ".join(f"{name} ({kind})" for name, kind in model["columns"].items()),
    }
    yield from _table(("", ""), ((name, value) for name, value in facts.items() if value not in (None, "")))


def _data(card: Row) -> Iterator[str]:
    data = card["data"]
    tables = {data["dataset"]["table"]: data["dataset"]["version"], **data["inputs"]}
    yield from ("## Data", "")
    yield from _table(("table", "version"), tables.items())
    if data["splits"]:
        yield from _table(
            ("split", "fold", "rows", "digest"), ([part[name] for name in ("split", "fold", "rows", "digest")] for part in data["splits"])
        )


def _evaluation(card: Row) -> Iterator[str]:
    evaluation = card["evaluation"]
    if evaluation is None:
        return
    yield from ("## Evaluation", "")
    yield f"Run {evaluation['run_id']}, on test rows, with 95 % intervals; evidence {evaluation['digest']}."
    yield ""
    champion = [] if evaluation["champion"] is None else [("champion", f"champion {evaluation['champion']}")]
    columns = [("metric", "metric"), *_WITH_INTERVAL, ("baseline", "baseline"), *champion]
    yield from _table([title for _, title in columns], ([row[name] for name, _ in columns] for row in evaluation["metrics"]))
    if evaluation["slices"]:
        yield from ("### Slices", "")
        columns = [("slice", "slice"), ("metric", "metric"), *_WITH_INTERVAL, ("rows", "rows")]
        yield from _table([title for _, title in columns], ([row[name] for name, _ in columns] for row in evaluation["slices"]))
    if evaluation["gates"]:
        yield from ("### Gates", "")
        columns = [("gate", "gate"), ("value", "value"), ("bound", "bound"), ("passed", "passed"), ("compared", "compared")]
        yield from _table([title for _, title in columns], ([row[name] for name, _ in columns] for row in evaluation["gates"]))


_WITH_INTERVAL = (("value", "value"), ("lower", "from"), ("upper", "to"))


def _importances(card: Row) -> Iterator[str]:
    if card["importances"]:
        yield from ("## Importances", "")
        names = ("column_name", "slot", "kind", "importance", "lower", "upper")
        yield from _table(
            ("column", "slot", "kind", "importance", "from", "to"), ([row[name] for name in names] for row in card["importances"])
        )


def _limits(card: Row) -> Iterator[str]:
    yield from ("## Limits", "", *(f"- {limit}" for limit in card["limits"]), "")


def _decisions(card: Row) -> Iterator[str]:
    yield from ("## Decisions", "")
    names = ("recorded_at", "to_state", "actor", "reason")
    yield from _table(("when", "became", "by", "why"), ([row[name] for name in names] for row in card["history"]))
    yield f"To make it champion again: `{card['roll_back']}`"


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    yield from (f"| {' | '.join(map(_show, row))} |" for row in rows)
    yield ""


def _show(value: Any) -> str:
    """Return a value for a cell: numbers to six digits, an empty text for null."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
