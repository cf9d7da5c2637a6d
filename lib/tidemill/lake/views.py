"""The views of a lake: names of queries over its tables, which exist where SQL is answered and never as folders."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tidemill.quoting import quote_name

LATEST = "_predictions_latest"
"""What the name of the view of a pipeline's current predictions ends with."""

_NEWEST = "SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY seq DESC) AS _rank FROM {base}"

_CHAMPION_AT = """
WITH changes AS (
  SELECT *,
    max(recorded_at) OVER so_far AS moment,
    last_value(CASE WHEN to_state = 'CHAMPION' THEN model_version END, true) OVER so_far AS crowned_last
  FROM ops.deployments
  WINDOW so_far AS (PARTITION BY pipeline ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
), turns AS (
  SELECT *, lead(moment) OVER (PARTITION BY pipeline ORDER BY seq) AS next_moment
  FROM changes
  WHERE to_state = 'CHAMPION' OR (from_state = 'CHAMPION' AND model_version = crowned_last)
)
SELECT pipeline, moment AS valid_from, next_moment AS valid_to, model_version, actor, reason, evidence, run_id
FROM turns WHERE to_state = 'CHAMPION'
"""

_CURRENT_CHAMPION = """
SELECT max_by(model_version, seq) FROM (
  SELECT model_version, max(seq) AS seq, max_by(to_state, seq) AS state FROM ops.deployments
  WHERE pipeline = '{pipeline}' GROUP BY model_version
) WHERE state = 'CHAMPION'
"""


@dataclass(frozen=True)
class View:
    """A view: the tables that it reads, and its query; ``{columns}`` in it stands for the columns of the first of them."""

    reads: Sequence[str]
    sql: str

    def query(self, columns: Sequence[str]) -> str:
        """Return the query; ``columns`` are those of the first table that it reads."""
        return self.sql.replace("{columns}", ", ".join(map(quote_name, columns)))


def _newest(base: str, key: str) -> View:
    return View((base,), f"SELECT {{columns}} FROM ({_NEWEST.format(key=key, base=base)}) WHERE _rank = 1")


_FIXED: Mapping[str, View] = {
    # The latest row of a run, of a node of a run: the current state.
    "ops.runs_now": _newest("ops.runs", "run_id"),
    "ops.steps_now": _newest("ops.steps", "run_id, node"),
    "ops.champion_at": View(("ops.deployments",), _CHAMPION_AT),
}


def find_view(name: str) -> View | None:
    """Return the view of this name, None where it is none; ``gold.<pipeline>_predictions_latest`` is one for any pipeline."""
    layer, _, table = name.partition(".")
    if layer == "gold" and table.endswith(LATEST):
        pipeline, base = table.removesuffix(LATEST), name.removesuffix("_latest")
        champion = _CURRENT_CHAMPION.format(pipeline=pipeline.replace("'", "''"))
        return View((base, "ops.deployments"), f"SELECT {{columns}} FROM {base} WHERE model_version = ({champion})")
    return _FIXED.get(name)


def list_views(tables: Collection[str]) -> list[str]:
    """Return the names of the views over these tables."""
    names = [*_FIXED, *(f"{table}_latest" for table in tables if f"{table}_latest".endswith(LATEST) and table.startswith("gold."))]
    views = {name: find_view(name) for name in names if name not in tables}
    return sorted(name for name, view in views.items() if view is not None and set(view.reads) <= set(tables))
