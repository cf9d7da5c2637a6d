"""An XML record as names and texts: what its attributes, children and text are called, before any type is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias
from xml.parsers import expat

DEEPEST = 200
_SPACE = " \t\r\n"
_NIL = ":nil"


class Nested(dict[str, list["Value"]]):
    """An element with attributes or children: each name with its values, in order; ``has_children`` beside attributes and text."""

    __slots__ = ("has_children",)

    def __init__(self) -> None:
        """Make one without anything in it."""
        super().__init__()
        self.has_children = False


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
        self._open: list[Nested] = []
        self._nil: list[Nested] = []
        self._pieces: list[str] = []
        self._found: Value = None

    def parse(self, text: bytes) -> Nested:
        """Return the record in UTF-8 text.

        Raises:
            expat.ExpatError: it is not well-formed.
            TooDeep: it is more than ``DEEPEST`` elements deep.
        """
        self._open.clear()
        self._nil.clear()
        self._pieces.clear()
        parser = expat.ParserCreate("UTF-8", intern=self._interned)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._pieces.append
        parser.Parse(text, True)
        found = self._found
        if isinstance(found, Nested):
            return found
        record = Nested()
        if found:
            record[self._names.value_tag] = [found]
        return record

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= DEEPEST:
            raise TooDeep
        if self._pieces and self._open:
            self._add_text(self._open[-1])
        found = Nested()
        self._open.append(found)
        if attributes:
            self._add_attributes(found, attributes)

    def _end(self, name: str) -> None:
        found: Value = self._open.pop()
        assert isinstance(found, Nested)
        if found:
            self._add_text(found)
        elif self._nil and self._nil[-1] is found:
            found = None
            self._pieces.clear()
        else:
            text = "".join(self._pieces)
            self._pieces.clear()
            text = text if self._names.keeps_spaces else text.strip(_SPACE)
            found = None if text == self._names.null_value else text
        if not self._open:
            self._found = found
            return
        if self._names.drops_prefixes:
            name = name.rpartition(":")[2]
        parent = self._open[-1]
        parent.has_children = True
        if name in parent:
            parent[name].append(found)
        else:
            parent[name] = [found]

    def _add_attributes(self, found: Nested, attributes: Mapping[str, str]) -> None:
        names = self._names
        for key, text in attributes.items():
            if key == "xmlns" or key.startswith("xmlns:"):
                continue
            if key.endswith(_NIL):
                if text.strip(_SPACE) in ("true", "1"):
                    self._nil.append(found)
                continue
            if names.drops_attributes:
                continue
            name = names.attribute_prefix + (key.rpartition(":")[2] if names.drops_prefixes else key)
            value = text if names.keeps_spaces else text.strip(_SPACE)
            found.setdefault(name, []).append(None if value == names.null_value else value)

    def _add_text(self, found: Nested) -> None:
        """Add the text since the last tag, unless it is white space between elements."""
        text = "".join(self._pieces)
        self._pieces.clear()
        stripped = text.strip(_SPACE)
        if stripped:
            value = text if self._names.keeps_spaces else stripped
            found.setdefault(self._names.value_tag, []).append(None if value == self._names.null_value else value)


def plain(value: Value) -> object:
    """Return a value as JSON has it: a name with one value is that, with several a list of them."""
    if not isinstance(value, Nested):
        return value
    return {name: plain(values[0]) if len(values) == 1 else [plain(each) for each in values] for name, values in value.items()}
