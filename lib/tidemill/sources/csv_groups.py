"""CSV files grouped by header and by how their bytes are text: each group is read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from tidemill.errors import SourceError
from tidemill.sources.csv_records import multiline_records
from tidemill.sources.encodings import TextForm
from tidemill.sources.files import SourceFile
from tidemill.sources.headers import read_form, read_header
from tidemill.sources.lines import LINE, java_charsets, read_lines, written_text
from tidemill.sources.options import TEXT, checked_options, is_on
from tidemill.sources.record_limit import refuse_long_records
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
    """Files of one form and separator whose headers have the same names; none at all where they have no header.

    ``lines`` are the headers to the letter, ``separator_lines`` those before them that name the separator, which are no records.
    """

    names: tuple[str, ...]
    form: TextForm
    sep: str
    files: list[SourceFile] = field(default_factory=list)
    lines: set[str] = field(default_factory=set)
    separator_lines: set[str] = field(default_factory=set)

    def completed(self, options: Mapping[str, str]) -> dict[str, str]:
        """Return the options for these files."""
        return {**options, "sep": self.sep}


def completed_options(source: Source) -> dict[str, str]:
    """Return the options of the source with tidemill's defaults, which differ from Spark's where those lose records."""
    given = checked_options(source, OPTIONS)
    quote = given.get("quote", '"')
    # Spark's default escape, a backslash, splits RFC 4180's doubled quotes in two; its limits refuse wide files and long fields.
    defaults = {
        "sep": "\t" if source.format == "tsv" else ",",
        "quote": quote,
        "escape": quote,
        "maxColumns": "100000",
        "maxCharsPerColumn": "-1",
    }
    return defaults | given


def header_groups(spark: SparkSession, files: Sequence[SourceFile], options: Mapping[str, str]) -> tuple[list[Group], dict[str, str]]:
    """Return the files grouped by form, separator and names in their headers, and the reason for each file that cannot be."""
    read = read_header if is_on(options, "header") else read_form
    groups: dict[tuple[TextForm, str, tuple[str, ...]], Group] = {}
    bad = {}
    for file in files:
        try:
            header = read(spark, file, options)
            refuse_long_records(file, header.form, options)
        except SourceError as error:
            bad[file.path] = str(error)
            continue
        group = groups.setdefault((header.form, header.sep, header.names), Group(header.names, header.form, header.sep))
        group.files.append(file)
        group.lines.update([header.line] if header.line else [])
        group.separator_lines.update([header.separator_line] if header.separator_line else [])
    return list(groups.values()), bad


def group_records(
    spark: SparkSession,
    group: Group,
    options: Mapping[str, str],
    *,
    files: list[SourceFile] | None = None,
    with_numbers: bool = False,
    counted: Observation | None = None,
) -> DataFrame:
    """Return the records of a group (or of these files in it) as text, comments left out, those marked that are a header.

    ``counted`` is as for ``read_lines``; it counts comments too.
    """
    files = group.files if files is None else files
    if is_on(options, "multiLine"):
        records = multiline_records(spark, files, group.form, options, counted)
    else:
        records = read_lines(spark, files, group.form, with_numbers=with_numbers, counted=counted)
    if options.get("comment"):
        records = records.where(~F.startswith(F.col(LINE), F.lit(options["comment"])))
    if group.separator_lines:
        records = records.where(~F.col(LINE).isin(sorted(group.separator_lines)))
    headers = [written_text(group.form, line) for line in sorted(group.lines)]
    is_header = F.col(LINE).isin(*headers) if headers else F.lit(False)
    with java_charsets(spark):
        return records.select("*", is_header.alias(IS_HEADER))
