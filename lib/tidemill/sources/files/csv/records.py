"""CSV files grouped by header and by how their bytes are text: each group is read as one."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from tidemill.column_names import SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files.encodings import TextForm, can_open, first_bytes, opened, physical_lines, separator_line, text_form
from tidemill.sources.files.lines import (
    BLOCK,
    BOM,
    HAS_INVALID_BYTES,
    LINE,
    PLACE,
    VALUE,
    as_text,
    java_charsets,
    line_text,
    raw_lines,
    read_lines,
    refuse_long_records,
    written_text,
)
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import checked_options, is_on
from tidemill.sources.records import IS_HEADER, SOURCE_LINE
from tidemill.spec.models import Source

_END = r"(?![\s\S])"


@dataclass(frozen=True)
class Quoting:
    """Regular expressions over a line, in the dialect that Python and Java share.

    Every repetition is possessive, so that long fields and wide lines take linear time and no stack. As in Spark's parser a quote opens
    a field only at its start, and what follows a closing quote up to the separator is text. ``field`` captures a field as it is written
    in a line that has a separator added to its end.
    """

    quote: str
    opens: str
    stays_open: str
    field: str

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Quoting:
        """Return the quoting that the options describe."""
        quote, escape, separator = options["quote"], options["escape"], options["sep"]
        if not quote:
            return cls("", "", "", "")
        q, e, s = re.escape(quote), re.escape(escape), re.escape(separator)
        rest = f"[^{s}]*+" if len(separator) == 1 else rf"(?:(?!{s})[\s\S])*+"
        if escape == quote:
            inside = f"[^{q}]*+(?:{q}{q}[^{q}]*+)*+"
        else:
            inside = rf"[^{q}{e}]*+(?:{e}[\s\S]?+[^{q}{e}]*+)*+" if escape else f"[^{q}]*+"
        blank = r"[ \t]*+" if options.get("ignoreLeadingWhiteSpace") == "true" else ""
        fields = f"(?:(?:{blank}{q}{inside}{q}{rest}|(?!{blank}{q}){rest}){s})*+"
        last = f"{blank}{q}{inside}{_END}"
        unclosed = rf"{blank}{q}[\s\S]*(?={s}{_END})"
        field = f"({blank}{q}{inside}{q}{rest}|(?!{blank}{q}){rest}|{unclosed}){s}"
        return cls(quote, f"^{fields}{last}", f"^{inside}(?:{_END}|{q}{rest}{s}{fields}{last})", field)

    def is_open(self, line: str) -> bool:
        """Return True where the line ends inside a quoted field."""
        return bool(self.quote) and self.quote in line and re.search(self.opens, line) is not None

    def is_unclosed(self, line: Column) -> Column:
        """Return true where a field opens a quote that the line does not close: half of a record that goes on in the next line."""
        return F.contains(line, F.lit(self.quote)) & line.rlike(self.opens) if self.quote else F.lit(False)

    def is_still_open(self, line: Column) -> Column:
        """Return true where a line that starts inside a quoted field ends inside one, that or another."""
        if not self.quote:
            return F.lit(False)
        return ~F.contains(line, F.lit(self.quote)) | line.rlike(self.stays_open)


@dataclass(frozen=True)
class Header:
    """The first record of a file, to the letter, the names in it, and how the file's bytes are text.

    ``separator_line`` is the line before it that names the separator ``sep``, as Excel writes it; None where there is none.
    """

    line: str
    names: tuple[str, ...]
    form: TextForm
    sep: str
    separator_line: str | None = None


def read_header(spark: SparkSession, file: SourceFile, options: Mapping[str, str]) -> Header:
    """Return the header of a file: its first line that is neither empty nor a comment.

    Raises:
        SourceError: there is none, it cannot be read, or it names a column twice.
    """
    with opened(spark, file) as stream:
        start = first_bytes(stream)
        form = text_form(start, options)
        separator = separator_line(start, form)
        if separator is not None:
            options = {**options, "sep": separator[1]}
        line = _scan(stream, start, form, options, separator and separator[0])
    if line is None and not can_open(file):
        line = _first_line(spark, file, form, options)
    if line is None:
        raise SourceError("it holds no header line, though `header: true` says that each file starts with one")
    names = _split(line, options)
    twice = [name for name, count in Counter(name.lower() for name in names if name).items() if count > 1]
    if twice:
        raise SourceError(f"its header names {', '.join(repr(name) for name in twice)} more than once (case is not told apart)")
    return Header(line, tuple(names), form, options["sep"], separator and separator[0])


def read_form(spark: SparkSession, file: SourceFile, options: Mapping[str, str]) -> Header:
    """Return the header of a file that has none: how its bytes are text, and a line that names the separator.

    A file on another file system is taken as declared: looking at each would cost a Spark job.

    Raises:
        SourceError: it cannot be read.
    """
    with opened(spark, file) if file.is_local else io.BytesIO() as stream:
        start = first_bytes(stream)
    form = text_form(start, options)
    line, sep = separator_line(start, form) or (None, options["sep"])
    return Header("", (), form, sep, line)


def is_record(line: str, options: Mapping[str, str]) -> bool:
    """Return True for a line that is neither empty nor a comment."""
    comment = options.get("comment")
    return line != "" and not (comment and line.startswith(comment))


def _scan(stream: IO[bytes], start: bytes, form: TextForm, options: Mapping[str, str], skipped: str | None) -> str | None:
    """Return the first record that is not ``skipped``, None where there is none."""
    quoting = Quoting.of(options) if is_on(options, "multiLine") else None
    pending = ""
    for line in physical_lines(stream, start, form):
        text = pending + line
        if not pending and (not is_record(_trimmed(text), options) or _trimmed(text) == skipped):
            continue
        if quoting is None or not quoting.is_open(_trimmed(text)):
            return _trimmed(text)
        pending = text + form.line_end
    return _trimmed(pending) or None


def _trimmed(line: str) -> str:
    return line.lstrip(BOM).rstrip("\r\n")


def _first_line(spark: SparkSession, file: SourceFile, form: TextForm, options: Mapping[str, str]) -> str | None:
    lines = read_lines(spark, [file], form)
    if options.get("comment"):
        lines = lines.where(~F.startswith(F.col(LINE), F.lit(options["comment"])))
    row = lines.select(LINE, HAS_INVALID_BYTES).head()
    if row is None:
        return None
    if row[HAS_INVALID_BYTES]:
        raise SourceError(f"its header is not valid {form.encoding}; set `options.encoding`")
    return str(row[LINE])


def _split(line: str, options: Mapping[str, str]) -> list[str]:
    """Return the fields of the header."""
    separator, quote, escape = options["sep"], options["quote"], options["escape"]
    if len(separator) != 1 or not quote:
        names: Sequence[str] = line.split(separator)
    else:
        names = next(
            csv.reader(
                [line],
                delimiter=separator,
                quotechar=quote,
                doublequote=escape == quote,
                escapechar=None if escape in (quote, "") else escape,
                skipinitialspace=options.get("ignoreLeadingWhiteSpace") == "true",
            )
        )
    return [name.strip() for name in names]


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


def completed_options(source: Source, option_names: Sequence[str]) -> dict[str, str]:
    """Return the options of the source with defaults that lose no records, as some of Spark's do; `option_names` are those it may have."""
    given = checked_options(source, option_names)
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
