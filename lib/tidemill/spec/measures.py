"""The functions of ``dataset.aggregates``: ``count`` and ``avg(arr_delay)``, taken apart by the SQL parser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FUNCTIONS = ("count", "sum", "avg", "min", "max", "stddev")
_ALIKE = {"mean": "avg", "std": "stddev", "stddev_samp": "stddev"}
_ARITHMETIC = ("sum", "avg", "stddev")


@dataclass(frozen=True)
class Measure:
    """One feature: the function, and the SQL of what it is of (empty for ``count`` of rows) with the columns that names."""

    function: str
    of: str = ""
    columns: tuple[str, ...] = ()

    @property
    def is_arithmetic(self) -> bool:
        """True where it is of numbers alone."""
        return self.function in _ARITHMETIC

    @property
    def is_extreme(self) -> bool:
        """True for the least and the greatest value."""
        return self.function in ("min", "max")


def parse_measure(text: str) -> Measure:
    """Return the measure that ``text`` writes.

    Raises:
        ValueError: it is no function of ``FUNCTIONS`` of one plain expression; the message says what was expected.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(text, dialect="databricks")
    except (SqlglotError, RecursionError):
        raise ValueError(f"{text!r} does not parse as SQL; {_expected()}") from None
    bare = text.strip()
    name, _, rest = bare.partition("(")
    function = _ALIKE.get(name.strip().lower(), name.strip().lower())
    if function == "count" and "".join(rest.split()) in ("", ")", "*)"):
        return Measure("count")
    if function not in FUNCTIONS or not isinstance(tree, exp.Func) or not bare.endswith(")"):
        from tidemill.errors import did_you_mean

        raise ValueError(f"expected one of {', '.join(FUNCTIONS)} of a column, found {text!r}{did_you_mean(function, FUNCTIONS)}")
    if tree.find(exp.Distinct) or len([part for part in tree.iter_expressions() if part is not None]) > 1:
        raise ValueError(f"{text!r}: {function} takes one column or expression here, and no DISTINCT; {_expected()}")
    if tree.find(exp.Subquery, exp.Select, exp.Window) or any(part is not tree for part in tree.find_all(exp.AggFunc)):
        raise ValueError(f"{text!r}: {function} takes an expression of one row here, without subquery, window or another aggregate")
    columns = tuple(dict.fromkeys(column.name for column in tree.find_all(exp.Column)))
    return Measure(function, rest.strip()[:-1].strip(), columns)


def measures(features: Mapping[str, str]) -> dict[str, Measure]:
    """Return the features' measures by name."""
    return {name: parse_measure(text) for name, text in features.items()}


def column_name(feature: str, window: str | int | float) -> str:
    """Return the name of a feature's column: ``flights`` over ``1d`` is ``flights_1d``."""
    return f"{feature}_{''.join(str(window).split()).replace('.', '_')}"


def column_names(features: Mapping[str, str], windows: Sequence[str | int | float]) -> list[str]:
    """Return the names of a block's columns: for each feature, a column for each window."""
    return [column_name(feature, window) for feature in features for window in windows]


def _expected() -> str:
    return "expected `count`, or a function of a column such as avg(arr_delay)"
