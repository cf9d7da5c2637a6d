"""The types of SQL expressions, as far as they do not depend on Spark; None if unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

Kind = exp.DataType.Type
TypeOf = Callable[[exp.Column], exp.DataType | None]
"""Returns the type of a column, None if it is not known."""

_WHOLE = (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT)
_GROUPS = {
    **dict.fromkeys((*_WHOLE, Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL), "numeric"),
    Kind.BOOLEAN: "boolean",
    **dict.fromkeys((Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.TIMESTAMPLTZ, Kind.TIMESTAMPNTZ), "datetime"),
    **dict.fromkeys((Kind.TEXT, Kind.VARCHAR, Kind.CHAR), "string"),
    **dict.fromkeys((Kind.STRUCT, Kind.MAP, Kind.BINARY, Kind.VARIANT), "other"),
}
_OF_LISTS = {"numeric": "numbers", "boolean": "numbers", "string": "words", "datetime": "other", "other": "other"}
_NAMED = {
    "boolean": "BOOLEAN", "byte": "TINYINT", "short": "SMALLINT", "integer": "INT", "int": "INT", "long": "BIGINT", "float": "FLOAT",
    "double": "DOUBLE", "string": "STRING", "date": "DATE", "timestamp": "TIMESTAMP", "timestamp_ntz": "TIMESTAMP_NTZ", "binary": "BINARY",
}  # fmt: skip
_CONDITIONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.Is, exp.In, exp.Between, exp.Not, exp.And, exp.Or,
               exp.Like, exp.ILike, exp.RegexpLike)  # fmt: skip
_FIXED: tuple[tuple[tuple[type[exp.Expr], ...], str], ...] = (
    (_CONDITIONS, "BOOLEAN"),
    ((exp.Count, exp.RowNumber), "BIGINT"),
    ((exp.Upper, exp.Lower), "STRING"),
    ((exp.CurrentDate, exp.TsOrDsToDate), "DATE"),
    ((exp.CurrentTimestamp,), "TIMESTAMP"),
    ((exp.Year, exp.Month, exp.Hour, exp.Minute, exp.Length), "INT"),
)


def named_type(name: object) -> exp.DataType | None:
    """Return a simple type by its name in Delta and in Spark's JSON schemas, None for any other."""
    if isinstance(name, str) and name.startswith("decimal("):
        return exp.DataType.build(name, dialect="databricks")
    return exp.DataType.build(_NAMED[name], dialect="databricks") if isinstance(name, str) and name in _NAMED else None


def type_group(kind: exp.DataType | None) -> str | None:
    """Return what a column of this type holds: numeric, boolean, datetime, string, words, numbers, other, or None if that is not known."""
    if kind is not None and kind.this == Kind.ARRAY:
        return _OF_LISTS.get(type_group(kind.expressions[0]) or "") if kind.expressions else None
    return None if kind is None else _GROUPS.get(kind.this)


def expression_type(part: exp.Expr, type_of: TypeOf) -> exp.DataType | None:
    """Return the type of an expression over one row, None if it is not certain."""
    if isinstance(part, exp.Alias | exp.Paren | exp.Max | exp.Min):
        return expression_type(part.this, type_of)
    if isinstance(part, exp.Column):
        return type_of(part)
    if isinstance(part, exp.Cast):  # TRY_CAST too
        return part.to
    if isinstance(part, exp.Literal):
        return exp.DataType.build("STRING" if part.is_string else "DOUBLE" if "." in part.name else "INT", dialect="databricks")
    if isinstance(part, exp.Boolean):
        return exp.DataType.build("BOOLEAN", dialect="databricks")
    if isinstance(part, exp.Coalesce):
        return _common_type([part.this, *part.expressions], type_of)
    if isinstance(part, exp.Case):
        return _common_type([*(each.args["true"] for each in part.args["ifs"]), part.args.get("default")], type_of)
    if isinstance(part, exp.If):
        return _common_type([part.args["true"], part.args.get("false")], type_of)
    return next((exp.DataType.build(kind, dialect="databricks") for classes, kind in _FIXED if isinstance(part, classes)), None)


def _common_type(parts: Sequence[exp.Expr | None], type_of: TypeOf) -> exp.DataType | None:
    """Return the common type of all branches, ignoring NULL; None if they differ."""
    kinds = [expression_type(part, type_of) for part in parts if part is not None and not isinstance(part, exp.Null)]
    return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else None
