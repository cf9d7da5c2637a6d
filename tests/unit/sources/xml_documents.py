"""XML documents made at random from a seed, with everything that a scanner could take for a tag, and what an independent parser says."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

NAMES = ("name", "rowing", "ro", "Row", "a.b", "x-y", "größe")
TEXTS = ("", " ", "5", "a & b", "1 < 2", "]]", "<row>", "</row>", "<!--", "-->", "ž\u2028", "two\nlines", "'\"", "🦆", "\ttab", "a>b")


class Documents:
    """Writes one document after another; ``starts`` are the lines on which the outermost records of the last one begin."""

    def __init__(self, seed: int, line_end: str = "\n") -> None:
        """Begin at a seed."""
        self.random = Random(seed)
        self.line_end = line_end
        self.parts: list[str] = []
        self.starts: list[int] = []

    def document(self) -> str:
        """Return a well-formed document whose records are called ``row``."""
        self.parts, self.starts = [], []
        pick = self.random
        self.parts.append(pick.choice(["", '<?xml version="1.0"?>', "<?xml version='1.0' standalone='yes'?>\n"]))
        self.parts.append(pick.choice(["", "<!DOCTYPE rows>", "<!DOCTYPE rows [<!ELEMENT row ANY><!-- <row> ]> --><?x <row> ]>?>]>\n"]))
        self.parts.append(pick.choice(["<rows>", "<rows a='>' b=\"/>\">", "<rows\n>"]))
        for _ in range(pick.randrange(8)):
            self._between()
            self.starts.append("".join(self.parts).count("\n") + 1)
            self._element("row", depth=0)
        self._between()
        self.parts.append("</rows>" + pick.choice(["", "\n", "<!-- </row> -->\n", "<?row <row>?>"]))
        return "".join(self.parts).replace("\n", self.line_end)

    def _between(self) -> None:
        pick = self.random
        self.parts.append(
            pick.choice(["", "\n", " \n\t", "<!-- <row> -->", "<!--</row>-->\n", "<?row </row>?>", "<other row='>'>x<ro/></other>\n"])
        )

    def _element(self, name: str, depth: int) -> None:
        pick = self.random
        attributes = "".join(
            f"{pick.choice([' ', chr(10), '  '])}{key}{pick.choice(['', ' '])}={quoteattr(pick.choice(TEXTS))}"
            for key in pick.sample(("id", "row", "größe", "z"), pick.randrange(3))
        )
        if pick.random() < 0.15:
            self.parts.append(f"<{name}{attributes}{pick.choice(['', ' '])}/>")
            return
        self.parts.append(f"<{name}{attributes}{pick.choice(['', ' '])}>")
        for _ in range(pick.randrange(4)):
            self._content(depth)
        self.parts.append(f"</{name}{pick.choice(['', ' '])}>")

    def _content(self, depth: int) -> None:
        pick, text = self.random, self.random.choice(TEXTS)
        kind = pick.randrange(6)
        if kind < 2 and depth < 3:
            self._element(pick.choice((*NAMES, "row")), depth + 1)
        elif kind == 2:
            self.parts.append("<![CDATA[" + text.replace("]]>", "") + "]]>")
        elif kind == 3:
            self.parts.append("<!--" + text.replace("--", "") + " -->")
        elif kind == 4:
            self.parts.append("<?p " + text + "?>")
        else:
            self.parts.append(escape(text).replace("ž", pick.choice(["ž", "&#382;", "&#x17e;"])))


def records(document: str | bytes) -> list[ElementTree.Element]:
    """Return the outermost rows that Python's own parser finds."""

    def below(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
        if element.tag == "row":
            yield element
        else:
            for child in element:
                yield from below(child)

    return list(below(ElementTree.fromstring(document)))


def canonical(element: ElementTree.Element) -> tuple:
    """Return all that an element holds, without what stands behind it."""
    return (element.tag, element.attrib, element.text or "", [(canonical(child), child.tail or "") for child in element])


def value_of(element: ElementTree.Element) -> object:
    """Return an element as names and texts: each name of an attribute or a child with its values; a text alone is the value."""
    fields: dict[str, list] = {f"_{key}": [text.strip(" \t\r\n")] for key, text in element.attrib.items()}
    texts = [element.text or ""]
    for child in element:
        fields.setdefault(child.tag, []).append(value_of(child))
        texts.append(child.tail or "")
    pieces = [text.strip(" \t\r\n") for text in texts]
    if not fields:
        return pieces[0]
    if any(pieces):
        fields["_VALUE"] = [piece for piece in pieces if piece]
    return fields
