"""Messages of a real broker: each once, up to what is there when it is asked, and no gap passed over in silence."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tidemill.errors import SourceError, UsageError
from tidemill.lake import Ledger
from tidemill.steps.ingest.step import ingest

pytestmark = [pytest.mark.slow, pytest.mark.one_of("broker"), pytest.mark.xdist_group("kafka")]


def test_messages_are_read_once_and_a_read_is_fixed(extract, broker, client) -> None:
    client.create("plain", partitions=3)
    client.send("plain", (0, "a", "one", [("h", b"\x01")]), (1, None, "two"), (2, "c", None), (1, "d", b"\xff\xfe"), (0, "e", "nul\0"))
    declared = {"format": "kafka", "url": broker.url, "table": "plain", "load": "incremental"}
    first = extract(**declared)
    values = {(row["partition"], row["offset"]): (row["key"], row["value"]) for row in first.good}
    assert values == {(0, 0): ("a", "one"), (1, 0): (None, "two"), (2, 0): ("c", None)}
    assert next(bytes(row["headers"][0]["value"]) for row in first.good if row["key"] == "a") == b"\x01"
    refused = {tuple(rules): json.loads(raw) for raw, rules in first.refused.items()}
    assert base64.b64decode(refused[("invalid_bytes:value",)]["value_base64"]) == b"\xff\xfe"
    assert (refused[("nul:value",)]["partition"], refused[("nul:value",)]["offset"]) == (0, 1)

    # What arrives later is not in this extract, however often it is computed; it is in the next.
    client.send("plain", (0, "f", "later"))
    assert first.extract.records.frame.count() == 5
    client.add_partitions("plain", 4)
    client.send("plain", (3, "g", "new partition"))
    second = extract(since=first.extract.position, **declared)
    assert sorted((row["partition"], row["offset"], row["value"]) for row in second.good) == [(0, 2, "later"), (3, 0, "new partition")]
    assert extract(since=second.extract.position, **declared).good == []


def test_values_that_are_json_are_judged_like_lines_of_a_file(extract, broker, client) -> None:
    client.create("events")
    client.send("events", (0, "k", '{"id": 1, "more": true}'), (0, None, '{"id": "x"}'), (0, "t", None), (0, "b", '{"id": 2} {"id": 3}'))
    found = extract(format="kafka", url=broker.url, table="events", load="incremental", schema="id INT", since=None)
    rows = {row["_kafka_offset"]: (row["id"], row["_kafka_key"], row["_kafka_is_tombstone"]) for row in found.good}
    assert rows == {0: (1, "k", False), 2: (None, "t", True)}
    assert sorted(tuple(rules) for rules in found.refused.values()) == [("cast:id",), ("not_json",)]


def test_gaps_and_wrong_words_are_refused(extract, broker, client) -> None:
    client.create("short")
    client.send("short", *((0, None, str(number)) for number in range(5)))
    declared = {"format": "kafka", "url": broker.url, "table": "short", "load": "incremental"}
    first = extract(**declared)
    client.send("short", *((0, None, str(number)) for number in range(5, 9)))
    client.expire("short", 0, 7)
    with pytest.raises(SourceError, match="short"):
        extract(since=first.extract.position, **declared)
    with pytest.raises(SourceError, match="nowhere"):
        extract(**{**declared, "table": "nowhere"})
    with pytest.raises((SourceError, UsageError), match=r"127\.0\.0\.1:9"):
        extract(**{**declared, "url": "127.0.0.1:9"})


def test_a_topic_becomes_a_table_exactly_once(make_context, broker, client, lake, spark, monkeypatch, tmp_path: Path) -> None:
    client.create("orders", partitions=2)
    spec = {
        "pipeline": "p",
        "sources": {"x": {"format": "kafka", "url": broker.url, "table": "orders", "load": "incremental", "schema": "id INT"}},
        "dataset": {"from": "bronze.x", "key": ["id"], "label": "id"},
        "training": {"task": "binary"},
    }

    def load(run_id: str, replay: str | None = None):
        return ingest(replace(make_context(spec, "ingest.x", run_id=run_id), replay=replay))

    client.send("orders", (0, None, '{"id": 1}'), (1, None, '{"id": 2}'), (1, None, "junk"))
    assert (load("r1").rows_out, load("r2").rows_in) == (2, 0)
    client.send("orders", (0, None, '{"id": 3}'))
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "put", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load("r3")
    assert load("r4").rows_in == 0
    rows = lake.read(spark, "bronze.x").collect()
    assert sorted((row["id"], row["_batch_id"]) for row in rows) == [(1, 1), (2, 1), (3, 2)]
    assert {row["_source_file"] for row in rows} == {"kafka://orders/0", "kafka://orders/1"}
    [refused] = lake.read(spark, "bronze.x_quarantine").collect()
    assert (refused["_source_file"], refused["_source_line"], json.loads(refused["raw"])["value"]) == ("kafka://orders/1", 1, "junk")
    assert load("r5", replay="all").rows_in == 4
    assert sorted(row["id"] for row in lake.read(spark, "bronze.x").collect()) == [1, 2, 3]


def test_a_topic_made_anew_is_another_and_what_was_aborted_never_was(extract, broker, client) -> None:
    client.create("anew")
    client.send("anew", (0, None, "old"))
    declared = {"format": "kafka", "url": broker.url, "table": "anew", "load": "incremental"}
    first = extract(**declared)
    client.delete("anew")
    client.create("anew")
    client.transact("anew", (0, None, "aborted"), commit=False)
    client.transact("anew", (0, None, "kept"), commit=True)
    # Its offsets go further than those of the old one, so that they alone would not tell.
    with pytest.raises(SourceError, match="deleted and made anew"):
        extract(since=first.extract.position, **declared)
    allowed = extract(since=first.extract.position, **declared, options={"failOnDataLoss": False})
    assert [(row["offset"], row["value"]) for row in allowed.good] == [(2, "kept")]
    assert "deleted and made anew" in allowed.extract.records.notes[0]
    assert extract(since=allowed.extract.position, **declared).good == []
