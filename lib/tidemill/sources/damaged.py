"""Finding the files that cannot be read: cheaply where all are fine, one by one where something failed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from tidemill.errors import SourceError
from tidemill.sources.files import SourceFile
from tidemill.sources.registry import SourceKind
from tidemill.spark_errors import sentence
from tidemill.spec.models import Source

READ_FAILURES = (PySparkException, Py4JJavaError, SourceError)
"""What reading a damaged file raises."""

_CAUSE = re.compile(r"^Caused by: ([\w.$]+): ([^\n]+)$", re.MULTILINE)


def empty_files(files: Sequence[SourceFile]) -> dict[str, str]:
    """Return the files without a byte: a whole format such as Parquet would be read as no rows, in silence."""
    return {file.path: "it is empty (0 bytes)" for file in files if file.size == 0}


def probe(
    spark: SparkSession, kind: SourceKind, source: Source, files: Sequence[SourceFile], schema: T.StructType | None
) -> dict[str, str]:
    """Read each file alone, to its end; return the reason for each that cannot be."""
    bad: dict[str, str] = {}
    for file in files:
        try:
            records = kind.read(spark, source, [file], schema or kind.infer(spark, source, [file]))
            bad.update(records.bad_files)
            if records.frame is not None:
                # Counting would read no column, and so pass over a damaged page.
                records.frame.write.format("noop").mode("overwrite").save()
        except READ_FAILURES as error:
            bad[file.path] = reason(error)
    return bad


def reason(error: BaseException) -> str:
    """Return why a file could not be read: the innermost cause, which says more than Spark's own sentence about it."""
    if isinstance(error, SourceError):
        return str(error)
    causes = _CAUSE.findall(str(error))
    return f"it cannot be read: {causes[-1][1].strip()}" if causes else f"it cannot be read: {sentence(error)}"
