"""What a feature group declares: its options, the columns it takes, and what its blocks add to the features."""

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
"""The kinds of columns that hold one value that can be written as text."""


class ColumnBlock(Block):
    """Base of the options of a group: the columns, to which a group adds keys of its own."""

    columns: list[ColumnName] = Field(min_length=1)


@dataclass(frozen=True)
class RowFacts:
    """What a group reads from the training rows before anything is learnt.

    ``notes`` are remarks for people, ``sizes`` the lengths of lists of numbers, ``faults`` pairs of a key of the block and what is wrong.
    """

    notes: Sequence[str] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    faults: Sequence[tuple[str, str]] = ()


class FeatureGroup(ABC):
    """One kind of block under `features`.

    ``options`` is the frozen pydantic model of a block. ``accepts`` are the kinds of columns that it takes (see `ColumnFacts`), None for
    all, and ``expected`` says so in words. ``columns_key`` is the key that names the columns. ``read_as`` is the SQL type, and its words,
    that text is read as. ``owns_slot_name`` is True where the slot of a column has the column's name, so that a column can be in one
    such group alone; ``allows_repeats`` where a column may be named several times; ``is_list`` where the spec always has a list of blocks.
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
        """Return what the blocks of a spec add; every column is there and of a kind that the group accepts."""

    def columns(self, block: Any) -> list[str]:
        """Return the raw columns that a block reads."""
        return list(block.columns)

    def check(self, block: Any, columns: ColumnFacts) -> Iterator[tuple[str, str]]:
        """Yield the faults of a block beside the kinds of its columns: the key below the group, and what is wrong."""
        del block, columns
        return iter(())

    def aggregates(self, block: Any, columns: ColumnFacts) -> Mapping[str, str]:
        """Return SQL aggregates over the training rows that `row_facts` wants, by names of the group's own."""
        del block, columns
        return {}

    def row_facts(self, block: Any, values: Mapping[str, Any]) -> RowFacts:
        """Return what follows from the values of `aggregates`."""
        del block, values
        return RowFacts()

    def choose(self, profile: ColumnProfile, n_classes: int | None) -> Choice | None:
        """Return how `features: auto` uses a column, or that it leaves it out; None where this group has nothing to say of it.

        ``n_classes`` is that of the label: 0 for a number, None where no label is learned.
        """
        del profile, n_classes
        return None

    def complete_choices(self, choices: Sequence[Choice]) -> list[Choice]:
        """Return the choices of `auto` for this group with what depends on all of them."""
        return list(choices)

    def needs_label(self, block: Any) -> bool:
        """Return True where the block makes features of the label of other rows."""
        del block
        return False

    def treatment(self, block: Mapping[str, Any]) -> str:
        """Return what must differ where a column stands in two blocks of the group; ``block`` is as it is written."""
        del block
        return ""

    def signed_slots(self, block: Mapping[str, Any]) -> str:
        """Return which slots of the block may be below 0 and what to do about it, "" where none is; ``block`` is as it is written."""
        del block
        return ""
