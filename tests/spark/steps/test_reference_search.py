"""Columns whose values stand in a key of another table are found, and none that only looks like it."""

from __future__ import annotations

import re
from itertools import product
from string import ascii_uppercase

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake

from tidemill.cli import main
from tidemill.lake.ops import StepRow
from tidemill.spec import load_spec
from tidemill.steps.prepare.step import prepare
from tidemill.steps.profile import Lineage, list_candidate_tables, profile_table, read_declared_lineage, read_recorded_lineage, suggest_yaml

pytestmark = pytest.mark.long("its tests share a lake; the first pays for it")

# 800 of the 17,576 codes of three letters; the others are not airports.
CODES = ["".join(letters) for letters in product(ascii_uppercase, repeat=3)]
AIRPORTS, ELSEWHERE = [*CODES[::22][:798], "EWR", "JFK"], ["ZZX", "ZZY", "ZZZ"]
CUSTOMERS = [7 * n + 100 for n in range(300)]
N = 2000
CARRIERS = ["AA", "B6", "DL", "UA", "WN"]


def trips() -> list[tuple]:
    rows = []
    for i in range(N):
        rows.append(
            (
                f"trip-{i}",
                CARRIERS[i % 4],
                AIRPORTS[i % 97],
                # 10 of 2,000 rows are half a percent; of the 1,900 that hold a value a little more.
                None if i < 100 else ELSEWHERE[i % 2] if i >= N - 10 else AIRPORTS[i % 300],
                ELSEWHERE[i % 3] if i < 60 else AIRPORTS[i % 50],  # 3 %
                ELSEWHERE[i % 3] if i < 400 else AIRPORTS[i % 50],  # 20 %
                ["EWR", "JFK"][i % 2],
                i % 12 + 1,
                "ABCDEF"[i % 6],
                str(i % 12 + 1),
                CUSTOMERS[i % 300],
                CUSTOMERS[i % 10],
                i % 50 + 1.0,
            )
        )
    return rows


SCHEMA = (
    "trip_id STRING, carrier STRING, dest STRING, origin STRING, via STRING, far STRING, pair STRING, month INT, grade STRING, "
    "month_text STRING, home_customer_id BIGINT, customer_age INT, km DOUBLE"
)


PLACES = ("bronze.trips", "silver.trips", "silver.airlines", "silver.airports", "bronze.airports", "silver.letters", "silver.monthly")


@pytest.fixture
def tables(spark, lake) -> dict[str, int]:
    """A table of trips, and others that it may or may not refer to."""
    letters = [(letter, f"{number}") for number, letter in enumerate(ascii_uppercase, start=1)]
    made = {
        "bronze.trips": (trips(), SCHEMA),
        "silver.trips": (trips(), SCHEMA),
        "silver.airlines": ([(code, f"{code} Air") for code in CARRIERS], "carrier STRING, name STRING"),
        "silver.airports": ([(code, n) for n, code in enumerate(AIRPORTS, start=1)], "faa STRING, id INT"),
        "bronze.airports": ([(code, n) for n, code in enumerate([*AIRPORTS, "ZZX"], start=1)], "faa STRING, id INT"),
        "silver.letters": (letters, "letter STRING, number STRING"),
        "silver.customers": ([(n,) for n in CUSTOMERS], "id INT"),
        # A carrier for each customer: the values are there, but not as a key.
        "silver.doubles": ([(code, n) for n in (1, 2) for code in CARRIERS], "carrier STRING, n INT"),
        "silver.hundreds": ([(n,) for n in range(1, 101)], "id INT"),
    }
    versions = {}
    for table, (rows, schema) in made.items():
        versions[table] = lake.replace(spark.createDataFrame(rows, schema), table, meta={})
    return versions


SPEC = """\
pipeline: p
sources:
%s
tables:
%s
  trips:
    sql: SELECT * FROM bronze.trips
%s
dataset: {from: silver.trips, key: [trip_id], label: km}
training: {task: regression}
"""


@pytest.fixture
def spec_of(tmp_path):
    def _spec_of(text: str = ""):
        names = ("airlines", "airports", "letters", "customers")
        sources = [f"  {name}: {{format: csv, path: {name}.csv}}" for name in ("trips", *names)]
        others = [f"  {name}: {{sql: SELECT * FROM bronze.{name}}}" for name in names]
        others.append("  monthly: {sql: SELECT DISTINCT month FROM silver.trips}")
        file = tmp_path / "pipeline.yml"
        file.write_text(SPEC % ("\n".join(sources), "\n".join(others), text))
        return file

    return _spec_of


def references(text: str) -> dict[str, tuple]:
    rules = yaml.safe_load(text)["expectations"].values()
    return {rule["column"]: (rule["in_reference"], rule.get("at_most")) for rule in rules if "in_reference" in rule}


def test_references_are_found_and_hold(spark, lake, tables, make_context, spec_of, capsys) -> None:
    made = profile_table(spark, lake, "silver.trips")
    text = suggest_yaml(spark, lake, made)
    assert references(text) == {
        "carrier": ("silver.airlines.carrier", None),
        "dest": ("silver.airports.faa", None),
        "origin": ("silver.airports.faa", 10 / 2000),
        "home_customer_id": ("silver.customers.id", None),
    }
    assert "# all 4 values are in silver.airlines.carrier\n" in text
    # 10 of the 1,900 rows with a value: 0.526 %.
    assert "# 2 of 302 values, in 10 rows (0.53 %), are not in silver.airports.faa: 'ZZX', 'ZZY'\n" in text
    assert (
        "# via: no reference is suggested; 3 of 53 values, in 60 rows (3 %), are not in silver.airports.faa: 'ZZX', 'ZZY', 'ZZZ'." in text
    )
    assert "far:" not in text

    file = spec_of(text)
    assert main(["check", str(file)]) == 0
    assert "fine" in capsys.readouterr().out
    spec = load_spec(file, environ={})
    assert "silver.airports" in spec.table_inputs("trips")
    result = prepare(make_context(spec, "prepare.trips", tables))
    assert (result.rows_in, result.rows_out) == (N, N)
    recorded = {row["expectation"]: row for row in lake.ledger.rows("ops.expectations", run_id="r1")}
    assert all(row["passed"] for row in recorded.values())
    assert {name: row["rows_failed"] for name, row in recorded.items() if row["kind"] == "in_reference"} == {
        "carrier_known": 0, "dest_known": 0, "origin_known": 10, "home_customer_id_known": 0,
    }  # fmt: skip


def test_tables_that_may_be_referred_to(lake, spec_of) -> None:
    for table in (*PLACES, "silver.trips_quarantine", "silver.foreign"):
        write_deltalake(lake.path(table), pa.table({"n": [1]}))
    for table in PLACES:
        layer, _, item = table.partition(".")
        inputs = {"silver.trips": {"bronze.trips": 0, "silver.letters": 0}, "silver.monthly": {"silver.trips": 0}}.get(table, {})
        node = f"{'ingest' if layer == 'bronze' else 'prepare'}.{item}"
        lake.ledger.append([StepRow(pipeline="p", run_id="r0", node=node, state="SUCCEEDED", inputs=inputs, outputs={table: 0})])
    lake.ledger.append([StepRow(pipeline="q", run_id="r0", node="prepare.foreign", state="SUCCEEDED")])
    others = ["silver.airlines", "silver.airports", "silver.letters", "bronze.airports"]
    for lineage in (read_recorded_lineage(lake, "silver.trips"), read_declared_lineage(load_spec(spec_of(), environ={}))):
        assert list_candidate_tables(lake, "silver.trips", lineage) == others
        assert list_candidate_tables(lake, "bronze.trips", lineage) == others
    # A copy of one table holds its values by its making.
    copied = Lineage({table: frozenset() for table in PLACES} | {"silver.trips": frozenset({"silver.letters"})})
    assert "silver.letters" not in list_candidate_tables(lake, "silver.trips", copied)
    # A lake whose ledger knows nothing of the table.
    assert "silver.foreign" in list_candidate_tables(lake, "silver.trips", read_recorded_lineage(lake, "silver.unknown"))


def test_two_keys_with_the_same_values_refer_to_neither(spark, lake) -> None:
    for table in ("silver.planes", "silver.engines"):
        lake.replace(spark.createDataFrame([(f"N{n}XY",) for n in range(50)], "tailnum STRING"), table, meta={})
    text = suggest_yaml(spark, lake, profile_table(spark, lake, "silver.planes"))
    assert "in_reference" not in text
    lake.replace(spark.createDataFrame([(f"N{n}XY",) for n in range(60)], "tailnum STRING"), "silver.engines", meta={})
    text = suggest_yaml(spark, lake, profile_table(spark, lake, "silver.planes"))
    assert references(text) == {"tailnum": ("silver.engines.tailnum", None)}
    assert re.search(r"^    key: \[tailnum\]$", text, re.MULTILINE)
