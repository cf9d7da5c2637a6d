"""Lists: of words as a slot per word or hashes; of numbers as a slot per place, or as length, mean, min and max."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tidemill.features.choices import Choice, ColumnProfile
from tidemill.features.contributions import ColumnFacts, Contribution, Scalar, WordList
from tidemill.features.groups.feature_group import ColumnBlock, FeatureGroup, RowFacts
from tidemill.quoting import format_double, quote_name

_MAX_AUTO_PLACES = 256
"""Longer lists of numbers are summarised, unless `encode: slots` is declared."""
_MAX_PLACES = 2000
_SHRINK = 2.0**-60  # a power of two, which changes no digit: the sum of a list may overflow even if its mean does not
_KIND_OF_ENCODING = {"slots": "numbers", "summary": "numbers", "multihot": "words", "hashing": "words"}


class Array(ColumnBlock):
    """Columns of lists. Of numbers: a slot for each place where all have the same length, else length, mean, least and greatest."""

    encode: Literal["auto", "multihot", "hashing", "slots", "summary"] = Field(
        default="auto", description="auto: multihot (a slot per word) for lists of text; slots, or summary, for lists of numbers"
    )
    min_frequency: int = Field(default=1, ge=1, description="multihot: the least number of training rows with a word")
    size: int = Field(default=256, gt=1, description="hashing: the number of slots")


class ArrayGroup(FeatureGroup):
    """Word lists of text, scalars of numbers."""

    options = Array
    accepts, expected = frozenset({"words", "numbers"}), "ARRAY of STRING or of numbers"

    def contribute(self, blocks: Sequence[Array], columns: ColumnFacts) -> Contribution:
        """Return the word lists, and a scalar per place or figure of the lists of numbers."""
        scalars: list[Scalar] = []
        words: list[WordList] = []
        for block in blocks:
            for name in block.columns:
                if columns.kinds[name] == "words":
                    words.append(WordList(name, block.encode, block.min_frequency, block.size))
                else:
                    scalars += _places(name, columns.sizes[name]) if name in columns.sizes else _summary(name)
        return Contribution(scalars, word_lists=words)

    def check(self, block: Array, columns: ColumnFacts) -> Iterator[tuple[str, str]]:
        """Yield each list whose values cannot be encoded as is asked."""
        required_kind = _KIND_OF_ENCODING.get(block.encode)
        expected = "numbers" if required_kind == "numbers" else "text"
        for name in block.columns:
            if required_kind and columns.kinds[name] != required_kind:
                yield "encode", f"{block.encode} is for lists of {expected}; column {name!r} is not one; write `auto`"

    def aggregates(self, block: Array, columns: ColumnFacts) -> Mapping[str, str]:
        """Ask for the least and the greatest length of each list of numbers that may have a slot per place."""
        names = [name for name in block.columns if columns.kinds[name] == "numbers"] if block.encode != "summary" else []
        return {f"{end}.{name}": f"{end}(size({quote_name(name)}))" for name in names for end in ("min", "max")}

    def row_facts(self, block: Array, values: Mapping[str, Any]) -> RowFacts:
        """Return the lengths of the lists that all have one, and a fault for those that should have and do not."""
        sizes: dict[str, int] = {}
        faults: list[tuple[str, str]] = []
        limit = _MAX_AUTO_PLACES if block.encode == "auto" else _MAX_PLACES
        for name in block.columns:
            shortest, longest = values.get(f"min.{name}"), values.get(f"max.{name}")
            if shortest and shortest == longest and shortest <= limit:
                sizes[name] = int(shortest)
            elif block.encode == "slots":
                lengths = f"lists of column {name!r} have {shortest} to {longest} numbers"
                faults.append(("encode", f"{lengths}, expected one length of at most {_MAX_PLACES:,}; write `summary`"))
        return RowFacts(sizes=sizes, faults=faults)

    def choose(self, profile: ColumnProfile, n_classes: int | None) -> Choice | None:
        """Take lists of text and of numbers."""
        del n_classes
        if profile.kind == "words":
            settings: dict[str, Any] = {"encode": "multihot", "min_frequency": 2}
            chosen, reason = "lists of words, a slot a word", "their type is a list of text"
        elif profile.kind != "numbers":
            return None
        elif profile.shortest == profile.longest and profile.longest <= _MAX_AUTO_PLACES:
            settings = {"encode": "slots"}
            chosen, reason = "lists of numbers, a slot a place", f"each has {profile.longest} numbers"
        else:
            settings = {"encode": "summary"}
            chosen, reason = "lists of numbers, summed up", f"they have {profile.shortest} to {profile.longest} numbers"
        return Choice(profile.name, "array", chosen, reason, settings, profile.figures)


def _places(name: str, size: int) -> Iterator[Scalar]:
    for place in range(size):
        value = f"CAST(get({quote_name(name)}, {place}) AS DOUBLE)"
        yield Scalar(f"{name}[{place}]", f"CASE WHEN abs({value}) < double('Infinity') THEN {value} END", "mean")


def _summary(name: str) -> Iterator[Scalar]:
    values = f"filter(transform({quote_name(name)}, v -> CAST(v AS DOUBLE)), v -> abs(v) < double('Infinity'))"
    total = f"aggregate({values}, 0.0D, (sum, v) -> sum + v * {format_double(_SHRINK)})"
    mean = f"{total} / nullif(CAST(size({values}) AS DOUBLE), 0.0D) / {format_double(_SHRINK)}"
    yield Scalar(f"{name}.size", f"CAST(size({quote_name(name)}) AS DOUBLE)", 0.0)
    yield Scalar(f"{name}.mean", mean)
    yield Scalar(f"{name}.min", f"array_min({values})")
    yield Scalar(f"{name}.max", f"array_max({values})")
