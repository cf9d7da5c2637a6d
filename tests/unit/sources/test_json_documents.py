"""Documents parted into records: against Python's own parser, on arrays of any content."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.sources.files.json.documents import split_array, split_objects

TOKEN = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]'
TEXTS = st.text(st.sampled_from('"\\[]{},:/ ab\n\u017e'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 0, 2]))
def test_the_elements_are_those_of_pythons_parser(values: list, indent: int | None) -> None:
    document = json.dumps(values, indent=indent)
    found = split_array(document, TOKEN)
    assert found is not None
    assert [json.loads(text) for text, _ in found] == values
    at = 1
    for text, line in found:
        at = document.index(text, at)
        assert line == 1 + document[:at].count("\n")
        at += len(text)


@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), min_size=1, max_size=5), st.sampled_from([None, 0, 2]))
def test_objects_in_a_row_are_those_that_were_written(values: list, indent: int | None) -> None:
    texts = [json.dumps(value, indent=indent) for value in values]
    document = "\n".join(texts)
    starts = [1 + sum(text.count("\n") + 1 for text in texts[:place]) for place in range(len(texts))]
    assert list(split_objects(document)) == list(zip(texts, starts, strict=True))


@pytest.mark.parametrize("document", ["[1],1]", '[{"a": 1}] {"b": 2}', "[1, 2"])
def test_what_follows_an_array_or_lacks_its_end_is_no_array(document: str) -> None:
    assert split_array(document, TOKEN) is None
