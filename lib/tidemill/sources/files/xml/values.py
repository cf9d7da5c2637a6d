"""An XML record as names and texts: what its attributes, children and text are called, before any type is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

DEEPEST = 200
_SPACE = " \t\r\n"
_NIL = ":nil"


class Nested(dict[str, list["Value"]]):
    """An element with attributes or children: each name with its values, in order; ``has_children`` beside attributes and text."""

    has_children = False


Value: TypeAlias = str | Nested | None


class TooDeep(ValueError):
    """Elements lie in each other further down than any table can show."""


@dataclass(frozen=True)
class XmlNames:
    """What becomes of names and texts, as the options of Spark's own reader say it."""

    attribute_prefix: str = "_"
    value_tag: str = "_VALUE"
    null_value: str | None = None
    keeps_spaces: bool = False
    drops_attributes: bool = False
    drops_prefixes: bool = False


class RecordParser:
    """Parses one record after another.

    The text of an element with attributes or children goes by ``value_tag``, in pieces where children stand between; that of any
    other is its value, without the white space around it; an empty one is ``""``. Declarations of namespaces are no attributes, and a
    prefix needs none; an element with ``xsi:nil="true"`` is null.
    """

    def __init__(self, names: XmlNames) -> None:
        """Keep how things are to be called."""
        self._names = names
        self._interned: dict[str, str] = {}

    def parse(self, text: bytes) -> Nested:
        """Return the record in UTF-8 text.

        Raises:
            expat.ExpatError: it is not well-formed.
            TooDeep: it is more than ``DEEPEST`` elements deep.
        """
        # A parser of ElementTree's own would refuse prefixes that were declared further up, outside of the record.
        builder = TreeBuilder()
        parser = expat.ParserCreate("UTF-8", intern=self._interned)
        parser.buffer_text = True
        parser.StartElementHandler = builder.start
        parser.EndElementHandler = builder.end
        parser.CharacterDataHandler = builder.data
        parser.Parse(text, True)
        found = self._value(builder.close(), 1)
        if isinstance(found, Nested):
            return found
        record = Nested()
        if found:
            record[self._names.value_tag] = [found]
        return record

    def _value(self, element: Element, depth: int) -> Value:
        if depth > DEEPEST:
            raise TooDeep
        attributes = element.items()
        found = Nested()
        is_nil = bool(attributes) and self._add_attributes(found, attributes)
        if not len(element):
            if not found:
                return None if is_nil else self._text(element.text)
            self._add_piece(found, element.text)
            return found
        self._add_piece(found, element.text)
        found.has_children = True
        for child in element:
            name = child.tag.rpartition(":")[2] if self._names.drops_prefixes else child.tag
            value = self._value(child, depth + 1) if len(child) or child.items() else self._text(child.text)
            if name in found:
                found[name].append(value)
            else:
                found[name] = [value]
            if child.tail:
                self._add_piece(found, child.tail)
        return found

    def _add_attributes(self, found: Nested, attributes: Iterable[tuple[str, str]]) -> bool:
        """Add the attributes; return True where one says that the element is null."""
        names, is_nil = self._names, False
        for key, text in attributes:
            if key == "xmlns" or key.startswith("xmlns:"):
                continue
            if key.endswith(_NIL):
                is_nil = text.strip(_SPACE) in ("true", "1")
            elif not names.drops_attributes:
                name = names.attribute_prefix + (key.rpartition(":")[2] if names.drops_prefixes else key)
                found.setdefault(name, []).append(self._text(text))
        return is_nil

    def _add_piece(self, found: Nested, text: str | None) -> None:
        """Add a text beside attributes or children, unless it is white space between elements."""
        if text and text.strip(_SPACE):
            found.setdefault(self._names.value_tag, []).append(self._text(text))

    def _text(self, text: str | None) -> str | None:
        value = (text if self._names.keeps_spaces else text.strip(_SPACE)) if text else ""
        return None if value == self._names.null_value else value


def plain(value: Value) -> object:
    """Return a value as JSON has it: a name with one value is that, with several a list of them."""
    if not isinstance(value, Nested):
        return value
    return {name: plain(values[0]) if len(values) == 1 else [plain(each) for each in values] for name, values in value.items()}
