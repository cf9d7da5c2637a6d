from __future__ import annotations

from collections.abc import Callable


def test_long_chains_and_circles_of_tables_are_judged(faults: Callable, changed: Callable[..., str]) -> None:
    circle = "".join(f"  t{n}: {{sql: SELECT * FROM silver.t{(n + 1) % 1500}}}\n" for n in range(1500))
    [(line, key, message)] = faults(changed("tables:\n", "tables:\n" + circle))
    assert (line, key) == (10, "tables.t0")
    assert message.startswith("reads itself: silver.t0 → silver.t1 → silver.t2 → silver.t3 → silver.t4 → silver.t5 → … → ")


def test_sql_that_is_nested_too_deeply_is_refused_by_name(faults: Callable, changed: Callable[..., str]) -> None:
    nested = "(" * 5000 + "1" + ")" * 5000
    [(line, key, message)] = faults(changed("SELECT * FROM silver.flights", f"SELECT {nested} AS a FROM silver.flights"))
    assert (line, key) == (16, "dataset.sql")
    assert message.startswith("SQL that is nested too deeply to be parsed")
