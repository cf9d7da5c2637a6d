"""CSV files grouped by header and by how their bytes are text: each group is read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.csv import Csv
from tidemill.sources.files.csv.quotes import Quoting
from tidemill.sources.files.encodings import TextForm
from tidemill.sources.files.headers import read_form, read_header
from tidemill.sources.files.lines import BLOCK, LINE, PLACE, VALUE, as_text, java_charsets, line_text, raw_lines, read_lines, written_text
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.files.record_limit import refuse_long_records
from tidemill.sources.options import checked_options, is_on
from tidemill.sources.records import IS_HEADER, SOURCE_LINE
from tidemill.spec.models import Source

_OPENS, _STAYS, _FLIPS, _FIXED, _IS_INSIDE, _START = " opens", " stays", " flips", " fixed", " is_inside", " start"


def multiline_records(
    spark: SparkSession, files: list[SourceFile], form: TextForm, options: Mapping[str, str], counted: Observation | None = None
) -> DataFrame:
    """Return a row for every record that is not empty, as ``read_lines`` does for lines, with the line where it begins.

    Each line is a function from "starts inside a quoted field" to "ends inside one". Two of the four such functions do not depend on
    the start, one keeps it, one flips it: so the state behind a line is what the last independent one before it says, flipped as
    often as there are flips since. An open quote that nothing closes takes in the rest of its file.
    """
    raw = raw_lines(spark, files, form, with_places=True)
    in_file = Window.partitionBy(SOURCE_FILE).orderBy(BLOCK, PLACE)
    so_far = in_file.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    opens, stays = F.col(_OPENS), F.col(_STAYS)
    quoting = Quoting.of(options)
    text = line_text(form)
    starts_open = quoting.is_unclosed(text)
    if options.get("comment"):
        starts_open = starts_open & ~F.startswith(text, F.lit(options["comment"]))
    with java_charsets(spark):
        judged = raw.select("*", starts_open.alias(_OPENS), quoting.is_still_open(text).alias(_STAYS))
    numbered = judged.select(
        *(VALUE, SOURCE_FILE, BLOCK, PLACE, _OPENS, _STAYS),
        F.row_number().over(in_file).cast("bigint").alias(SOURCE_LINE),
        F.count_if(opens & ~stays).over(so_far).alias(_FLIPS),
    )
    independent = F.when(opens == stays, F.struct(opens.alias("is_inside"), F.col(_FLIPS).alias("flips")))
    fixed = numbered.select("*", F.last(independent, ignorenulls=True).over(so_far).alias(_FIXED))
    flips = F.col(_FLIPS) - F.coalesce(F.col(_FIXED)["flips"], F.lit(0))
    state = F.coalesce(F.col(_FIXED)["is_inside"], F.lit(False)) != (flips % 2 == 1)
    inside = fixed.select("*", F.lag(state, 1, False).over(in_file).alias(_IS_INSIDE))
    starts = inside.select("*", F.max(F.when(~F.col(_IS_INSIDE), F.col(SOURCE_LINE))).over(so_far).alias(_START))
    lines = F.sort_array(F.collect_list(F.struct(SOURCE_LINE, VALUE)))
    joined = F.array_join(F.transform(lines, lambda line: line[VALUE]), _line_end(form))
    records = starts.groupBy(SOURCE_FILE, F.col(_START).alias(SOURCE_LINE)).agg(joined.alias(VALUE))
    return as_text(spark, records, form, SOURCE_LINE, counted=counted)


def _line_end(form: TextForm) -> str:
    """Return the line end as its bytes, which for the encodings that the reader splits on are ASCII characters each."""
    return form.end_bytes.decode("latin-1") if form.end_bytes.isascii() else form.line_end


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
    given = checked_options(source, Csv.option_names)
    quote = given.get("quote", '"')
    # Spark's default escape, a backslash, splits RFC 4180's doubled quotes in two; its limits refuse wide files and long fields.
    defaults = {
        "sep": ",",
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
