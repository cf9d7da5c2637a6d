"""The two sides of a point-in-time join, as frames of one schema: the probe rows, and the facts of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column as col
from tidemill.dataset.time_axis import is_date_or_time, to_time_axis
from tidemill.errors import Fault, did_you_mean

FACT, PROBE, LATE = 0, 1, 2
"""The order of events at one instant: facts known by then, probe rows, and what counts only after the instant."""


@dataclass(frozen=True)
class Unit:
    """The types in which both sides are compared: ``bigint`` or ``double`` for times, and one type per key column."""

    time: str
    keys: tuple[T.DataType, ...]


@dataclass(frozen=True)
class JoinSpec:
    """How a lookup or an aggregate joins a table: its key in the spec, the columns both sides share, and the time columns."""

    key: str
    by: Sequence[str]
    event_time: str
    time: str
    known_at: str | None

    @property
    def keys(self) -> list[str]:
        """The names of the key columns in the common schema."""
        return [f"k{number}" for number in range(len(self.by))]

    def faults(self, rows: DataFrame, facts: DataFrame) -> list[Fault]:
        """Return every fault of the shared columns and the time columns."""
        faults = [self._missing("by", name, rows.columns, "the dataset") for name in self.by if name not in rows.columns]
        faults += [self._missing("by", name, facts.columns, "its table") for name in self.by if name not in facts.columns]
        for field, name in (("time", self.time), ("known_at", self.known_at)):
            if name is not None and name not in facts.columns:
                faults.append(self._missing(field, name, facts.columns, "its table"))
        if faults or self.event_time not in rows.columns:
            return faults
        for name in self.by:
            here, there = rows.schema[name].dataType, facts.schema[name].dataType
            if not _is_comparable(here, there):
                message = (
                    f"{name} is of type {here.simpleString()} in the dataset and {there.simpleString()} in the table; CAST one of them"
                )
                faults.append(self.fault("by", message))
        for field, name in (("time", self.time), ("known_at", self.known_at)):
            if name is not None:
                faults += self._time_faults(field, name, rows.schema[self.event_time].dataType, facts.schema[name].dataType)
        return faults

    def _time_faults(self, field: str, name: str, event_kind: T.DataType, kind: T.DataType) -> list[Fault]:
        if not (is_date_or_time(kind) or isinstance(kind, T.NumericType)):
            return [self.fault(field, f"{name} is of type {kind.simpleString()}; expected TIMESTAMP, DATE or a number: CAST it")]
        if is_date_or_time(kind) != is_date_or_time(event_kind):
            message = f"{name} is of type {kind.simpleString()}, and event_time {self.event_time} of type {event_kind.simpleString()}"
            return [self.fault(field, f"{message}; expected both to be times or both to be numbers")]
        return []

    def _missing(self, field: str, name: str, columns: Sequence[str], where: str) -> Fault:
        return self.fault(field, f"column {name!r} is not in {where}{did_you_mean(name, columns)}")

    def fault(self, field: str, message: str) -> Fault:
        """Return a fault at a key of the block."""
        return Fault("pipeline.yml", None, f"dataset.{self.key}.{field}", message)

    def unit(self, rows: DataFrame, facts: DataFrame) -> Unit:
        """Return the types in which both sides are compared."""
        used = [(rows, self.event_time), (facts, self.time), *([(facts, self.known_at)] if self.known_at else [])]
        exact = (*(T.DateType, T.TimestampType, T.TimestampNTZType), T.IntegralType)
        time = "bigint" if all(isinstance(frame.schema[name].dataType, exact) for frame, name in used) else "double"
        return Unit(time, tuple(_common_type(rows.schema[name].dataType, facts.schema[name].dataType) for name in self.by))

    def probes(self, rows: DataFrame, unit: Unit) -> DataFrame:
        """Return the probe rows: the keys, ``at`` and ``row``; a row without a key or a time has null for ``at``."""
        at = F.when(self._has_key(), to_time_axis(rows, self.event_time).cast(unit.time))
        return rows.select(*self._keys(unit), at.alias("at"), F.struct(*[col(name) for name in rows.columns]).alias("row"))

    def facts(self, table: DataFrame, unit: Unit, *values: Column) -> DataFrame:
        """Return the rows of the table that have a key and times: the keys, ``time``, ``at`` (when it is past and known) and ``values``."""
        time = to_time_axis(table, self.time).cast(unit.time)
        known = to_time_axis(table, self.known_at).cast(unit.time) if self.known_at else time
        is_usable = self._has_key() & time.isNotNull() & known.isNotNull()
        return table.where(is_usable).select(*self._keys(unit), time.alias("time"), F.greatest(time, known).alias("at"), *values)

    def _keys(self, unit: Unit) -> list[Column]:
        return [col(name).cast(kind).alias(key) for key, name, kind in zip(self.keys, self.by, unit.keys, strict=True)]

    def _has_key(self) -> Column:
        has_key = F.lit(True)
        for name in self.by:
            has_key = has_key & col(name).isNotNull()
        return has_key


def _is_comparable(here: T.DataType, there: T.DataType) -> bool:
    if isinstance(here, T.NumericType) and isinstance(there, T.NumericType):
        return True
    if is_date_or_time(here) and is_date_or_time(there):
        return True
    return here == there or (isinstance(here, T.StringType) and isinstance(there, T.StringType))


def _common_type(here: T.DataType, there: T.DataType) -> T.DataType:
    """Return the type to which both are cast, so that equal values have equal hashes."""
    if here == there:
        return here
    if is_date_or_time(here):
        return T.TimestampType()
    if isinstance(here, T.StringType):
        return T.StringType()
    if isinstance(here, T.IntegralType) and isinstance(there, T.IntegralType):
        return T.LongType()
    if isinstance(here, T.FloatType | T.DoubleType) or isinstance(there, T.FloatType | T.DoubleType):
        return T.DoubleType()
    return T.DecimalType(38, max(kind.scale if isinstance(kind, T.DecimalType) else 0 for kind in (here, there)))
