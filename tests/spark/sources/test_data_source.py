"""A Python DataSource beside the spec is a source."""

import json
from textwrap import dedent

import pytest

from tidemill.errors import SourceError

CODE = """
    from datetime import datetime, timezone
    from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

    class Minutes(DataSource):
        def schema(self):
            return "id int, at timestamp"

        def reader(self, schema):
            return Reader(int(self.options["n"]))

    class Leaves(Minutes):
        def schema(self):
            raise SystemExit(0)

    class Reader(DataSourceReader):
        def __init__(self, n):
            self.n = n

        def partitions(self):
            return [InputPartition(0), InputPartition(1)]

        def read(self, part):
            for i in range(part.value, self.n, 2):
                yield i, datetime(2026, 1, 1, 0, i, tzinfo=timezone.utc) if i else None
"""


def test_it_is_read_whole_or_behind_its_watermark(tmp_path, extract) -> None:
    (tmp_path / "functions.py").write_text(dedent(CODE))
    source = {"folder": tmp_path, "format": "functions.Minutes"}
    assert extract(**source, options={"n": 4}).ids == [0, 1, 2, 3]
    watched = source | {"load": "incremental", "watermark": "at", "key": ["id"], "overlap": "1m"}
    first = extract(**watched, options={"n": 4})
    assert first.ids == [0, 1, 2, 3]
    assert json.loads(first.extract.position)["value"] == "2026-01-01 00:03:00"
    assert extract(first.extract.position, **watched, options={"n": 6}).ids == [0, 2, 3, 4, 5]
    with pytest.raises(SourceError, match=r"functions\.Leaves: it called sys\.exit\(0\) \(functions\.py, line \d+, in schema\)"):
        extract(**source | {"format": "functions.Leaves"}, options={"n": 4})
