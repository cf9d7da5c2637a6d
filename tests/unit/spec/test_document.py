from __future__ import annotations

import math
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.errors import UsageError
from tidemill.spec.loading.document import MAX_BYTES, parse_scalar, read_document, read_small

QUOTES = (
    "not valid YAML: while parsing a flow mapping expected ',' or '}', but got '{'; inside { } and [ ], text that holds ${…} needs quotes"
)


def plain(text: str) -> object:
    node, faults = read_document(text.encode(), "f.yml")
    assert node is not None
    assert faults == []
    return node.plain()


def only_fault(data: bytes) -> tuple[int | None, str, str]:
    _, faults = read_document(data, "f.yml")
    assert [fault.file for fault in faults] == ["f.yml"]
    return faults[0].line, faults[0].key, faults[0].message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("No", "No"), ("y", "y"), ("tRue", "tRue"),
        ("true", True), ("True", True), ("FALSE", False), ("~", None), ("null", None), ("", None), ("nULL", "nULL"),
        ("2013-11-01", "2013-11-01"), ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("0b11", "0b11"), ("010", 10), ("0o17", 15),
         ("0xfF", 255),
        ("-12", -12), ("+3", 3), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("1.0e-5", 1e-5), ("-.inf", -math.inf),
         ("+.INF", math.inf),
        ("1e", "1e"), (".", "."), ("-", "-"), ("1 2", "1 2"), ("<<", "<<"),
    ],
)  # fmt: skip
def test_core_scalars(text: str, value: object) -> None:
    actual = parse_scalar(text)
    assert actual == value
    assert type(actual) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(parse_scalar(".nan"))  # type: ignore[arg-type]


@given(st.integers())
def test_every_whole_number_is_read_back(number: int) -> None:
    assert parse_scalar(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_real_number_is_read_back(number: float) -> None:
    assert parse_scalar(repr(number)) == number


@given(st.text(string.ascii_letters + "_-/ :", min_size=1).filter(lambda text: text.lower() not in ("true", "false", "null")))
def test_words_stay_words(text: str) -> None:
    assert parse_scalar(text) == text


@given(st.text(string.printable, max_size=40))
def test_any_text_is_read_or_refused_never_a_crash(text: str) -> None:
    node, faults = read_document(text.encode(), "f.yml")
    assert node is not None or faults or not text.strip() or text.strip().startswith(("#", "%", "-", "."))


def test_keys_are_text_and_quoted_scalars_too() -> None:
    assert plain('on: 1\n2013-01-01: "5"\n1: off\n') == {"on": 1, "2013-01-01": "5", "1": "off"}


def test_lines_are_those_of_the_keys() -> None:
    node, _ = read_document(b"a:\n  b: 1\n\n  c:\n    - x\n    - y\n  d: {e: 1,\n    f: 2}\n", "f.yml")
    assert node is not None
    assert [(path, child.line) for path, child in node.walk() if path] == [
        (("a",), 1), (("a", "b"), 2), (("a", "c"), 4), (("a", "c", 0), 5), (("a", "c", 1), 6), (("a", "d"), 7), (("a", "d", "e"), 7),
        (("a", "d", "f"), 8),
    ]  # fmt: skip


def test_duplicate_keys_are_all_reported_with_both_lines() -> None:
    _, faults = read_document(b"a: 1\nb: {c: 1, c: 2}\na: 3\n", "f.yml")
    assert [(fault.line, fault.key) for fault in faults] == [(2, "b.c"), (3, "a")]
    assert faults[1].message == "duplicate key; it is already on line 1: keep one of them"


@pytest.mark.parametrize("tag", ["!!str 1", "!mine {a: 1}", "!!python/object/apply:os.system [ls]", "! x"])
def test_tags_are_refused(tag: str) -> None:
    line, key, message = only_fault(f"x: 1\na: {tag}\n".encode())
    assert (line, key) == (2, "a")
    assert "tag" in message


def test_aliases_are_copies() -> None:
    assert plain("a: &x {b: [1]}\nc: *x\n") == {"a": {"b": [1]}, "c": {"b": [1]}}


def test_aliases_that_would_fill_the_memory_are_refused() -> None:
    bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
    )
    assert "values once aliases are written out" in only_fault(bomb.encode())[2]


def test_aliases_are_bounded_in_text_and_depth() -> None:
    text = "x" * (MAX_BYTES // 10)
    assert only_fault(f"a: &a {text}\nb: [{', '.join(['*a'] * 10)}]\n".encode())[::2] == (
        2,
        "more than 1,000,000 characters once aliases are written out; a spec needs far fewer",
    )
    deep = "a0: &a0 [x]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 60))
    assert only_fault(deep.encode())[::2] == (40, "more than 40 levels deep")


def test_what_is_no_small_regular_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a regular file"):
        read_small(Path("/dev/zero"))
    large = tmp_path / "large.sql"
    large.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(UsageError, match=r"large.sql has 1,000,001 bytes, and at most 1,000,000 are read"):
        read_small(large)


def test_an_alias_inside_itself_and_one_without_anchor() -> None:
    assert only_fault(b"a: &a\n  - *a\n") == (2, "", "the alias '*a' stands inside itself")
    assert only_fault(b"a: *b\n") == (1, "", "the alias '*b' has no anchor")


def test_depth_and_size_are_bounded() -> None:
    assert "levels deep" in only_fault(b"a: " + b"[" * 2000 + b"]" * 2000)[2]
    assert "a spec has at most" in only_fault(b"#" * (MAX_BYTES + 1))[2]


def test_broken_yaml_says_where() -> None:
    line, _, message = only_fault(b"a: 1\nb: [1, 2\nc: 3\n")
    assert line == 3
    assert message.startswith("not valid YAML: while parsing a flow sequence")
    assert only_fault(b"a: 1\nb: \xff\n") == (2, "", "not UTF-8: byte 0xff; save the file as UTF-8")
    assert only_fault(b"a: 1\n---\nb: 2\n")[0] == 2
    assert only_fault(b"a: {[1]: 2}\n")[2].startswith("a key must be a plain word")
    assert only_fault(b"a:\n  b: {path: ${DATA}/x, c: 1}\n")[::2] == (2, QUOTES)


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert plain("\ufeffa: 1\n") == {"a": 1}
