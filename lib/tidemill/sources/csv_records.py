"""CSV whose quoted fields hold line ends: physical lines put together to records, to the byte."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from tidemill.column_names import SOURCE_FILE
from tidemill.sources.csv_quotes import Quoting
from tidemill.sources.encodings import TextForm
from tidemill.sources.files import SourceFile
from tidemill.sources.line_numbers import BLOCK, PLACE
from tidemill.sources.lines import VALUE, as_text, java_charsets, line_text, raw_lines
from tidemill.sources.records import SOURCE_LINE

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
