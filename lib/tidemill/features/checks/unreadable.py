"""Text that is declared as a number, a boolean or an instant and cannot be read as one; features treat it as missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.columns import column
from tidemill.features.checks.checked_columns import checks_of
from tidemill.features.checks.findings import UNREADABLE_LIMIT, Finding
from tidemill.features.names import readable_sql
from tidemill.spec.models import Features

_LONGEST_SAMPLE = 40


@dataclass(frozen=True)
class Unreadable:
    """A STRING column: what it is read as, the number of values (neither null nor blank) and of unreadable ones, and samples of those."""

    column: str
    read_as: str
    values: int
    unreadable: int
    samples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of the values that cannot be read."""
        return self.unreadable / self.values if self.values else 0.0

    def sentence(self) -> str:
        """Return a sentence for the user."""
        shown = " and ".join(repr(sample) for sample in self.samples)
        return f"{self.column}: {self.unreadable:,} of {self.values:,} texts cannot be read as {self.read_as}, such as {shown}"


def count_unreadable(df: DataFrame, features: Literal["auto"] | Features) -> list[Unreadable]:
    """Count for each STRING column of a declared group the texts that its features cannot read, in one aggregate."""
    readings = list(_readings(df.schema, features))
    if not readings:
        return []
    row = df.agg(
        *[figure.alias(f"{place}.{n}") for place, (name, sql, _) in enumerate(readings) for n, figure in enumerate(_figures(name, sql))]
    ).collect()[0]
    figures = [row[4 * place : 4 * place + 4] for place in range(len(readings))]
    return [
        Unreadable(name, words, values, unreadable, tuple(dict.fromkeys(text for text in samples if text is not None)))
        for (name, _, words), (values, unreadable, *samples) in zip(readings, figures, strict=True)
    ]


def unreadable_findings(df: DataFrame, features: Literal["auto"] | Features) -> Iterator[Finding]:
    """Yield one finding per column read from text; it blocks above 1 % unreadable values, unless ``features.checks.allow`` names it."""
    allowed = checks_of(features).allow
    for each in count_unreadable(df, features):
        is_over = each.share > UNREADABLE_LIMIT and each.column not in allowed
        action = "block" if is_over else "warn" if each.unreadable else "pass"
        message = f"{each.sentence()}; its features count {'them' if each.unreadable > 1 else 'it'} as missing" if each.unreadable else ""
        yield Finding("unreadable", each.column, "share of unreadable texts", each.share, UNREADABLE_LIMIT, action, message)


def _readings(schema: T.StructType, features: Literal["auto"] | Features) -> Iterator[tuple[str, str, str]]:
    """Yield each STRING column of the groups that read text, and the type it is read as, in SQL and in words; each pair once."""
    if features == "auto":
        return
    texts = {field.name for field in schema.fields if isinstance(field.dataType, T.StringType)}
    yield from dict.fromkeys(
        (name, *group.kind.read_as) for group in features.groups if group.kind.read_as for name in group.columns if name in texts
    )


def _figures(name: str, sql_type: str) -> tuple[Column, Column, Column, Column]:
    text = column(name)
    has_value = F.trim(text) != ""
    is_unreadable = has_value & ~F.expr(readable_sql(name, sql_type))
    sample = F.when(is_unreadable, F.substring(text, 1, _LONGEST_SAMPLE))
    return F.count_if(has_value), F.count_if(is_unreadable), F.min(sample), F.max(sample)
