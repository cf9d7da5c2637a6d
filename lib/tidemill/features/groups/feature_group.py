"""The base class of feature groups: options, accepted columns, and contributions to the features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from tidemill.features.contributions import ColumnFacts, Contribution
from tidemill.options import Block, ColumnName

if TYPE_CHECKING:
    from tidemill.features.choices import Choice, ColumnProfile

NUMBERS = frozenset({"numeric", "boolean", "string"})
"""The kinds of columns that can be read as numbers."""
PLAIN_VALUES = NUMBERS | {"datetime"}
"""The kinds of columns whose values can be written as text."""


class ColumnBlock(Block):
    """Base class of a group's options: the columns, to which a group adds its own keys."""

    columns: list[ColumnName] = Field(min_length=1)


@dataclass(frozen=True)
class RowFacts:
    """What a group reads from the training rows before fitting.

    ``notes`` are for the user, ``sizes`` the lengths of lists of numbers, ``faults`` pairs of a key of the block and a message.
    """

    notes: Sequence[str] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    faults: Sequence[tuple[str, str]] = ()


class FeatureGroup(ABC):
    """One kind of block under `features`.

    ``options`` is the frozen pydantic model of a block. ``accepts`` are the kinds of columns that it accepts (see `ColumnFacts`), None for
    all, and ``expected`` describes them. ``columns_key`` is the key that names the columns. ``read_as`` is the SQL type that text is read
    as, and its description. ``owns_slot_name`` is True if a column's slot has the column's name, so that a column can be in only one such
    group; ``allows_repeats`` if a column may be named several times; ``is_list`` if the spec always has a list of blocks.
    """

    options: ClassVar[type[Block]]
    accepts: ClassVar[frozenset[str] | None] = None
    expected: ClassVar[str] = ""
    columns_key: ClassVar[str] = "columns"
    read_as: ClassVar[tuple[str, str] | None] = None
    owns_slot_name: ClassVar[bool] = False
    allows_repeats: ClassVar[bool] = False
    is_list: ClassVar[bool] = False

    @abstractmethod
    def contribute(self, blocks: Sequence[Any], columns: ColumnFacts) -> Contribution:
        """Return the contribution of the blocks; every column exists and is of an accepted kind."""

    def columns(self, block: Any) -> list[str]:
        """Return the raw columns that a block reads."""
        return list(block.columns)

    def check(self, block: Any, columns: ColumnFacts) -> Iterator[tuple[str, str]]:
        """Yield the faults of a block, other than the kinds of its columns: the key below the group, and a message."""
        del block, columns
        return iter(())

    def aggregates(self, block: Any, columns: ColumnFacts) -> Mapping[str, str]:
        """Return SQL aggregates over the training rows for `row_facts`, by names that the group chooses."""
        del block, columns
        return {}

    def row_facts(self, block: Any, values: Mapping[str, Any]) -> RowFacts:
        """Return the facts from the values of `aggregates`."""
        del block, values
        return RowFacts()

    def choose(self, profile: ColumnProfile, n_classes: int | None) -> Choice | None:
        """Return how `features: auto` uses or leaves out a column; None if this group does not handle it.

        ``n_classes`` is the label's number of classes: 0 for a number, None if no label is learned.
        """
        del profile, n_classes
        return None

    def complete_choices(self, choices: Sequence[Choice]) -> list[Choice]:
        """Return the choices of `auto` for this group, completed by settings that depend on all of them."""
        return list(choices)

    def needs_label(self, block: Any) -> bool:
        """Return True if the block computes features from the label of other rows."""
        del block
        return False

    def treatment(self, block: Mapping[str, Any]) -> str:
        """Return what must differ between two blocks of the group with the same column; ``block`` is as written in the spec."""
        del block
        return ""

    def signed_slots(self, block: Mapping[str, Any]) -> str:
        """Return which slots of the block may be negative, and the remedy, "" if none; ``block`` is as written in the spec."""
        del block
        return ""
