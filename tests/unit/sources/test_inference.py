"""A column gets a type from which every text in it can be had back, up to its spelling."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import types as T

from tidemill.sources.schema.types import Evidence

TYPES = {
    "int": ["0", "-7", "+5", "2147483647", "-2147483648"],
    "bigint": ["2147483648", "-2147483649", "9223372036854775807", "-9223372036854775808"],
    "decimal(19,0)": ["9223372036854775808", "-9223372036854775809"],
    "decimal(38,0)": ["9" * 38],
    "double": ["1.5", "-0.5", ".5", "5.", "1e3", "1E-3", "0.30000000000000004", "3.141592653589793", " 2.5 ", "NaN", "INF", "-Infinity"],
    "decimal(19,19)": ["0.1234567890123456789"],
    "decimal(20,2)": ["123456789012345678.91"],
    "decimal(17,17)": ["0.12345678901234567"],
    "boolean": ["true", "FALSE"],
    "date": ["2013-01-31", "2012-02-29"],
    "timestamp": ["2013-01-31T10:00:00", "2013-01-31 10:00", "2013-01-31T10:00:00.123456Z", "2013-01-31T10:00:00+05:30"],
    "string": [
        *["x", "007", "-01", "00.5", "1,5", "1_000", "0x1p3", "1.5d", "1e", "\u0661", "9" * 39, "0." + "1" * 39, "1e400", "1e-400"],
        *[
            "2013-02-30",
            "2013-01-31T25:00:00",
            "2013-1-31",
            "2013-01-31T10:00:00.1234567",
            "2013-01-31T10:00Z",
            "10:00",
            "2013-01",
            "0000-01-01",
        ],
        *["yes", "t", "nan", ".", "", " 7", "7 ", "12:30", "1/2/2024", " true", "+4a"],
    ],
}


def type_of(*texts: str, smallest: T.IntegerType | T.LongType | None = None) -> str:
    """Return the type of texts, each judged in a process of its own."""
    whole = Evidence()
    for text in texts:
        one = Evidence()
        one.add(text)
        whole.merge(Evidence.of(json.loads(json.dumps(one.to_list()))))
    return whole.type(smallest or T.IntegerType()).simpleString()


@pytest.mark.parametrize("kind", TYPES)
def test_types_of_texts(kind: str) -> None:
    assert {text: type_of(text) for text in TYPES[kind]} == dict.fromkeys(TYPES[kind], kind)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "1.5", ""], "double"),
        (["1", "02134"], "string"),
        (["1", "9223372036854775808"], "decimal(19,0)"),
        (["0.5", "12345678901234567891"], "decimal(21,1)"),
        (["1e30", "0.1234567890123456789"], "string"),
        (["0.10", "0.2500000000000000000000"], "double"),
        (["1e3", "5"], "double"),
        (["2013-01-01", "2013-01-01T10:00:00"], "timestamp"),
        (["2013-01-01", "2013"], "string"),
        (["true", "1"], "string"),
        (["1", "x"], "string"),
        ([], "string"),
    ],
)
def test_types_of_columns(texts: list[str], expected: str) -> None:
    assert type_of(*texts) == type_of(*reversed(texts)) == expected


def test_whole_numbers_of_json_and_xml_are_bigint() -> None:
    assert type_of("1", smallest=T.LongType()) == "bigint"


numbers = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=6).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"\A[+-]?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z"),
)
others = st.one_of(
    st.sampled_from(["true", "False", "TRUE", "t", "yes"]),
    st.dates().map(str),
    st.datetimes().map(lambda instant: instant.isoformat()),
    st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z"),
    st.text(max_size=5),
)


@given(st.lists(numbers, min_size=1, max_size=4) | st.lists(others, min_size=1, max_size=4) | st.lists(numbers | others, max_size=4))
def test_every_text_can_be_had_back(texts: list[str]) -> None:
    kind = type_of(*texts)
    for text in filter(None, texts):
        if kind in ("int", "bigint"):
            bits = 31 if kind == "int" else 63
            assert -(1 << bits) <= int(text) < 1 << bits
            assert text.lstrip("+-") == str(abs(int(text)))
        elif kind == "double":
            assert math.isfinite(float(text))
            assert Decimal(repr(float(text))) == Decimal(text)
            assert not re.match(r"[+-]?0[0-9]", text)
        elif kind.startswith("decimal"):
            precision, scale = map(int, kind[8:-1].split(","))
            with localcontext(prec=200):
                assert Decimal(text).quantize(Decimal(1).scaleb(-scale)) == Decimal(text)
            assert abs(Decimal(text)) < Decimal(10) ** (precision - scale)
        elif kind == "boolean":
            assert text.lower() in ("true", "false")
        elif kind == "date":
            assert str(date.fromisoformat(text)) == text
        elif kind == "timestamp":
            assert datetime.fromisoformat(text).replace(tzinfo=UTC)
        else:
            assert kind == "string"
