"""XML is cut into its records to the byte, whatever stands in comments and quotes, and nothing of a broken one is lost."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from tests.unit.sources.xml_documents import Documents, canonical, records, value_of

from tidemill.errors import SourceError
from tidemill.sources.files.xml import records as xml_records
from tidemill.sources.files.xml.records import RawRecord, RecordScanner
from tidemill.sources.files.xml.values import RecordParser, XmlNames


def cuts(document: str | bytes, block: int = 1 << 20, tag: str = "row", **options: int) -> list[RawRecord]:
    data = document.encode() if isinstance(document, str) else document

    def blocks() -> Iterator[bytes]:
        yield from (data[start : start + block] for start in range(0, len(data), block))

    return list(RecordScanner(tag, **options).records(blocks()))


def told(document: str, **options: bool) -> list[tuple[str, int, bool]]:
    """The cuts as text, the same whatever the blocks."""
    found = cuts(document, **options)
    for block in (1, 2, 7, 64):
        assert cuts(document, block, **options) == found, block
    return [(cut.text.decode(), cut.line, cut.is_broken) for cut in found]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_records_are_those_that_a_parser_finds(line_end: str) -> None:
    documents, seen = Documents(7, line_end), 0
    for number in range(400):
        document = documents.document()
        expected = records(document)
        if not expected:
            continue
        found = cuts(document, block=(1 << 20, 5, 33)[number % 3])
        assert [canonical(ElementTree.fromstring(cut.text.decode())) for cut in found] == [canonical(each) for each in expected]
        assert [cut.line for cut in found] == documents.starts
        assert not any(cut.is_broken for cut in found)
        seen += len(found)
    assert seen > 1000


def test_values_are_those_that_a_parser_finds() -> None:
    documents, parser, seen = Documents(11), RecordParser(XmlNames()), 0
    for _ in range(300):
        document = documents.document()
        for cut, element in zip(cuts(document) if documents.starts else [], records(document), strict=True):
            expected = value_of(element)
            assert parser.parse(cut.text) == (expected if isinstance(expected, dict) else {"_VALUE": [expected]} if expected else {})
            seen += 1
    assert seen > 700


BROKEN = {
    "an end tag is missing inside": (
        "<rows><row><a>1</row>\n<row>2</row></rows>",
        [("<row><a>1</row>", 1, False), ("<row>2</row>", 2, False)],
    ),
    "the record's own end tag is missing": (
        "<rows><row>1</row>\n<row>2\n<row>3</row>\n<row/><row>5</row>\n</rows>\n<!-- end -->",
        [("<row>1</row>", 1, False), ("<row>2", 2, True), ("<row>3</row>", 3, False), ("<row/>", 4, False), ("<row>5</row>", 4, False)],
    ),
    "two end tags are missing, the last one too": (
        "<rows><row>1</row><row>2\n<row>3<row>4</row><row>5</rows>",
        [
            *[("<row>1</row>", 1, False), ("<row>2", 1, True), ("<row>3", 2, True)],
            *[("<row>4</row>", 2, False), ("<row>5</rows>", 2, True)],
        ],
    ),
    "an end tag is missing where records hold records": (
        "<rows><row/><row><row/></row>\n<row>2<row>3</row><row>4</row></rows>",
        [("<row/>", 1, False), ("<row><row/></row>", 1, False), ("<row>2<row>3</row><row>4</row></rows>", 2, True)],
    ),
    "an end tag is missing where no record before tells whether records hold records": (
        "<rows>\n<row>1<row>2</row><row>3</row></rows>",
        [("<row>1<row>2</row><row>3</row></rows>", 2, True)],
    ),
    "the file is cut off, so the end tag may have been further on": (
        "<rows><row>1</row>\n<row>2<row>3</row>",
        [("<row>1</row>", 1, False), ("<row>2<row>3</row>", 2, True)],
    ),
    "the file is cut off in an end tag": ("<rows><row>1</row><row>2</ro", [("<row>1</row>", 1, False), ("<row>2</ro", 1, True)]),
    "the file is cut off in a start tag": ("<rows><row>1</row>\n <row a", [("<row>1</row>", 1, False), ("<row a", 2, True)]),
    "the file is cut off in the tag of the root": ("<rows><row>1</row>\n</ro", [("<row>1</row>", 1, False), ("</ro", 2, True)]),
    "a start tag is missing": (
        "<rows><row>1</row>\n <a>2</a></row><row>3</row></rows>",
        [("<row>1</row>", 1, False), ("<a>2</a></row>", 2, True), ("<row>3</row>", 2, False)],
    ),
    "a quote is not closed": (
        "<rows><row a='1>1</row>\n<row a='2'>2</row></rows>",
        [("<row a='1>1</row>", 1, False), ("<row a='2'>2</row>", 2, False)],
    ),
    "tags in quotes": (
        "<rows><row><a t='<row>' u=\"</row>\"/></row><row b='</row>'>2</row></rows>",
        [("<row><a t='<row>' u=\"</row>\"/></row>", 1, False), ("<row b='</row>'>2</row>", 1, False)],
    ),
    "a tag in quotes": (
        "<rows><row><a t='<row>'/></row>\n<row><a t='x' u = \"x></row>\">3</a></row></rows>",
        [("<row><a t='<row>'/></row>", 1, False), ("<row><a t='x' u = \"x></row>\">3</a></row>", 2, False)],
    ),
    "a comment is not closed": (
        "<rows><row>1</row>\n<!-- <row>2</row>\n</rows>",
        [("<row>1</row>", 1, False), ("<!-- <row>2</row>\n</rows>", 2, True)],
    ),
    "CDATA is not closed": (
        "<rows><row>1</row>\n<row><![CDATA[2</row><row>3</row></rows>",
        [("<row>1</row>", 1, False), ("<row><![CDATA[2</row><row>3</row></rows>", 2, True)],
    ),
    "quotes in a comment and behind it": (
        "<rows><!-- <a t='--><row/><b u='/>'/><row>2</row></rows>",
        [("<row/>", 1, False), ("<row>2</row>", 1, False)],
    ),
    "signs that are no tags": (
        "<rows><row>1 < 2 && <</row><row><!DOCTYPE x></row>< </rows>",
        [("<row>1 < 2 && <</row>", 1, False), ("<row><!DOCTYPE x></row>", 1, False)],
    ),
    "no root": ("<row>1</row>\n<row>2</row>", [("<row>1</row>", 1, False), ("<row>2</row>", 2, False)]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_documents(case: str) -> None:
    document, expected = BROKEN[case]
    assert told(document) == expected


def test_prefixes_belong_to_the_name_or_not() -> None:
    document = "<x:rows><x:row>1</x:row><row>2</row><y:row>3<x:row/></y:row></x:rows>"
    assert told(document.replace("<y:row>3<x:row/></y:row>", "")) == [("<row>2</row>", 1, False)]
    everyone = told(document, with_any_prefix=True)
    assert [text for text, _, _ in everyone] == ["<x:row>1</x:row>", "<row>2</row>", "<y:row>3<x:row/></y:row>"]


def test_files_without_records() -> None:
    assert cuts("<rows/>") == []
    assert cuts("<?xml version='1.0'?>\n<rows><!-- <item> --></rows>") == []
    for document, message in {
        "id,name\n1,a\n": "it does not begin as XML does, with <",
        " \n ": "it holds no element",
        "<!-- nothing -->": "it holds no element",
        "<rows><item/><item/><Row/></rows>": "it has no <row>, but <item>, <Row>; `options.rowTag` names the element that is a record",
    }.items():
        with pytest.raises(SourceError) as caught:
            cuts(document)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    "subset",
    ['<!ENTITY a "b">', "<!ELEMENT row ANY> <!ENTITY % p SYSTEM 'file:///etc/hostname'> %p;", "<!-- -->\n<!ENTITY\nlol 'lol'>"],
)
def test_entities_are_refused_where_they_are_declared(subset: str) -> None:
    with pytest.raises(SourceError, match="declares entities"):
        cuts(f"<!DOCTYPE rows [{subset}]><rows><row>&a;</row></rows>", block=3)
    harmless = (
        "<!DOCTYPE rows [<!-- <!ENTITY a 'b'> --><!ATTLIST row a CDATA '<!ENTITY'>]><rows><row><!-- <!ENTITY a 'b'> -->1</row></rows>"
    )
    assert len(cuts(harmless)) == 1


def test_a_record_without_end_is_not_kept_in_memory_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"what begins at line 2 has no end within 262144 bytes; .*raise `options.maxRecordBytes`"):
        cuts("<rows><row>1</row>\n<row>" + "x" * (1 << 20), block=1 << 10, longest=1 << 18)
    many = "<rows>" + "<other>x</other>" * 9999 + "<row>1</row></rows>"
    monkeypatch.setattr(xml_records, "_MAX_ENVELOPE", 1 << 10)
    assert cuts(many, block=1 << 9) == [RawRecord(b"<row>1</row>", 1)]
