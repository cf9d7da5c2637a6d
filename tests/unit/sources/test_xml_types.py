"""Types are told by all texts of a name, at whatever depth."""

from __future__ import annotations

import pytest

from tidemill.errors import SourceError
from tidemill.sources.files.xml.types import ElementSummary, infer_fields
from tidemill.sources.files.xml.values import NestedTooDeep, RecordParser, XmlNames


def summarize(*records: str, **names: object) -> ElementSummary:
    """What is seen in the records, each in a process of its own."""
    whole = ElementSummary()
    for text in records:
        one = ElementSummary()
        one.add(RecordParser(XmlNames(**names)).parse(text.encode()))
        whole.merge(ElementSummary.from_json(one.to_json()))
    return whole


def ddl(*records: str, **names: object) -> str:
    fields = infer_fields(summarize(*records, **names), "_VALUE")
    return ", ".join(f"{part.name}:{part.dataType.simpleString()}" for part in fields)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["<r><a>1</a></r>", "<r><a>1.5</a></r>"], "a:double"),
        (["<r><a>1</a></r>", "<r><a>9223372036854775808</a></r>"], "a:decimal(19,0)"),
        (["<r><a>1</a></r>", "<r><a>x</a></r>", "<r><a/></r>"], "a:string"),
        (["<r><a/></r>", "<r><a>true</a></r>"], "a:boolean"),
        (["<r><a/><b> </b></r>"], "a:string, b:string"),
        (["<r><a>2013-01-01</a></r>", "<r><a>2013-01-01T10:00:00</a></r>"], "a:timestamp"),
        (["<r><a>2013-01-01</a></r>", "<r><a>5</a></r>"], "a:string"),
        (["<r><b>1</b><a>1</a></r>", "<r><a>2</a><a>3.5</a></r>"], "a:array<double>, b:bigint"),
        (["<r id='1'><a u='EUR'>5</a></r>", "<r id='x'><a>6.5</a></r>"], "_id:string, a:struct<_VALUE:double,_u:string>"),
        (["<r><a><b>1</b><b>2</b></a><a/></r>"], "a:array<struct<b:array<bigint>>>"),
        (["<r><p>one <b>two</b> three</p></r>"], "p:struct<_VALUE:array<string>,b:string>"),
        (["<r>5</r>", "<r/>"], "_VALUE:bigint"),
        (["<r xmlns='u' xmlns:x='v' x:id='1'><x:a>1</x:a></r>"], "_x:id:bigint, x:a:bigint"),
        (["<r><a xsi:nil='true'/></r>", "<r><a xsi:nil='false'>1</a></r>"], "a:bigint"),
    ],
)
def test_types_of_names(records: list[str], expected: str) -> None:
    assert ddl(*records) == expected
    assert ddl(*reversed(records)) == expected


def test_options_of_names() -> None:
    record = "<r x:id='1'><x:a> NA </x:a><b k='1'>2</b></r>"
    assert ddl(record, null_value="NA", attribute_prefix="@") == "@x:id:bigint, b:struct<@k:bigint,_VALUE:bigint>, x:a:string"
    assert ddl(record, drops_attributes=True) == "b:bigint, x:a:string"
    assert ddl(record, drops_prefixes=True) == "_id:bigint, a:string, b:struct<_VALUE:bigint,_k:bigint>"
    assert RecordParser(XmlNames(keeps_spaces=True)).parse(b"<r><a> x </a> <b>\n</b></r>") == {"a": [" x "], "b": ["\n"]}
    assert RecordParser(XmlNames(null_value="NA")).parse(b"<r i='NA'><a>NA</a><a/></r>") == {"_i": [None], "a": [None, ""]}


def test_names_that_delta_takes_for_one() -> None:
    with pytest.raises(SourceError, match="in a, 'B' and 'b' are one name to Delta"):
        ddl("<r><a><B>1</B><b>2</b></a></r>")


def test_depth_has_an_end() -> None:
    parser = RecordParser(XmlNames())
    parser.parse(b"<a>" * 200 + b"</a>" * 200)
    with pytest.raises(NestedTooDeep):
        parser.parse(b"<a>" * 100_000 + b"</a>" * 100_000)
    assert parser.parse(b"<r><a>1</a></r>") == {"a": ["1"]}
