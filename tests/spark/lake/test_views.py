"""The views of a lake: who was champion when, over random histories, and the predictions of the present champion."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tests.spark.tables import write_table

from tidemill.lake.catalog import Catalog
from tidemill.lake.ops import DeploymentRow
from tidemill.model_registry.deployments import NEXT_STATES, Deployments
from tidemill.model_registry.reigns import list_reigns

START = datetime(2013, 1, 1, tzinfo=UTC)


def _random_history(pipeline: str, rng: random.Random) -> list[list[DeploymentRow]]:
    """Return commits of changes that may follow one another, by a clock that is set back now and then."""
    states: dict[int, str | None] = {}
    commits, clock = [], START
    for number in range(rng.randint(5, 25)):
        clock += timedelta(minutes=rng.choice([0, 1, 7, 90, -45, -600]))
        version = rng.choice([*states, len(states) + 1])
        state = rng.choice(sorted(NEXT_STATES[states.get(version)]))
        row = {"pipeline": pipeline, "recorded_at": clock, "run_id": f"r{number}", "actor": rng.choice(["ada", "tidemill"])}
        moves = [(version, states.get(version), state)]
        if state == "CHAMPION":
            moves += [(other, "CHAMPION", "RETIRED") for other in states if states[other] == "CHAMPION"]
        for moved, _, to_state in moves:
            states[moved] = to_state
        commits.append([DeploymentRow(**row, model_version=v, from_state=old, to_state=new, reason=f"{number}") for v, old, new in moves])
    return commits


def _champion_at(rows: list[DeploymentRow], moment: datetime) -> tuple[int, str | None] | None:
    """Replay the changes that count as made by then: a change counts from the latest time that any clock had shown before it."""
    latest, states, why = START - timedelta(days=999), dict[int, str](), dict[int, str | None]()
    for row in rows:
        latest = max(latest, row.recorded_at)
        if latest <= moment:
            states[row.model_version], why[row.model_version] = row.to_state, row.reason
    champions = [version for version, state in states.items() if state == "CHAMPION"]
    assert len(champions) <= 1
    return (champions[0], why[champions[0]]) if champions else None


def test_champion_at_any_moment_is_that_of_a_replay_in_20_random_histories(spark, lake):
    rng = random.Random(18)
    waiting = {f"p{number}": _random_history(f"p{number}", rng) for number in range(20)}
    rows: list[DeploymentRow] = []
    while any(waiting.values()):  # the pipelines of a lake take turns
        rows += waiting[rng.choice([name for name in waiting if waiting[name]])].pop(0)
    lake.ledger.append(rows)
    found = Catalog(spark, lake).query("SELECT * FROM ops.champion_at ORDER BY pipeline, valid_from, valid_to NULLS LAST").collect()
    assert len(found) == sum(row.to_state == "CHAMPION" for row in rows) > 20
    set_back = overlapping = 0
    for name in waiting:
        own = [row for row in rows if row.pipeline == name]
        set_back += any(later.recorded_at < earlier.recorded_at for earlier, later in pairwise(own))
        intervals = [row for row in found if row.pipeline == name]
        ends = [(row.valid_from.replace(tzinfo=UTC), row.valid_to and row.valid_to.replace(tzinfo=UTC)) for row in intervals]
        overlapping += sum(end is None or end > start for (_, end), (start, _) in pairwise(ends))
        reigns = list_reigns(Deployments(lake.ledger, name).rows())
        assert {(each.valid_from, each.valid_to, each.model_version, each.reason) for each in reigns} == {
            (start, end, row.model_version, row.reason) for (start, end), row in zip(ends, intervals, strict=True)
        }
        moments = sorted({row.recorded_at + timedelta(seconds=offset) for row in own for offset in (-1, 0, 1)})
        for moment in moments:
            then = [row for row, (start, end) in zip(intervals, ends, strict=True) if start <= moment and (end is None or moment < end)]
            assert [(row.model_version, row.reason) for row in then] == [each for each in [_champion_at(own, moment)] if each], (
                name,
                moment,
            )
        assert next((row.model_version for row in intervals if row.valid_to is None), None) == Deployments(lake.ledger, name).champion()
    assert set_back > 10
    assert overlapping == 0


def test_latest_predictions_are_those_of_the_champion(spark, lake):
    write_table(lake, spark.sql("SELECT id, 1 + id % 2 AS model_version, id * 0.1 AS prediction FROM range(6)"), "gold.p_predictions")
    catalog = Catalog(spark, lake)
    assert "gold.p_predictions_latest" not in catalog.tables()
    deployments = Deployments(lake.ledger, "p")
    other = Deployments(lake.ledger, "q")
    for version in (1, 2):
        for state in ("CANDIDATE", "CHALLENGER", "CHAMPION"):
            deployments.move(version, state, run_id="r", reason="")
    other.move(1, "CANDIDATE", run_id="r", reason="")
    assert {"gold.p_predictions_latest", "ops.champion_at"} <= set(catalog.tables())
    query = "SELECT id FROM gold.p_predictions_latest ORDER BY id"
    assert [row.id for row in catalog.query(query).collect()] == [1, 3, 5]
    deployments.move(1, "CHAMPION", run_id="r", reason="back")
    assert [row.id for row in Catalog(spark, lake).query(query).collect()] == [0, 2, 4]
    deployments.move(1, "RETIRED", run_id="r", reason="lost")
    assert Catalog(spark, lake).query(query).collect() == []
