"""The columns that are checked: those that would become features, by how they can be checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyspark.sql import types as T

from tidemill.features.column_facts import is_reserved, kind_of, reserved_columns
from tidemill.spec.models import Checks, Dataset, Features


@dataclass(frozen=True)
class CheckedColumns:
    """The checked columns.

    ``numbers`` and ``values`` (text, booleans, anything that can be compared) may leak the label through their values, ``instants`` and
    ``others`` only by being null.
    """

    numbers: tuple[str, ...]
    values: tuple[str, ...]
    instants: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def grouped(self) -> tuple[str, ...]:
        """The columns whose values are checked, in the order of their places."""
        return (*self.numbers, *self.values)

    @property
    def all(self) -> tuple[str, ...]:
        """Every checked column."""
        return (*self.numbers, *self.values, *self.instants, *self.others)


def checks_of(features: Literal["auto"] | Features) -> Checks:
    """Return the declared checks, or the default ones."""
    return Checks() if features == "auto" or features.checks is None else features.checks


def select_checked_columns(schema: T.StructType, dataset: Dataset, features: Literal["auto"] | Features) -> CheckedColumns:
    """Return the columns of the dataset that would become features: the declared ones, or with ``auto`` all that are not reserved.

    ``event_time`` is not checked: it is known for every row.
    """
    reserved = {*reserved_columns(dataset), *([dataset.event_time] if dataset.event_time else [])}
    declared = None if features == "auto" or features.is_open else set(features.columns)
    fields = [field for field in schema.fields if not is_reserved(field.name, reserved) and (declared is None or field.name in declared)]
    kinds = {field.name: _kind(field.dataType) for field in fields}
    return CheckedColumns(*(_names_of_kind(kinds, kind) for kind in ("number", "value", "instant", "other")))


def _kind(kind: T.DataType) -> str:
    if isinstance(kind, T.NumericType):
        return "number"
    if kind_of(kind) == "datetime":
        return "instant"
    return "value" if isinstance(kind, T.StringType | T.BooleanType | T.BinaryType | T.ArrayType | T.StructType) else "other"


def _names_of_kind(kinds: dict[str, str], chosen_kind: str) -> tuple[str, ...]:
    return tuple(name for name, kind in kinds.items() if kind == chosen_kind)
