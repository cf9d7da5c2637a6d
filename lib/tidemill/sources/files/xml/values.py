"""Parse an XML record into names and texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_DEPTH = 200
_SPACE = " \t\r\n"
_NIL = ":nil"


class Nested(dict[str, list["Value"]]):
    """An element with attributes or children: the values of each name, in order."""

    has_children = False


Value: TypeAlias = str | Nested | None


class NestedTooDeep(ValueError):
    """Elements are nested more than ``MAX_DEPTH`` deep."""


@dataclass(frozen=True)
class XmlNames:
    """How names and texts are mapped; the options are those of Spark's own XML reader."""

    attribute_prefix: str = "_"
    value_tag: str = "_VALUE"
    null_value: str | None = None
    keeps_spaces: bool = False
    drops_attributes: bool = False
    drops_prefixes: bool = False


class RecordParser:
    """Parses records.

    The text of an element with attributes or children is a field ``value_tag``, with one value per piece between children. The text of
    any other element is its value, without surrounding white space; an empty element is ``""``. Namespace declarations are no attributes,
    and prefixes need no declaration. An element with ``xsi:nil="true"`` is null.
    """

    def __init__(self, names: XmlNames) -> None:
        """Take the mapping of names."""
        self._names = names
        self._interned: dict[str, str] = {}

    def parse(self, text: bytes) -> Nested:
        """Parse a record from UTF-8 text.

        Raises:
            expat.ExpatError: it is not well-formed.
            NestedTooDeep: it is more than ``MAX_DEPTH`` elements deep.
        """
        # ElementTree's own parser would reject prefixes that are declared outside of the record.
        builder = TreeBuilder()
        parser = expat.ParserCreate("UTF-8", intern=self._interned)
        parser.buffer_text = True
        parser.StartElementHandler = builder.start
        parser.EndElementHandler = builder.end
        parser.CharacterDataHandler = builder.data
        parser.Parse(text, True)
        value = self._value(builder.close(), 1)
        if isinstance(value, Nested):
            return value
        record = Nested()
        if value:
            record[self._names.value_tag] = [value]
        return record

    def _value(self, element: Element, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise NestedTooDeep
        attributes = element.items()
        nested = Nested()
        is_nil = bool(attributes) and self._add_attributes(nested, attributes)
        if not len(element):
            if not nested:
                return None if is_nil else self._text(element.text)
            self._add_piece(nested, element.text)
            return nested
        self._add_piece(nested, element.text)
        nested.has_children = True
        for child in element:
            name = child.tag.rpartition(":")[2] if self._names.drops_prefixes else child.tag
            value = self._value(child, depth + 1) if len(child) or child.items() else self._text(child.text)
            if name in nested:
                nested[name].append(value)
            else:
                nested[name] = [value]
            if child.tail:
                self._add_piece(nested, child.tail)
        return nested

    def _add_attributes(self, nested: Nested, attributes: Iterable[tuple[str, str]]) -> bool:
        """Add the attributes; return True if one of them is ``nil``."""
        names, is_nil = self._names, False
        for key, text in attributes:
            if key == "xmlns" or key.startswith("xmlns:"):
                continue
            if key.endswith(_NIL):
                is_nil = text.strip(_SPACE) in ("true", "1")
            elif not names.drops_attributes:
                name = names.attribute_prefix + (key.rpartition(":")[2] if names.drops_prefixes else key)
                nested.setdefault(name, []).append(self._text(text))
        return is_nil

    def _add_piece(self, nested: Nested, text: str | None) -> None:
        """Add a text beside attributes or children, unless it is white space."""
        if text and text.strip(_SPACE):
            nested.setdefault(self._names.value_tag, []).append(self._text(text))

    def _text(self, text: str | None) -> str | None:
        value = (text if self._names.keeps_spaces else text.strip(_SPACE)) if text else ""
        return None if value == self._names.null_value else value


def to_json_value(value: Value) -> object:
    """Return a value as JSON has it."""
    return {name: values_to_json(values) for name, values in value.items()} if isinstance(value, Nested) else value


def values_to_json(values: list[Value]) -> object:
    """Return the values of one name: a single one as it is, several as a list."""
    return to_json_value(values[0]) if len(values) == 1 else [to_json_value(each) for each in values]
