"""Rows checked by rules: counted in one pass, then kept, quarantined or dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.quality.expectations.conditions import no_null
from tidemill.quality.expectations.kinds import Measure
from tidemill.quality.expectations.rules import Rule


@dataclass(frozen=True)
class Latest:
    """Which of the rows with the same key stays: the one with the greatest value of ``by``; null is the least."""

    key: tuple[str, ...]
    by: str


def is_repeated(schema: T.StructType, columns: Sequence[str], is_candidate: Column, *, first: Latest | None = None) -> Column:
    """Return true for the rows that share the values of ``columns`` with a row that comes before them.

    Only rows that ``is_candidate`` holds for and that have no null in ``columns`` are compared. The first is the latest where that is asked
    for, then the one with the least hash of the whole row: rows that are alike in everything are the only ones left to chance.
    """
    is_compared = is_candidate & no_null(columns)
    order = [column(first.by).desc_nulls_last()] if first else []
    # Rows that are not compared are separate groups: many nulls would otherwise be one group, sorted by one task.
    alone = F.when(~is_compared, row_hash(schema))
    window = Window.partitionBy(*[column(name) for name in columns], alone).orderBy(*order, row_hash(schema))
    return is_compared & (F.row_number().over(window) > 1)


def row_hash(schema: T.StructType) -> Column:
    """Return a hash of all columns of a row. A null counts, which xxhash64 by itself passes over."""
    cells = [_hashable(field) for field in schema.fields]
    return F.xxhash64(*cells, F.array(*[column(field.name).isNull() for field in schema.fields]))


def _hashable(field: T.StructField) -> Column:
    is_plain = not isinstance(field.dataType, T.ArrayType | T.MapType | T.StructType | T.VariantType)
    return column(field.name) if is_plain else F.to_json(F.struct(column(field.name)), {"ignoreNullFields": "false"})


BROKEN = "__broken_rules"
FATE = "__fate"
KEPT, QUARANTINED, DROPPED, SUPERSEDED = "kept", "quarantined", "dropped", "superseded"
_FATES = (KEPT, QUARANTINED, DROPPED, SUPERSEDED)
_SAMPLES = 3
_KEEP_NULLS = {"ignoreNullFields": "false"}


@dataclass(frozen=True)
class ViolationCounts:
    """How many rows there are, what becomes of them, and how many break each rule.

    ``repeated_keys`` is the number of key values in more than one kept row, ``repeating_rows`` those rows beyond the first.
    ``dropped`` rows break a rule; ``superseded`` ones have a later row of the same key. ``measured`` holds the measures by name.
    """

    rows: int
    kept: int
    quarantined: int
    dropped: int
    failed: Mapping[str, int]
    repeated_keys: int
    repeating_rows: int
    superseded: int = 0
    measured: Mapping[str, object] = field(default_factory=dict)


def annotate_rows(
    df: DataFrame,
    rules: Sequence[Rule],
    references: Mapping[str, DataFrame] | None = None,
    latest: Latest | None = None,
    beside: Sequence[str] = (),
) -> DataFrame:
    """Return the rows with ``__broken_rules`` (their names; those of the kind ``unique`` come last) and ``__fate``.

    A row that breaks a rule to quarantine and one to drop is quarantined, so that nothing is lost that was to be looked at. Of the rows
    that are kept so far, ``latest`` leaves one a key, and only of those that are left does ``unique`` ask whether they repeat another: so
    a good row is never refused for the sake of one that is not in the table either.

    Args:
        df: the rows.
        rules: the rules for them.
        references: for each rule of the kind ``in_reference``, by its name, the values it allows: one column of the rule's type.
        latest: which of the rows with the same key stays.
        beside: columns that are not part of a row and do not decide which of several rows is the first.
    """
    names = df.columns
    schema = T.StructType([part for part in df.schema.fields if part.name not in beside])
    looked_up = df
    for rule in rules:
        if rule.looks_up:
            values = (references or {})[rule.name]
            allowed = values.select(column(values.columns[0]).alias(rule.match)).where(column(rule.match).isNotNull()).distinct()
            looked_up = looked_up.join(allowed, on=column(rule.columns[0]) == column(rule.match), how="left")
    broken = [F.when(rule.is_broken, F.lit(rule.name)) for rule in rules if rule.is_broken is not None]
    by_row = F.array_compact(F.array(*broken)) if broken else F.array().cast("array<string>")
    fate = F.when(_breaks(rules, "quarantine"), F.lit(QUARANTINED)).when(_breaks(rules, "drop"), F.lit(DROPPED)).otherwise(F.lit(KEPT))
    rows = looked_up.select(*to_columns(names), by_row.alias(BROKEN)).select("*", fate.alias(FATE))
    is_kept = F.col(FATE) == KEPT
    if latest is not None:
        is_older = is_repeated(schema, latest.key, is_kept, first=latest)
        rows = rows.select(*to_columns(names), BROKEN, F.when(is_older, F.lit(SUPERSEDED)).otherwise(F.col(FATE)).alias(FATE))
    for rule in rules:
        if rule.is_broken is None:
            rows = _without_repeats(rows, schema, rule, names)
    return rows


def to_columns(names: Sequence[str]) -> list[Column]:
    """Return the columns of exactly these names."""
    return [column(name) for name in names]


def count_violations(
    rows: DataFrame, rules: Sequence[Rule], key: Sequence[str], measures: Mapping[str, Measure] | None = None
) -> ViolationCounts:
    """Count judged rows, and take the measures of the kept ones, in one pass."""
    measures = measures or {}
    counts = {"rows": F.count(F.lit(1)), **{fate: F.count_if(F.col(FATE) == fate) for fate in _FATES}}
    counts |= {f"rule_{place}": F.count_if(F.array_contains(BROKEN, rule.name)) for place, rule in enumerate(rules)}
    measure_columns = {
        f"measure_{place}": measure.combine(F.when(F.col(FATE) == KEPT, measure.values)) for place, measure in enumerate(measures.values())
    }
    aggregates = [value.alias(name) for name, value in {**counts, **measure_columns}.items()]
    if key:
        # A count of each key first: the same pass then counts the repeated keys.
        twice = F.when(F.col(KEPT) > 1, F.col(KEPT))
        totals = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in counts]
        combined = [measure.combine(F.col(name)).alias(name) for name, measure in zip(measure_columns, measures.values(), strict=True)]
        repeated = [F.count(twice).alias("repeated"), F.coalesce(F.sum(twice), F.lit(0)).alias("repeating")]
        row = rows.groupBy(*to_columns(key)).agg(*aggregates).agg(*totals, *combined, *repeated).first()
    else:
        row = rows.agg(*aggregates, F.lit(0).alias("repeated"), F.lit(0).alias("repeating")).first()
    assert row is not None  # an aggregate without groups always has one row
    return ViolationCounts(
        rows=row["rows"],
        kept=row[KEPT],
        quarantined=row[QUARANTINED],
        dropped=row[DROPPED],
        failed={rule.name: row[f"rule_{place}"] for place, rule in enumerate(rules)},
        repeated_keys=row["repeated"],
        repeating_rows=row["repeating"] - row["repeated"],
        superseded=row[SUPERSEDED],
        measured={name: row[f"measure_{place}"] for place, name in enumerate(measures)},
    )


def select_kept_rows(rows: DataFrame) -> DataFrame:
    """Return the rows that pass, without the columns of `annotate_rows`."""
    return rows.where(F.col(FATE) == KEPT).drop(BROKEN, FATE)


def select_quarantined_rows(rows: DataFrame) -> DataFrame:
    """Return the quarantined rows: ``raw``, all columns as a JSON object with its nulls, and ``rules``, all that the row breaks."""
    columns = [column(name) for name in rows.columns if name not in (BROKEN, FATE)]
    raw = F.to_json(F.struct(*columns), _KEEP_NULLS)
    return rows.where(F.col(FATE) == QUARANTINED).select(raw.alias("raw"), F.col(BROKEN).alias("rules"))


def sample_violations(rows: DataFrame, rule: Rule, key: Sequence[str]) -> list[str]:
    """Return up to three rows that break the rule, as JSON: their keys and what the rule is about, else the whole row."""
    names = list(dict.fromkeys((*key, *rule.columns))) or [name for name in rows.columns if name not in (BROKEN, FATE)]
    broken = rows.where(F.array_contains(BROKEN, rule.name)).select(as_json(names).alias("sample")).limit(_SAMPLES)
    return [row["sample"][:200] for row in broken.collect()]


def sample_repeated_keys(rows: DataFrame, key: Sequence[str]) -> list[str]:
    """Return up to three key values that occur in more than one kept row, as JSON."""
    groups = rows.where(F.col(FATE) == KEPT).groupBy(*to_columns(key)).count().where("count > 1")
    ordered = groups.orderBy(*to_columns(key)).select(as_json(key).alias("sample")).limit(_SAMPLES)
    return [row["sample"] for row in ordered.collect()]


def _without_repeats(rows: DataFrame, schema: T.StructType, rule: Rule, names: Sequence[str]) -> DataFrame:
    """Return judged rows with the verdict of a rule of the kind ``unique``."""
    is_repeat = "__is_repeat"
    marked = rows.select("*", is_repeated(schema, rule.columns, F.col(FATE) == KEPT).alias(is_repeat))
    fate = {"quarantine": QUARANTINED, "drop": DROPPED}.get(rule.action, KEPT)
    return marked.select(
        *to_columns(names),
        F.when(F.col(is_repeat), F.array_append(F.col(BROKEN), F.lit(rule.name))).otherwise(F.col(BROKEN)).alias(BROKEN),
        F.when(F.col(is_repeat), F.lit(fate)).otherwise(F.col(FATE)).alias(FATE),
    )


def as_json(names: Sequence[str]) -> Column:
    """Return the columns of these names as a JSON object with its nulls."""
    return F.to_json(F.struct(*to_columns(names)), _KEEP_NULLS)


def _breaks(rules: Sequence[Rule], action: str) -> Column:
    names = [F.lit(rule.name) for rule in rules if rule.action == action]
    return F.arrays_overlap(F.col(BROKEN), F.array(*names)) if names else F.lit(False)
