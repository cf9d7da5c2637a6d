"""Expectations of tables and sources: one rule each, of a kind of `EXPECTATION_KINDS`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError, create_model
from pydantic_core import InitErrorDetails

from tidemill.errors import UsageError
from tidemill.options import REFERENCE as REFERENCE  # noqa: PLC0414 - part of the models' interface
from tidemill.options import Block, ColumnName, Problem
from tidemill.quality.expectations.kinds import EXPECTATION_KINDS, ExpectationKind

BUILT_IN = EXPECTATION_KINDS.all_built_in()
ROW_KINDS = tuple(name for name, kind in BUILT_IN.items() if kind.judges_rows)

RECORD_RULES = frozenset(
    {"duplicate_key", "field_count", "invalid_bytes", "key", "not_an_object", "not_json", "not_xml", "nul", "repeated_header",
     "too_deep", "unclosed_quote", "unreadable"}
)  # fmt: skip
"""The built-in rules of readers, besides those with a colon in their names, such as ``cast:<column>``."""


def _share_or_count(value: object) -> object:
    """Refuse a value that is neither a share nor a count."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value < 0 or (isinstance(value, float) and not value <= 1):  # type: ignore[operator]
        raise ValueError(f"expected a share of the rows such as 0.01, or a whole number of rows such as 20, found {value!r}")
    return value


# A whole number without a point counts rows, so that `1` is one row and `1.0` all of them; 0 is none either way.
Allowed = Annotated[Annotated[int, Field(ge=1)] | Annotated[float, Field(ge=0, le=1)], BeforeValidator(_share_or_count)]


class ExpectationBlock(Block):
    """One rule of a table, of exactly one kind.

    ``check``, ``not_null``, ``in_reference`` and ``unique`` judge rows: those that break one are kept, dropped or quarantined, or fail the
    step. ``row_count``, ``freshness``, ``sum`` and ``distribution`` judge the table that would be written: they warn or fail. A kind of
    one's own stands under its dotted path, or under the name that an installed package gives it.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False, "patternProperties": {r"\.": {}}})

    column: ColumnName | None = Field(default=None, description="in_reference: the column that is looked up")
    on_violation: Literal["warn", "drop", "quarantine", "fail"] = "warn"
    at_most: Allowed | None = Field(
        default=None,
        description="how many rows may break the rule before the step fails: a share (0.01, 1.0), or a whole number of rows (1, 20)",
    )
    _rule: ExpectationKind = PrivateAttr()

    @property
    def rule(self) -> ExpectationKind:
        """The kind with its options."""
        return self._rule

    @property
    def kind(self) -> str:
        """The kind of the rule, such as ``unique``."""
        return self._rule.name

    @property
    def reads(self) -> tuple[str, str] | None:
        """The other table that the rule reads, and its column; None if there is none."""
        return self._rule.reads

    def problems(self) -> Iterator[Problem]:
        """Yield faults of the rule, and store the rule."""
        rules = {name: getattr(self, name) for name in BUILT_IN if getattr(self, name) is not None} | dict(self.model_extra or {})
        _refuse_unknown_keys(rules)
        if len(rules) > 1:
            yield (), f"holds `{'` and `'.join(rules)}`; an expectation is one rule, so make one of each"
        if not rules:
            yield (), f"says nothing to expect; give one of {', '.join(EXPECTATION_KINDS.names)}"
        if len(rules) != 1:
            return
        [(name, value)] = rules.items()
        try:
            kind = EXPECTATION_KINDS.get(name)
        except UsageError as error:
            yield (name,), str(error)
            return
        if kind.takes_column and self.column is None:
            yield (), f"`{name}` needs `column: <column>`, the column of this table that is looked up"
        elif self.column is not None and not kind.takes_column:
            takers = "` or `".join(each for each, other in BUILT_IN.items() if other.takes_column)
            yield (), f"`column` goes with `{takers}`; `{name}` names its columns itself"
        else:
            self._rule = kind(value if name in BUILT_IN else _validate_options(name, kind, value), self.column)
            yield from self._rule.problems()
            yield from self._misplaced_options()

    def _misplaced_options(self) -> Iterator[Problem]:
        """Yield row options (drop, quarantine, count) that a rule for the whole table does not support."""
        if self._rule.judges_rows:
            return
        if self.on_violation in ("drop", "quarantine"):
            message = f"`{self.kind}` judges the table, not its rows, so there is none to {self.on_violation}; write warn or fail"
            yield ("on_violation",), message
        if self.at_most is not None:
            inside = ", which has its own `at_most` inside" if self._rule.has_own_limit else ""
            message = f"counts rows that break a rule, and `{self.kind}` judges the table{inside}; it fits {', '.join(ROW_KINDS)}"
            yield ("at_most",), message


def _refuse_unknown_keys(rules: Mapping[str, object]) -> None:
    unknown = [name for name in rules if name not in EXPECTATION_KINDS and "." not in name]
    if unknown:
        details = [InitErrorDetails(type="extra_forbidden", loc=(name,), input=rules[name]) for name in unknown]
        raise ValidationError.from_exception_data("Expectation", details)


def _validate_options(name: str, kind: type[ExpectationKind], value: object) -> Any:
    """Return the options of a custom kind; their faults have places below the rule."""
    try:
        return TypeAdapter(kind.options).validate_python(value)
    except ValidationError as error:
        details = [
            InitErrorDetails(type=each["type"], loc=(name, *each["loc"]), input=each["input"], ctx=each.get("ctx", {}))
            for each in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data("Expectation", details) from None


if TYPE_CHECKING:
    Expectation = ExpectationBlock
else:
    Expectation = create_model(
        "Expectation",
        __base__=ExpectationBlock,
        __doc__=ExpectationBlock.__doc__,
        __module__=__name__,
        **{name: (kind.options | None, Field(default=None, description=kind.description)) for name, kind in BUILT_IN.items()},
    )


def source_problems(expectations: Mapping[str, ExpectationBlock]) -> Iterator[Problem]:
    """Yield what a source cannot be asked: its records are judged one by one as they are read, and none of them is ever dropped."""
    for name, expectation in expectations.items():
        path, kind = ("expectations", name), expectation.kind
        if name in RECORD_RULES:
            yield path, f"{name!r} is what records are refused for that cannot be read; choose another name"
        if not expectation.rule.fits_records:
            yield (
                (*path, kind),
                f"`{kind}` needs more than the record itself; write it in `tables.<name>.expectations`, where rows are judged",
            )
        if expectation.on_violation == "drop":
            yield (
                (*path, "on_violation"),
                "a source drops no record, since a dropped record looks like a lost one; write quarantine, warn or fail",
            )


def table_problems(expectations: Mapping[str, ExpectationBlock], key: list[str], latest_by: str | None) -> Iterator[Problem]:
    """Yield a rule with the name of the key's own, and ``latest_by`` without a key."""
    if latest_by is not None and not key:
        yield ("latest_by",), "says which of the rows with the same key stays, and there is no `key:`; give one"
    if "key" in expectations:
        yield ("expectations", "key"), "`key` is what the rule of the table's own key is called; choose another name"
