"""Group CSV files by header and text form, and read the records of each group as text."""

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
from tidemill.sources.files.encodings import (
    TextForm,
    can_open,
    detect_text_form,
    find_separator_line,
    iterate_lines,
    open_start,
    read_start,
)
from tidemill.sources.files.lines import (
    BLOCK,
    BOM,
    HAS_INVALID_BYTES,
    LINE,
    PLACE,
    VALUE,
    allow_java_charsets,
    decode_lines,
    java_text,
    read_lines,
    read_raw_lines,
    reject_long_records,
    valid_text,
)
from tidemill.sources.files.listing import SourceFile
from tidemill.sources.options import is_on, resolve_options
from tidemill.sources.records import IS_HEADER, SOURCE_LINE
from tidemill.spec.models import Source

_END = r"(?![\s\S])"


@dataclass(frozen=True)
class Quoting:
    """Regular expressions over a line, in the dialect that Python and Java share.

    Every repetition is possessive, so that long fields and wide lines take linear time and no stack. As in Spark's parser, a quote opens
    a field only at its start, and text between a closing quote and the separator belongs to the field. ``field`` captures a field as it
    is written, in a line with a separator appended.
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
        """Return true where a field opens a quote that the line does not close."""
        return F.contains(line, F.lit(self.quote)) & line.rlike(self.opens) if self.quote else F.lit(False)

    def is_still_open(self, line: Column) -> Column:
        """Return true where a line that starts inside a quoted field ends inside one, the same or another."""
        if not self.quote:
            return F.lit(False)
        return ~F.contains(line, F.lit(self.quote)) | line.rlike(self.stays_open)


@dataclass(frozen=True)
class CsvHeader:
    """The exact first record of a file, the names in it, and the text form of the file.

    ``separator_line`` is the line ``sep=…`` before it, as Excel writes it, or None.
    """

    line: str
    names: tuple[str, ...]
    form: TextForm
    sep: str
    separator_line: str | None = None


def read_header(spark: SparkSession, file: SourceFile, options: Mapping[str, str]) -> CsvHeader:
    """Read the header of a file: its first line that is neither empty nor a comment.

    Raises:
        SourceError: there is none, it cannot be read, or it names a column twice.
    """
    with open_start(spark, file) as stream:
        start = read_start(stream)
        form = detect_text_form(start, options)
        separator = find_separator_line(start, form)
        if separator is not None:
            options = {**options, "sep": separator[1]}
        line = _find_header_line(stream, start, form, options, separator and separator[0])
    if line is None and not can_open(file):
        line = _first_line(spark, file, form, options)
    if line is None:
        raise SourceError("it holds no header line, though `header: true` says that each file starts with one")
    names = _split_names(line, options)
    twice = [name for name, count in Counter(name.lower() for name in names if name).items() if count > 1]
    if twice:
        raise SourceError(f"its header names {', '.join(repr(name) for name in twice)} more than once (case is not told apart)")
    return CsvHeader(line, tuple(names), form, options["sep"], separator and separator[0])


def read_headerless(spark: SparkSession, file: SourceFile, options: Mapping[str, str]) -> CsvHeader:
    """Read the text form and the separator line of a file without a header.

    Files on other file systems are taken as declared, because reading each would cost a Spark job.

    Raises:
        SourceError: it cannot be read.
    """
    with open_start(spark, file) if file.is_local else io.BytesIO() as stream:
        start = read_start(stream)
    form = detect_text_form(start, options)
    line, sep = find_separator_line(start, form) or (None, options["sep"])
    return CsvHeader("", (), form, sep, line)


def _is_record(line: str, options: Mapping[str, str]) -> bool:
    """Return True for a line that is neither empty nor a comment."""
    comment = options.get("comment")
    return line != "" and not (comment and line.startswith(comment))


def _find_header_line(stream: IO[bytes], start: bytes, form: TextForm, options: Mapping[str, str], skipped: str | None) -> str | None:
    """Return the first record that is not ``skipped``, None without one."""
    quoting = Quoting.of(options) if is_on(options, "multiLine") else None
    pending = ""
    for line in iterate_lines(stream, start, form):
        text = pending + line
        if not pending and (not _is_record(_trim(text), options) or _trim(text) == skipped):
            continue
        if quoting is None or not quoting.is_open(_trim(text)):
            return _trim(text)
        pending = text + form.line_end
    return _trim(pending) or None


def _trim(line: str) -> str:
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


def _split_names(line: str, options: Mapping[str, str]) -> list[str]:
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


def join_multiline_records(
    spark: SparkSession, files: list[SourceFile], form: TextForm, options: Mapping[str, str], counted: Observation | None = None
) -> DataFrame:
    """Join lines into records with line ends in quoted fields; return them as ``read_lines`` does, with the line where each begins.

    Each line is a function from "starts inside a quoted field" to "ends inside one". Two of the four such functions are constant, one
    keeps the state, one flips it. So the state after a line is that of the last constant line before it, flipped as often as there are
    flips since. A quote that is never closed takes the rest of its file.
    """
    raw = read_raw_lines(spark, files, form, with_places=True)
    in_file = Window.partitionBy(SOURCE_FILE).orderBy(BLOCK, PLACE)
    so_far = in_file.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    opens, stays = F.col(_OPENS), F.col(_STAYS)
    quoting = Quoting.of(options)
    text = valid_text(form)
    starts_open = quoting.is_unclosed(text)
    if options.get("comment"):
        starts_open = starts_open & ~F.startswith(text, F.lit(options["comment"]))
    with allow_java_charsets(spark):
        judged = raw.select("*", starts_open.alias(_OPENS), quoting.is_still_open(text).alias(_STAYS))
    add_line_numbers = judged.select(
        *(VALUE, SOURCE_FILE, BLOCK, PLACE, _OPENS, _STAYS),
        F.row_number().over(in_file).cast("bigint").alias(SOURCE_LINE),
        F.count_if(opens & ~stays).over(so_far).alias(_FLIPS),
    )
    independent = F.when(opens == stays, F.struct(opens.alias("is_inside"), F.col(_FLIPS).alias("flips")))
    fixed = add_line_numbers.select("*", F.last(independent, ignorenulls=True).over(so_far).alias(_FIXED))
    flips = F.col(_FLIPS) - F.coalesce(F.col(_FIXED)["flips"], F.lit(0))
    state = F.coalesce(F.col(_FIXED)["is_inside"], F.lit(False)) != (flips % 2 == 1)
    inside = fixed.select("*", F.lag(state, 1, False).over(in_file).alias(_IS_INSIDE))
    starts = inside.select("*", F.max(F.when(~F.col(_IS_INSIDE), F.col(SOURCE_LINE))).over(so_far).alias(_START))
    lines = F.sort_array(F.collect_list(F.struct(SOURCE_LINE, VALUE)))
    joined = F.array_join(F.transform(lines, lambda line: line[VALUE]), _line_end(form))
    records = starts.groupBy(SOURCE_FILE, F.col(_START).alias(SOURCE_LINE)).agg(joined.alias(VALUE))
    return decode_lines(spark, records, form, SOURCE_LINE, counted=counted)


def _line_end(form: TextForm) -> str:
    """Return the line end as text that has the same bytes in the lines as they were read."""
    return form.end_bytes.decode("latin-1") if form.end_bytes.isascii() else form.line_end


@dataclass(frozen=True)
class HeaderGroup:
    """Files of one text form and separator whose headers have the same ``names``, empty without headers.

    ``lines`` are the exact headers; ``separator_lines`` are lines ``sep=…`` before them, which are no records.
    """

    names: tuple[str, ...]
    form: TextForm
    sep: str
    files: list[SourceFile] = field(default_factory=list)
    lines: set[str] = field(default_factory=set)
    separator_lines: set[str] = field(default_factory=set)

    def complete_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """Return the options for these files."""
        return {**options, "sep": self.sep}


def complete_options(source: Source, option_names: Sequence[str]) -> dict[str, str]:
    """Return the source's options among ``option_names``, with defaults that differ from Spark's where Spark would lose records."""
    given = resolve_options(source, option_names)
    quote = given.get("quote", '"')
    # Spark's default escape, a backslash, breaks the doubled quotes of RFC 4180; its limits reject wide files and long fields.
    return {"sep": ",", "quote": quote, "escape": quote, "maxColumns": "100000", "maxCharsPerColumn": "-1"} | given


def group_by_header(
    spark: SparkSession, files: Sequence[SourceFile], options: Mapping[str, str]
) -> tuple[list[HeaderGroup], dict[str, str]]:
    """Group the files by text form, separator and header; return the groups, and the reason for each unreadable file."""
    read = read_header if is_on(options, "header") else read_headerless
    groups: dict[tuple[TextForm, str, tuple[str, ...]], HeaderGroup] = {}
    bad = {}
    for file in files:
        try:
            header = read(spark, file, options)
            reject_long_records(file, header.form, options)
        except SourceError as error:
            bad[file.path] = str(error)
            continue
        group = groups.setdefault((header.form, header.sep, header.names), HeaderGroup(header.names, header.form, header.sep))
        group.files.append(file)
        group.lines.update([header.line] if header.line else [])
        group.separator_lines.update([header.separator_line] if header.separator_line else [])
    return list(groups.values()), bad


def read_group(
    spark: SparkSession,
    group: HeaderGroup,
    options: Mapping[str, str],
    *,
    files: list[SourceFile] | None = None,
    with_numbers: bool = False,
    counted: Observation | None = None,
) -> DataFrame:
    """Return the records of a group, or of some of its files, as text without comments, and ``IS_HEADER``.

    ``counted`` counts rows as in ``read_lines``, including comments.
    """
    files = group.files if files is None else files
    if is_on(options, "multiLine"):
        records = join_multiline_records(spark, files, group.form, options, counted)
    else:
        records = read_lines(spark, files, group.form, with_numbers=with_numbers, counted=counted)
    if options.get("comment"):
        records = records.where(~F.startswith(F.col(LINE), F.lit(options["comment"])))
    if group.separator_lines:
        records = records.where(~F.col(LINE).isin(sorted(group.separator_lines)))
    headers = [java_text(group.form, line) for line in sorted(group.lines)]
    is_header = F.col(LINE).isin(*headers) if headers else F.lit(False)
    with allow_java_charsets(spark):
        return records.select("*", is_header.alias(IS_HEADER))
