"""Which columns of a table take their values from a key of another one: what profiles allow, and what speaks for it beyond chance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemill.columns import column
from tidemill.quality.profiling.keys import is_looked_up
from tidemill.quality.profiling.profile import ColumnProfile

MISSING = 0.01
"""Up to this share of the rows with a value the reference may lack it, and a rule is still proposed."""

TOLD = 0.05
"""Up to this share it is worth a remark."""

_UPPER = 0.95  # 1 - TOLD, both among the quantiles of a profile
_CHANCE = 1e-3
_LETTERS = 26
_ESTIMATE = 1.1  # of distinct values, which may be an estimate
_TELLS_NOTHING = frozenset({"id", "key", "code", "no", "nr", "number", "name", "uuid"})
_NUMBERS = re.compile(r"[\d\s.,:/+-]*")


@dataclass(frozen=True)
class Reference:
    """A column that may be the key of its table."""

    table: str
    profile: ColumnProfile

    @property
    def name(self) -> str:
        """The name as ``in_reference`` takes it: ``silver.airports.faa``."""
        return f"{self.table}.{self.profile.column}"


@dataclass(frozen=True)
class Pair:
    """A column and a reference that may hold all its values."""

    column: ColumnProfile
    reference: Reference

    @property
    def is_named_alike(self) -> bool:
        """Whether the column's name says that it means the reference."""
        return is_named_after(self.column.column, self.reference.table, self.reference.profile.column)


@dataclass(frozen=True)
class Match:
    """How far a reference holds the values of a column: values and rows of the column, those not in it, the most frequent of them."""

    pair: Pair
    values: int
    missing_values: int
    missing_rows: int
    missing: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The rows whose value is missing, as a share of those that hold one."""
        return self.missing_rows / (self.pair.column.rows - self.pair.column.nulls)


def pair_columns(columns: Sequence[ColumnProfile], references: Sequence[Reference], unique: Sequence[str]) -> list[Pair]:
    """Return the pairs that the profiles allow and that names or values support.

    A column that is unique in its own table (``unique``) is paired by name alone, and only with references of more values than it has:
    of two keys with the same values neither refers to the other.
    """
    candidates = []
    for each in columns:
        if not is_looked_up(each.type) or not each.distinct:
            continue
        for reference in references:
            pair = Pair(each, reference)
            speaks = pair.is_named_alike or (_is_wordy(each) and each.column not in unique)
            is_own_key = each.column in unique and each.rows >= reference.profile.rows
            if speaks and not is_own_key and _is_possible(each, reference.profile):
                candidates.append(pair)
    return candidates


def select_evident_matches(matches: Sequence[Match]) -> list[Match]:
    """Return the matches to report: of references that contain nearly all the rows, and not by chance."""
    return [match for match in matches if match.share <= TOLD and match.missing_values < match.values and _is_evident(match)]


def select_best_matches(matches: Sequence[Match], most_missing: float) -> dict[str, Match]:
    """Return for each column the reference to propose, where one lacks at most this share of its rows.

    Silver tables go before bronze ones, then those that lack the fewest rows, those named alike, and those with the fewest other values.
    """
    best: dict[str, Match] = {}
    for match in sorted((match for match in matches if match.share <= most_missing), key=_rank):
        best.setdefault(match.pair.column.column, match)
    return best


def _is_evident(match: Match) -> bool:
    """Return True where the names say it, or where so many words would hardly be found there by chance.

    Of all words as long as the column's, the reference holds some share at most. Were they drawn at random, each would be found with
    this chance, so that 3 airports of 1,458 with 3 letters say little more than is asked for here, and 3 grades among 26 letters nothing.
    """
    if match.pair.is_named_alike:
        return True
    possible_words = _LETTERS ** (match.pair.column.summary.mean_length or 0.0)
    return min(1.0, match.pair.reference.profile.rows / possible_words) ** (match.values - match.missing_values) < _CHANCE


def is_named_after(name: str, table: str, key: str) -> bool:
    """Return True where a column's name says that it means the column ``key`` of ``table``, perhaps with a word in front.

    ``carrier`` means airlines.carrier, ``home_customer_id`` customers.id and customers.customer_id; ``id`` says nothing, and
    ``customer_age`` something else.
    """
    own, wanted, noun = _words(name), _words(key), _words(table.partition(".")[2])
    core = _core(wanted)
    tail = wanted[len(core) :]
    meant = [core] if core else [noun]
    return any(_ends_with(own, [*words, *end]) for words in meant if words for end in (tail, []))


def _ends_with(words: list[str], end: list[str]) -> bool:
    return words[-len(end) :] == end


def _core(words: list[str]) -> list[str]:
    """Return the words without those at the end that every key may be called by."""
    size = len(words)
    while size and words[size - 1] in _TELLS_NOTHING:
        size -= 1
    return words[:size]


def _words(name: str) -> list[str]:
    return [_singular(word.lower()) for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", name)]


def _singular(word: str) -> str:
    for ending, one in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("ss", "ss"), ("us", "us"), ("s", "")):
        if len(word) > len(ending) + 1 and word.endswith(ending):
            return word[: -len(ending)] + one
    return word


def _is_wordy(each: ColumnProfile) -> bool:
    """Return True for texts that are words: numbers and dates lie in any range of others, written out or not."""
    top = each.top_values
    return each.type == "string" and bool(top) and not all(_NUMBERS.fullmatch(value) for value, _ in top or ())


def _is_possible(each: ColumnProfile, key: ColumnProfile) -> bool:
    """Return False where the profiles rule out that nearly all rows hold a value of the key."""
    if (each.type == "string") != (key.type == "string"):
        return False
    rows = each.rows - each.nulls
    if (each.distinct or 0) > key.rows * _ESTIMATE + rows * TOLD:
        return False
    return all(not (low is not None and high is not None and low > high) for low, high in _ends(each, key))


def _ends(each: ColumnProfile, key: ColumnProfile) -> Iterator[tuple[Any, Any]]:
    """Yield pairs of ends; where the first lies above the second, nearly all rows hold a value of the key no longer.

    Of numbers a few may lie outside: it is the rows between two quantiles that must not.
    """
    mine, other = each.summary, key.summary
    if each.type == "string":
        yield from ((mine.min, other.max), (other.min, mine.max), (mine.min_length, other.max_length), (other.min_length, mine.max_length))
    elif mine.quantiles is not None:
        yield from ((other.low, mine.quantiles[TOLD]), (mine.quantiles[_UPPER], other.high))


def _rank(match: Match) -> tuple[bool, float, bool, int, str]:
    reference = match.pair.reference
    return (
        not reference.table.startswith("silver."),
        match.missing_rows,
        not match.pair.is_named_alike,
        reference.profile.rows,
        reference.name,
    )


_TOLD = 3


def look_up(df: DataFrame, pairs: Sequence[Pair], tables: Mapping[str, DataFrame]) -> list[Match]:
    """Return how far each reference holds the values of its column, null passed over; ``tables`` are the references', by name.

    A value that occurs in ``df`` many times is looked up once. Texts and whole numbers are the same as text where they are equal.
    """
    references = list(dict.fromkeys(pair.reference.name for pair in pairs))
    names = list(dict.fromkeys(pair.column.column for pair in pairs))
    references_of = [[references.index(pair.reference.name) for pair in pairs if pair.column.column == name] for name in names]
    cells = [F.struct(F.lit(place).alias("place"), column(name).cast("string").alias("value")) for place, name in enumerate(names)]
    values = df.select(F.explode(F.array(*cells)).alias("cell")).select("cell.*").where("value IS NOT NULL")
    counted = values.groupBy("place", "value").agg(F.count(F.lit(1)).alias("n"))
    of_place = F.array(*[F.array(*[F.lit(number) for number in numbers]) for numbers in references_of])
    lookups = counted.select("place", "value", "n", F.explode(of_place[F.col("place")]).alias("key"))
    known = _values({pair.reference.name: pair.reference for pair in pairs}, tables).select("key", "value", F.lit(True).alias("is_known"))
    is_missing = F.col("is_known").isNull()
    missing = F.expr(f"min_by(value, named_struct('is_known', is_known IS NOT NULL, 'rank', -n, 'value', value), {_TOLD})")
    counts = (
        lookups.join(known, on=["key", "value"], how="left")
        .groupBy("place", "key")
        .agg(
            F.count(F.lit(1)).alias("values"),
            F.count_if(is_missing).alias("missing_values"),
            F.coalesce(F.sum(F.when(is_missing, F.col("n"))), F.lit(0)).alias("missing_rows"),
            missing.alias("missing"),
        )
    )
    rows = {(names[row["place"]], references[row["key"]]): row for row in counts.collect()}
    matches = []
    for pair in pairs:
        row = rows[pair.column.column, pair.reference.name]
        examples = tuple(row["missing"][: row["missing_values"]])
        matches.append(Match(pair, row["values"], row["missing_values"], row["missing_rows"], examples))
    return matches


def find_repeating_references(references: Sequence[Reference], tables: Mapping[str, DataFrame]) -> set[str]:
    """Return the names of the references that contain a value twice and thus are no keys."""
    by_name = {reference.name: reference for reference in references}
    counts = _values(by_name, tables).groupBy("key").agg(F.max("times").alias("times")) if by_name else None
    names = list(by_name)
    return {names[row["key"]] for row in counts.collect() if row["times"] > 1} if counts is not None else set()


def _values(references: Mapping[str, Reference], tables: Mapping[str, DataFrame]) -> DataFrame:
    """Return the values of all references as text with the number of the reference, each once, and how often it occurs."""
    selected = [
        tables[reference.table].select(F.lit(number).alias("key"), column(reference.profile.column).cast("string").alias("value"))
        for number, reference in enumerate(references.values())
    ]
    return reduce(DataFrame.unionAll, selected).groupBy("key", "value").agg(F.count(F.lit(1)).alias("times"))
