"""CSV files grouped by header: each group is read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.errors import SourceError
from tidemill.sources.files import SourceFile
from tidemill.sources.headers import read_header
from tidemill.sources.lines import LINE, read_lines
from tidemill.sources.options import TEXT, checked_options, is_on
from tidemill.sources.records import IS_HEADER
from tidemill.spec.models import Source

OPTIONS = (
    *TEXT,
    *("header", "sep", "quote", "escape", "charToEscapeQuoteEscaping", "comment", "nullValue", "emptyValue", "nanValue"),
    *("positiveInf", "negativeInf", "ignoreLeadingWhiteSpace", "ignoreTrailingWhiteSpace", "maxColumns", "maxCharsPerColumn"),
    *("unescapedQuoteHandling", "preferDate"),
)


@dataclass(frozen=True)
class Group:
    """Files whose headers have the same names; none at all where they have no header. ``lines`` are the headers to the letter."""

    names: tuple[str, ...]
    files: list[SourceFile] = field(default_factory=list)
    lines: set[str] = field(default_factory=set)


def completed_options(source: Source) -> dict[str, str]:
    """Return the options of the source with tidemill's defaults, which differ from Spark's where those lose records."""
    given = checked_options(source, OPTIONS)
    quote = given.get("quote", '"')
    # Spark's default escape, a backslash, splits RFC 4180's doubled quotes in two; its limits refuse wide files and long fields.
    defaults = {"sep": ",", "quote": quote, "escape": quote, "maxColumns": "100000", "maxCharsPerColumn": "-1"}
    return defaults | given


def header_groups(spark: SparkSession, files: Sequence[SourceFile], options: Mapping[str, str]) -> tuple[list[Group], dict[str, str]]:
    """Return the files grouped by the names in their headers, and the reason for each file that cannot be."""
    if not is_on(options, "header"):
        return ([Group((), list(files))] if files else []), {}
    groups: dict[tuple[str, ...], Group] = {}
    bad = {}
    for file in files:
        try:
            header = read_header(spark, file, options)
        except SourceError as error:
            bad[file.path] = str(error)
            continue
        group = groups.setdefault(header.names, Group(header.names))
        group.files.append(file)
        group.lines.add(header.line)
    return list(groups.values()), bad


def group_lines(spark: SparkSession, group: Group, options: Mapping[str, str]) -> DataFrame:
    """Return the lines of a group, comments left out, those marked that are a header."""
    lines = read_lines(spark, group.files, options)
    if options.get("comment"):
        lines = lines.where(~F.startswith(F.col(LINE), F.lit(options["comment"])))
    return lines.withColumn(IS_HEADER, F.col(LINE).isin(sorted(group.lines)) if group.lines else F.lit(False))
