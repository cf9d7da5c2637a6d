"""Which columns of a frame become features, and as what: declared, or told by their types."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import Fault, SpecError, did_you_mean
from tidemill.features.custom import CustomStage, plan_custom
from tidemill.features.names import OF_THE_DAY, number_sql
from tidemill.lake.names import quoted
from tidemill.spec.models import Categorical, Dataset, Datetime, Features, Numeric, Text

# Strings with more different values than this are no category unless they are declared as one.
AUTO_CATEGORIES = 100
_MARKS = ("split", "fold")

Group = TypeVar("Group", Numeric, Categorical, Datetime, Text)


@dataclass(frozen=True)
class FeaturePlan:
    """The groups of feature columns as resolved; None where a group has none. ``notes`` are remarks for people."""

    numeric: Numeric | None = None
    categorical: Categorical | None = None
    datetime: Datetime | None = None
    text: Text | None = None
    notes: tuple[str, ...] = ()
    custom: tuple[CustomStage, ...] = ()

    @property
    def columns(self) -> list[str]:
        """The raw columns that are used, each once, in order."""
        groups = (self.numeric, self.datetime, self.categorical, self.text, *self.custom)
        return list(dict.fromkeys(column for group in groups if group for column in group.columns))


def reserved_columns(dataset: Dataset) -> frozenset[str]:
    """Return the columns of a dataset that must never be features: key, label, what is excluded, the data's own split."""
    own = dataset.split_rule().column
    return frozenset([*dataset.key, dataset.label, *dataset.exclude, *([own] if own else [])])


def plan_features(
    features: Literal["auto"] | Features, df: DataFrame, *, exclude: Collection[str], load: Callable[[str], Any] | None = None
) -> FeaturePlan:
    """Resolve the feature groups against the columns of ``df``, reading it once.

    ``exclude`` are the key, the label and whatever else must not be a feature; ``split``, ``fold`` and names with ``_`` in front never are.
    ``load`` returns the object of a dotted name, for custom stages.

    Raises:
        SpecError: a declared column is not there, is excluded, or has a type that does not fit; or no column is left.
    """
    if features == "auto" or features.is_auto:
        drops = features == "auto" or features.checks is None or features.checks.constant == "drop"
        plan = _auto(df, [field for field in df.schema.fields if not is_reserved(field.name, exclude)], drops_constants=drops)
    else:
        plan = _declared(features, df, exclude)
        usable = [name for name in df.columns if not is_reserved(name, exclude)]
        plan = replace(plan, custom=tuple(plan_custom(features.custom, load, df, usable)))
    if not plan.columns and not plan.custom:
        left_out = " " + "; ".join(plan.notes) if plan.notes else ""
        raise SpecError([_fault("", f"no column of the dataset can be a feature; declare some under `features`.{left_out}")])
    return plan


def is_reserved(name: str, exclude: Collection[str]) -> bool:
    """Return True for a column that is never a feature: one of ``exclude``, a mark such as split, or one with ``_`` in front."""
    return name in exclude or name in _MARKS or name.startswith("_")


def kind_of(kind: T.DataType) -> str:
    """Return numeric, datetime, string or other."""
    if isinstance(kind, T.NumericType | T.BooleanType):
        return "numeric"
    if isinstance(kind, T.DateType | T.TimestampType | T.TimestampNTZType):
        return "datetime"
    return "string" if isinstance(kind, T.StringType) else "other"


def _auto(df: DataFrame, fields: list[T.StructField], *, drops_constants: bool) -> FeaturePlan:
    """Tell the groups from types; strings are categories while they are few, and what has one value in every row tells nothing."""
    kinds = {field.name: kind_of(field.dataType) for field in fields}
    values = {name: F.count(F.col(quoted(name))) for name, kind in kinds.items() if kind != "other"}
    texts = [name for name, kind in kinds.items() if kind == "string"]
    # Merging sketches takes the greatest of each register, so that the count is the same whatever the partitioning.
    sketches = [F.approx_count_distinct(F.col(quoted(name))) for name in texts]
    is_one = [F.min(F.col(quoted(name))).eqNullSafe(F.max(F.col(quoted(name)))).cast("int") for name in values]
    rows, counts = _count(df, [*values.values(), *sketches, *is_one])
    present = dict(zip(values, counts, strict=False))
    distinct = dict(zip(texts, counts[len(values) :], strict=False))
    constant = {name for name, one in zip(values, counts[len(values) + len(texts) :], strict=True) if one and present[name] == rows}
    groups: dict[str, list[str]] = {"numeric": [], "string": [], "datetime": []}
    notes = []
    for field in fields:
        name, different = field.name, distinct.get(field.name, 0)
        if kinds[name] == "other":
            reason = f"no feature is made of type {field.dataType.simpleString()}"
        elif not present[name]:
            reason = "it holds no value"
        elif drops_constants and name in constant:
            reason = "it holds one value in all training rows"
        elif different > min(AUTO_CATEGORIES, rows / 2):
            reason = f"about {different:,} different strings in {rows:,} rows; declare it under `features.categorical` to use it"
        else:
            groups[kinds[name]].append(name)
            continue
        notes.append(f"{name} is left out of the features: {reason}")
    # Not validated: a column's name may hold characters that the spec's own names may not.
    return FeaturePlan(
        Numeric.model_construct(columns=groups["numeric"]) if groups["numeric"] else None,
        Categorical.model_construct(columns=groups["string"]) if groups["string"] else None,
        Datetime.model_construct(columns=groups["datetime"]) if groups["datetime"] else None,
        notes=tuple(notes),
    )


def _declared(features: Features, df: DataFrame, exclude: Collection[str]) -> FeaturePlan:
    """Check the declared groups against the frame, all faults at once."""
    faults = []
    usable = [name for name in df.columns if not is_reserved(name, exclude)]
    for group, allowed in (
        ("numeric", ("numeric", "string")),
        ("categorical", None),
        ("datetime", ("datetime", "string")),
        ("text", ("string",)),
    ):
        declared = getattr(features, group)
        for name in declared.columns if declared else []:
            message = _unfit(df, name, exclude, usable, allowed)
            if message:
                faults.append(_fault(f"{group}.columns", message))
    if features.datetime and not faults:
        faults += _hours_of_dates(df, features.datetime)
    if faults:
        raise SpecError(faults)
    notes: list[str] = []
    if features.numeric:
        columns, impute = list(dict.fromkeys(features.numeric.columns)), features.numeric.impute
        _, counts = _count(df, [F.count(F.expr(number_sql(name))) for name in columns])
        stand_in = 0 if isinstance(impute, str) else impute
        if impute != "none":
            empty = [name for name, count in zip(columns, counts, strict=True) if not count]
            notes = [f"{name} holds no number; {stand_in} stands in for it" for name in empty]
    return FeaturePlan(
        numeric=_once(features.numeric),
        categorical=_once(features.categorical),
        datetime=_once(features.datetime),
        text=_once(features.text),
        notes=tuple(notes),
    )


def _once(group: Group | None) -> Group | None:
    return group.model_copy(update={"columns": list(dict.fromkeys(group.columns))}) if group else None


def _unfit(df: DataFrame, name: str, exclude: Collection[str], usable: Iterable[str], allowed: Collection[str] | None) -> str | None:
    """Return why the column cannot be in the group, None where it can."""
    if name not in df.columns:
        return f"column {name!r} is not in the dataset{did_you_mean(name, usable)}"
    if is_reserved(name, exclude):
        return f"column {name!r} is a key, the label, excluded, or a mark such as split; it cannot be a feature"
    kind = df.schema[name].dataType
    if allowed is not None and kind_of(kind) not in allowed:
        expected = "a number or a boolean" if "numeric" in allowed else "TIMESTAMP or DATE" if "datetime" in allowed else "STRING"
        return f"column {name!r} is of type {kind.simpleString()}; expected {expected}: CAST it in the SQL, or move it to another group"
    return None


def _hours_of_dates(df: DataFrame, group: Datetime) -> list[Fault]:
    """Return a fault for each DATE of which only parts of a day are wanted: there are none."""
    if set(group.parts) - OF_THE_DAY:
        return []
    dates = [name for name in group.columns if isinstance(df.schema[name].dataType, T.DateType)]
    wanted = " or ".join(group.parts)
    return [_fault("datetime.parts", f"column {name!r} is a DATE and has no {wanted}; add weekday or month") for name in dates]


def _count(df: DataFrame, counts: list[Column]) -> tuple[int, list[int]]:
    """Return the number of rows and each count, in one aggregate."""
    row = df.agg(F.count("*"), *counts).collect()[0]
    return int(row[0]), [int(count) for count in row[1:]]


def _fault(key: str, message: str) -> Fault:
    return Fault("pipeline.yml", None, f"features.{key}" if key else "features", message)
