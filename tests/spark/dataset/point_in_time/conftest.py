"""Rows and facts that are meant to be difficult: nulls, ties, duplicates, times before 1970, a key with most of the rows."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pytest

EPOCH = dt.datetime(1970, 1, 1)
TYPES = {"timestamp": "TIMESTAMP", "date": "DATE", "whole": "BIGINT", "fraction": "DOUBLE"}


@dataclass(frozen=True)
class Case:
    """Both sides as Python rows (times as whole steps or null) and as frames with times of one type."""

    rows: list[tuple]
    facts: list[tuple]
    rows_frame: object
    facts_frame: object
    step: object  # one step as `at_most` and windows say it, times a whole number


def at(kind, step):
    """The instant of a step: half a second with odd microseconds, a day, a number."""
    if step is None:
        return None
    if kind == "timestamp":
        return (EPOCH + dt.timedelta(seconds=step)).replace(tzinfo=dt.UTC)
    return (EPOCH + dt.timedelta(days=step)).date() if kind == "date" else step if kind == "whole" else step / 4


@pytest.fixture(scope="session")
def make_case(spark):
    """Make both sides: rows (id, plane and day, at), facts (number, plane and day, at, known, order, value)."""

    def make(kind="timestamp", rows=400, facts=300, seed=5):
        rng = np.random.default_rng(seed)
        planes = [("N1", 1)] * 5 + [("N1", 2), ("N 2", 1), (None, 1), ("N3", None), ("N1", -7)]

        def draw(share_null, low, high):
            return None if rng.random() < share_null else int(rng.integers(low, high))

        some_rows = [(i, *planes[rng.integers(len(planes))], draw(0.05, -60, 60)) for i in range(rows)]
        some_facts = []
        for i in range(facts):
            time = draw(0.05, -70, 55)
            known = None if time is None or rng.random() < 0.1 else time + int(rng.choice([0, 0, 1, 5, 40, -3]))
            value = [None, float("nan"), float("inf")][i % 3] if rng.random() < 0.15 else round(float(rng.normal(40, 20)), 2)
            some_facts.append((i, *planes[rng.integers(len(planes) - 1)], time, known, draw(0.2, 0, 3), value))
        name = TYPES[kind]
        rows_frame = spark.createDataFrame(
            [(i, plane, day, at(kind, time)) for i, plane, day, time in some_rows], f"id INT, plane STRING, `day no` INT, `event at` {name}"
        )
        facts_frame = spark.createDataFrame(
            [(*row[:3], at(kind, row[3]), at(kind, row[4]), *row[5:]) for row in some_facts],
            f"number INT, plane STRING, `day no` BIGINT, `seen at` {name}, known {name}, rank INT, value DOUBLE",
        )
        step = {"timestamp": lambda n: f"{n}s", "date": lambda n: f"{n}d", "whole": lambda n: n, "fraction": lambda n: n / 4}[kind]
        return Case(some_rows, some_facts, rows_frame, facts_frame, step)

    return make
