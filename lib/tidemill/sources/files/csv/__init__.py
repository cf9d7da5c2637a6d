"""The source kinds ``csv`` and ``tsv``. Only the reader imports Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.sources.options import TEXT, is_on
from tidemill.spec.models.source_kinds import FileKind

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql import types as T

    from tidemill.sources.files.listing import SourceFile
    from tidemill.sources.records import Records
    from tidemill.spec.models import Source


class Csv(FileKind):
    """Text files of records with separated fields."""

    reader = "tidemill.sources.files.csv.reader:CsvFiles"
    gives_raw_text = True
    suffixes: tuple[str, ...] = (".csv",)
    family = "csv"
    separator: str = ","
    is_text = True
    reads_dates_loosely = True
    option_names = (
        *TEXT,
        *("header", "sep", "quote", "escape", "charToEscapeQuoteEscaping", "comment", "nullValue", "emptyValue", "nanValue"),
        *("positiveInf", "negativeInf", "ignoreLeadingWhiteSpace", "ignoreTrailingWhiteSpace", "maxColumns", "maxCharsPerColumn"),
        *("unescapedQuoteHandling", "preferDate"),
    )

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Infer types that keep the values of every record that parses."""
        return super().infer(spark, self._with_separator(source), files)

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        return super().read(spark, self._with_separator(source), files, schema)

    def known_columns(self, source: Source) -> Mapping[str, str | None] | None:
        """Return the names in the headers of the files."""
        from tidemill.sources.files.listing import list_few_local_files, merge_column_names

        if any("${secret:" in str(value) for value in source.options.values()):
            return None
        return merge_column_names(list_few_local_files(source), lambda file: self.names_in(file, source))

    def names_in(self, file: SourceFile, source: Source | None) -> Sequence[str] | None:
        """Return the names in the header of a file."""
        from tidemill.sources.files.csv.records import complete_options, read_header
        from tidemill.sources.files.encodings import can_open

        if source is None:
            options = {"header": "true", "sep": self.separator, "quote": '"', "escape": '"'}
        else:
            options = complete_options(self._with_separator(source), self.option_names)
        if not is_on(options, "header") or not can_open(file):
            return None
        return read_header(None, file, options).names  # type: ignore[arg-type]  # a file that Python opens needs no session

    def options_without_source(self, file: SourceFile, declared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the options that all CSV sources of the pipeline share, with a header."""
        first = declared[0] if declared else {}
        shared = {name: value for name, value in first.items() if all(options.get(name) == value for options in declared)}
        return {**shared, "header": True}

    def _with_separator(self, source: Source) -> Source:
        return source.model_copy(update={"options": {"sep": self.separator, **source.options}})


class Tsv(Csv):
    """Text files of records whose fields are separated by tabs."""

    suffixes = (".tsv", ".tab")
    separator = "\t"

    def options_without_source(self, file: SourceFile, declared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the options that all CSV sources of the pipeline share, but for the separator, with a header."""
        return {name: value for name, value in super().options_without_source(file, declared).items() if name != "sep"}
