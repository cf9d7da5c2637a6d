"""Sources without files: what each needs, what means nothing there, one sentence a fault, with its line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.sources.files.json import VALUE_OPTIONS, Json
from tidemill.spec import load_spec

SOURCE = """\
    format: csv
    path: ${DATA:-./data}/*.csv
    options: {header: true}
    load: incremental
"""
DATABASE = {"format": "jdbc", "url": "jdbc:sqlite:a.db", "table": "t", "load": "full"}
TOPIC = {"format": "kafka", "url": "host:9092", "table": "t", "load": "incremental"}
TABLE = {"format": "delta", "path": "/there", "load": "full"}
FILES = {"format": "csv", "path": "a.csv", "load": "incremental"}
INCREMENTAL = {"load": "incremental", "watermark": "at", "key": "[id]"}
BEGINS = '\'{"t": {"0": 5}}\''


@pytest.fixture
def declare(changed: Callable[..., str]) -> Callable[..., str]:
    """Return the good spec with its source written anew, a key a line from line 5 on; None leaves a key out."""

    def _declare(base: dict[str, str], **more: str | None) -> str:
        lines = {**base, **{key.rstrip("_"): value for key, value in more.items()}}
        block = "".join(f"    {key}: {value}\n" for key, value in lines.items() if value is not None)
        return changed(SOURCE, block).replace("scheduled_at", "at")

    return _declare


@pytest.mark.parametrize(
    ("base", "more", "line", "key", "message"),
    [
        (DATABASE, {"url": None}, 4, "url", "missing; `format: jdbc` needs the database, such as `url: jdbc:postgresql://host:5432/db`"),
        (DATABASE, {"url": "postgresql://h/db"}, 6, "url",
         "expected a URL that begins with jdbc:, such as jdbc:postgresql://host:5432/db"),
        (DATABASE, {"table": None}, 4, "table", "expected one of `table:` and `query:`, found neither"),
        (DATABASE, {"query": "SELECT 1"}, 7, "table", "expected one of `table:` and `query:`, found both"),
        (DATABASE, {"path": "a.db"}, 9, "path", "means nothing to `format: jdbc`, which reads `table:` or `query:`; leave it out"),
        (DATABASE, {"load": "incremental", "key": "[id]"}, 4, "watermark",
         "missing; `load: incremental` needs the column that grows with each change, or write `load: full`"),
        (DATABASE, {"load": "incremental", "watermark": "at", "overlap": "10m"}, 4, "key",
         "missing; `load: incremental` reads late rows again and merges them by `key: [column, …]`"),
        (DATABASE, {"options": "{fetchSze: 10}"}, 9, "options.fetchSze",
         "unknown option of jdbc; did you mean 'fetchsize'?; known: driver, fetchsize, lowerBound, numPartitions, overlap, "
         "partitionColumn, queryTimeout, sessionInitStatement, upperBound"),
        (DATABASE, {"options": "{dbtable: t}"}, 9, "options.dbtable", "write `table:` beside `format:`"),
        (DATABASE, {"overlap": "10m"}, 9, "overlap",
         "says how far behind the watermark late rows are looked for; give `watermark: <column>`, or leave it out"),
        (DATABASE, {"options": "{overlap: 5}"}, 9, "options.overlap",
         "says how far behind the watermark late rows are looked for; give `watermark: <column>`, or leave it out"),
        (DATABASE, {**INCREMENTAL, "overlap": "10m", "options": "{overlap: 5}"}, 12, "options.overlap",
         "`overlap:` says it already; leave one of them out"),
        (DATABASE, {"overlap": "10 minutes", "watermark": "at"}, 9, "overlap",
         "expected a duration such as 30m, 2h or 1d, found '10 minutes'"),
        (DATABASE, {"options": "{numPartitions: 4}"}, 9, "options.numPartitions",
         "needs `partitionColumn: <column>`, by which the rows are shared out"),
        (DATABASE, {"options": "{partitionColumn: id, numPartitions: some}"}, 9, "options.numPartitions",
         "expected a whole number from 1, found 'some'"),
        (FILES, {"watermark": "at"}, 8, "watermark",
         "means nothing to `format: csv`, where `load: incremental` takes what is new; leave it out"),
        (FILES, {"overlap": "10m"}, 8, "overlap",
         "means nothing to `format: csv`, where `load: incremental` takes what is new; leave it out"),
        (FILES, {"query": "SELECT 1"}, 8, "query", "means nothing to `format: csv`, which reads `path:`; leave it out"),
        (TABLE, {"path": None}, 4, "path", "missing; `format: delta` reads files, so give `path:` (globs are fine)"),
        (TABLE, {"options": "{timestampAsOff: '2026-01-01'}"}, 8, "options.timestampAsOff",
         "unknown option of delta; did you mean 'timestampAsOf'?; known: timestampAsOf, versionAsOf"),
        (TABLE, {"load": "incremental", "options": "{timestampAsOf: '2026-01-01'}"}, 8, "options.timestampAsOf",
         "is for `load: full`; `incremental` continues from the version that it has read"),
        (TABLE, {"options": "{versionAsOf: 1, timestampAsOf: '2026-01-01'}"}, 8, "options.timestampAsOf",
         "`versionAsOf` says already which version is meant; leave one of them"),
        (TOPIC, {"url": None}, 4, "url", 'missing; give the brokers, such as "host:9092,other:9092", or options.kafka.bootstrap.servers'),
        (TOPIC, {"table": None}, 4, "table", "missing; give the topic, or one of options.subscribe, subscribePattern and assign"),
        (TOPIC, {"options": "{kafka.bootstrap.servers: 'h:1'}"}, 9, "options.kafka.bootstrap.servers",
         "`url:` says it already; leave one of them out"),
        (TOPIC, {"options": "{subscribePattern: t.*}"}, 9, "options.subscribePattern", "`table:` says it already; leave one of them out"),
        (TOPIC, {"table": None, "options": "{subscribe: t, assign: '{\"t\": [0]}'}"}, 8, "options.assign",
         "options.subscribe says it already; leave one of them out"),
        (TOPIC, {"watermark": "at"}, 9, "watermark", "means nothing for `format: kafka`; leave it out"),
        (TOPIC, {"password": "x"}, 9, "password", "means nothing for `format: kafka`; give `kafka.sasl.*` in `options`"),
        (TOPIC, {"on_new_column": "add"}, 9, "on_new_column", "'add' is not built for `format: kafka`; leave 'rescue'"),
        (TOPIC, {"options": "{endingOffsets: latest}"}, 9, "options.endingOffsets",
         "is not for a kafka source to set: a run reads what is there when it starts; leave it out"),
        (TOPIC, {"options": "{kafka.auto.offset.reset: latest}"}, 9, "options.kafka.auto.offset.reset",
         "is not for a kafka source to set: `startingOffsets` says where the first run begins; leave it out"),
        (TOPIC, {"options": "{startingOffsets: yesterday}"}, 9, "options.startingOffsets",
         'expected earliest, latest or JSON such as {"topic": {"0": 23, "1": -2}}, found \'yesterday\''),
        (TOPIC, {"table": None, "options": "{assign: t}"}, 8, "options.assign", "expected JSON such as {\"topic\": [0, 1]}, found 't'"),
        (TOPIC, {"load": "full", "options": "{maxOffsetsPerTrigger: 10}"}, 9, "options.maxOffsetsPerTrigger",
         "is a number from 1 and for `load: incremental`, found '10'"),
        (TOPIC, {"options": "{maxOffsetsPerTrigger: 0}"}, 9, "options.maxOffsetsPerTrigger",
         "is a number from 1 and for `load: incremental`, found '0'"),
        (TOPIC, {"options": "{failOnDataLoss: maybe}"}, 9, "options.failOnDataLoss", "expected one of true, false, found 'maybe'"),
        (TOPIC, {"options": "{valueFormat: avro}"}, 9, "options.valueFormat", "expected one of json, text, binary, found 'avro'"),
        (TOPIC, {"schema": "id INT", "options": "{valueFormat: text}"}, 10, "options.valueFormat",
         "`schema` is for JSON values; leave it out, or write json instead of 'text'"),
    ],
)  # fmt: skip
def test_one_fault(faults: Callable, declare: Callable, base: dict, more: dict, line: int, key: str, message: str) -> None:
    assert faults(declare(base, **more)) == [(line, f"sources.flights.{key}", message)]


def test_an_unknown_option_of_kafka_is_told_with_its_neighbour(faults: Callable, declare: Callable) -> None:
    [(line, key, message)] = faults(declare(TOPIC, options="{startingOfsets: latest}"))
    assert (line, key) == (9, "sources.flights.options.startingOfsets")
    assert message.startswith("unknown option of kafka; did you mean 'startingOffsets'?; known: ")
    of_files = {"encoding", "lineSep", "multiLine", "locale", "maxRecordBytes"}
    assert set(VALUE_OPTIONS) == set(Json.option_names) - of_files


@pytest.mark.parametrize(
    ("base", "more"),
    [
        (DATABASE, {**INCREMENTAL, "overlap": "10m", "options": "{partitionColumn: id, numPartitions: 4}"}),
        # For one run, to load everything again: what belongs to `load: incremental` may stay.
        (DATABASE, {**INCREMENTAL, "load": "full", "overlap": "10m"}),
        (DATABASE, {"table": None, "query": "SELECT 1 AS id"}),
        (TOPIC, {"options": f"{{startingOffsets: {BEGINS}, kafka.security.protocol: SSL, failOnDataLoss: false, dateFormat: dd.MM.yy}}"}),
        (TOPIC, {"url": None, "table": None, "options": "{kafka.bootstrap.servers: 'h:1', subscribePattern: t.*}"}),
        (TABLE, {"options": "{timestampAsOf: '2026-01-01'}"}),
    ],
)
def test_what_is_right_is_taken(write: Callable, declare: Callable, base: dict, more: dict) -> None:
    assert load_spec(write(declare(base, **more)), environ={}).pipeline.sources["flights"].format == base["format"]
