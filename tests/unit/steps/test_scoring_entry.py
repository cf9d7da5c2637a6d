"""Where the rows of `tidemill score --input` enter, without Spark."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from deltalake import write_deltalake

from tidemill.cli.app import main
from tidemill.errors import StepError, UsageError
from tidemill.lake import Lake
from tidemill.model_registry import Deployments
from tidemill.spec import Spec, load_spec
from tidemill.steps.score.entry import find_entry
from tidemill.steps.score.routes import find_routes

CSV = {"format": "csv", "options": {"header": True}}
FUNCTIONS = "def cleaned(bronze_orders, bronze_shops):\n    return bronze_orders\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    return tmp_path


def spec_of(folder: Path, dataset: dict[str, object], tables: dict[str, object], **more: object) -> Spec:
    declared = {
        "pipeline": "p",
        "lake": str(folder / "lake"),
        "sources": {
            "orders": {**CSV, "path": str(folder / "orders.csv")},
            "shops": {**CSV, "path": str(folder / "shops.csv")},
            "notes": {"format": "text", "path": str(folder / "notes.txt")},
        },
        "tables": tables,
        "dataset": {"key": ["id"], "label": "y", **dataset},
        "training": {"task": "regression"},
        **more,
    }
    (folder / "pipeline.yml").write_text(json.dumps(declared))
    return load_spec(folder / "pipeline.yml")


def crowned(folder: Path) -> Lake:
    """Return a lake with a champion and the tables that ingest would have made."""
    lake = Lake(str(folder / "lake"))
    for state in ("CANDIDATE", "CHALLENGER", "CHAMPION"):
        Deployments(lake.ledger, "p").move(1, state, run_id="r0", reason="test")
    orders = pd.DataFrame({"id": [1], "shop": ["a"], "amount": [2.0], "y": [1.0]})
    for table, rows in {
        "bronze.orders": orders,
        "silver.orders": orders,
        "bronze.shops": pd.DataFrame({"shop": ["a"], "size": [1]}),
        "gold.p_dataset": orders,
    }.items():
        Path(lake.path(table)).parent.mkdir(parents=True, exist_ok=True)
        write_deltalake(lake.path(table), rows)
    return lake


def free(spec: Spec) -> dict[str, tuple[str, ...]]:
    return {table: route.nodes for table, route in find_routes(spec).items() if not route.fault}


def faults(spec: Spec) -> dict[str, str]:
    return {table: route.fault for table, route in find_routes(spec).items() if route.fault}


def test_rows_go_the_way_of_sql_that_is_row_by_row(folder):
    tables = {
        "orders": {"python": "functions.cleaned", "key": ["id"]},
        "shops": {"sql": "SELECT shop, max(size) AS size FROM bronze.shops GROUP BY shop", "key": ["shop"]},
        "rates": {"sql": "SELECT shop, avg(amount) AS usual FROM silver.orders GROUP BY shop", "key": ["shop"]},
    }
    sql = "SELECT o.*, s.size, r.usual FROM silver.orders o LEFT JOIN silver.shops s USING (shop) LEFT JOIN silver.rates r USING (shop)"
    spec = spec_of(folder, {"sql": sql}, tables)
    assert free(spec) == {"silver.orders": ("dataset",), "bronze.orders": ("silver.orders", "dataset")}
    told = faults(spec)
    assert "LEFT JOIN" in told["silver.shops"] and "takes rows one by one of its first table alone" in told["bronze.shops"]


def test_a_table_that_is_made_of_the_same_rows_is_no_whole_table(folder):
    tables = {
        "orders": {"sql": "SELECT * FROM bronze.orders WHERE amount > 0", "key": ["id"]},
        "more": {"sql": "SELECT id, amount * 2 AS twice FROM bronze.orders", "key": ["id"]},
    }
    spec = spec_of(folder, {"sql": "SELECT o.*, m.twice FROM silver.orders o LEFT JOIN silver.more m USING (id)"}, tables)
    assert free(spec) == {"silver.orders": ("dataset",)}
    assert "joins silver.orders and silver.more" in faults(spec)["bronze.orders"] or "LEFT JOIN" in faults(spec)["bronze.orders"]
    with pytest.raises(
        UsageError, match=r"cannot be taken to the model one by one: dataset joins.*same rows; .*--at silver.orders, --at dataset"
    ):
        (folder / "new.csv").write_text("id,amount\n1,2\n")
        find_entry(spec, crowned(folder), str(folder / "new.csv"))


def test_rows_are_scored_as_a_run_scores_them(folder):
    tables = {"new": {"sql": "SELECT id, shop FROM bronze.shops", "key": ["id"]}}
    spec = spec_of(folder, {"from": "bronze.orders"}, tables, scoring={"from": "silver.new"})
    assert free(spec) == {"bronze.orders": ("dataset",), "silver.new": ("scoring",), "bronze.shops": ("silver.new", "scoring")}


def test_where_files_and_tables_enter(folder):
    spec = spec_of(
        folder,
        {"sql": "SELECT o.*, size FROM silver.orders o JOIN bronze.shops USING (shop)"},
        {"orders": {"sql": "SELECT * FROM bronze.orders", "key": ["id"]}},
    )
    lake = crowned(folder)
    (folder / "new.csv").write_text("shop,id,amount\na,1,2\n")
    (folder / "new.jsonl").write_text('{"shop": "a", "size": 3}\n')
    (folder / "records.dat").write_text("id,shop\n")
    csv = find_entry(spec, lake, str(folder / "new.csv"))
    assert (csv.place, csv.nodes, csv.source, csv.has_own_reader, csv.version) == (
        "bronze.orders",
        ("silver.orders", "dataset"),
        "orders",
        True,
        1,
    )
    other = find_entry(spec, lake, str(folder / "new.jsonl"))
    assert (other.place, other.nodes, other.kind, other.has_own_reader) == ("bronze.shops", ("dataset",), "json", False)
    assert find_entry(spec, lake, str(folder / "records.dat"), source="orders").has_own_reader
    at = find_entry(spec, lake, str(folder / "new.csv"), at="silver.orders")
    assert (at.place, at.nodes, at.source, at.kind) == ("silver.orders", ("dataset",), None, "csv")
    assert find_entry(spec, lake, str(folder / "new.csv"), at="dataset").nodes == ()
    (folder / "empty.csv").write_text("")
    assert find_entry(spec, lake, str(folder / "empty.csv"), source="orders").place == "bronze.orders"  # its reader says what is wrong
    assert find_entry(spec, lake, "silver.orders").nodes == ("dataset",)
    assert find_entry(spec, lake, "gold.p_dataset").place == "dataset"
    assert find_entry(spec, lake, str(folder / "new*.csv")).files[0].path == str(folder / "new.csv")


@pytest.mark.parametrize(
    ("given", "where", "said"),
    [
        ("gold.nope", {}, "no such table in .*; did you mean 'gold.p_dataset'"),
        ("silver.order", {}, "did you mean 'silver.orders'"),
        ("nofile.csv", {}, "nofile.csv: no such file"),
        ("new.csv", {"source": "order"}, "--source order: no such source; did you mean 'orders'"),
        ("new.csv", {"at": "gold"}, "--at gold: expected bronze, silver.<table> or dataset"),
        ("new.csv", {"at": "silver.order"}, "did you mean 'silver.orders'"),
        ("new.csv", {"at": "dataset", "source": "orders"}, "leave one of them out"),
        ("new.csv", {"source": "notes"}, "no row of bronze.notes gets to the model"),
        ("new.what", {"at": "dataset"}, "unknown kind of file"),
        ("other.csv", {}, "none of the columns of bronze.orders"),
        ("delta", {}, "the folder of a Delta table"),
    ],
)
def test_what_cannot_enter_is_said_before_spark(folder, given, where, said, monkeypatch):
    monkeypatch.chdir(folder)
    spec = spec_of(folder, {"from": "silver.orders"}, {"orders": {"sql": "SELECT * FROM bronze.orders", "key": ["id"]}})
    lake = crowned(folder)
    for name in ("new.csv", "new.what"):
        (folder / name).write_text("id\n1\n")
    (folder / "other.csv").write_text("a,b\n1,2\n")
    (folder / "delta" / "_delta_log").mkdir(parents=True)
    with pytest.raises(UsageError, match=said):
        find_entry(spec, lake, given, **where)


def test_the_command_ends_with_2_before_spark(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    spec_of(folder, {"from": "bronze.orders"}, {})
    crowned(folder)
    monkeypatch.setattr("tidemill.pipeline.Pipeline._start_spark", lambda _: pytest.fail("Spark was asked for"))
    assert main(["score", "pipeline.yml", "--input", "nofile.csv"]) == 2
    assert main(["score", "pipeline.yml", "--input", "gold.nope"]) == 2
    told = capsys.readouterr().err
    assert "nofile.csv: no such file" in told and "did you mean 'gold.p_dataset'" in told


def test_no_champion_is_named(folder):
    spec = spec_of(folder, {"from": "bronze.orders"}, {})
    (folder / "new.csv").write_text("id\n1\n")
    with pytest.raises(StepError, match="p has no champion to score with"):
        find_entry(spec, Lake(str(folder / "lake")), str(folder / "new.csv"))
