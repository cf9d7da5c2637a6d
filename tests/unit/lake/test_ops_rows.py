"""Rows of ops tables: the Arrow types of their columns."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from tidemill.lake.ops_row import _arrow_type


def test_a_replaced_clock_is_an_instant():
    clock = type("Clock", (datetime,), {})
    assert _arrow_type(clock | None) == _arrow_type(datetime | None) == pa.timestamp("us", tz="UTC")
