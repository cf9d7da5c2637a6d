"""Files as they are: each file is a record."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.column_names import RESCUED, ROW_HASH, SOURCE_FILE
from tidemill.errors import SourceError
from tidemill.sources.files import SourceFile
from tidemill.sources.options import checked_options
from tidemill.sources.records import IS_HEADER, RAW, RULES, Records, no_rules, row_hash, source_file
from tidemill.spec.models import Source

SCHEMA = {"path": T.StringType(), "modificationTime": T.TimestampType(), "length": T.LongType(), "content": T.BinaryType()}


class BinaryFiles:
    """Files of any kind: ``path``, ``modificationTime``, ``length`` in bytes and ``content``, as Spark names them.

    Every file is a record, and good; an empty one too.
    """

    takes_empty_files = True

    def infer(self, spark: SparkSession, source: Source, files: Sequence[SourceFile]) -> T.StructType:
        """Return the columns that every file has."""
        return T.StructType([T.StructField(name, kind) for name, kind in SCHEMA.items()])

    def read(self, spark: SparkSession, source: Source, files: Sequence[SourceFile], schema: T.StructType) -> Records:
        """Return the records of the files."""
        checked_options(source, ())
        if {part.name: part.dataType for part in schema.fields} != SCHEMA:
            raise SourceError(f"the columns of a binaryFile source are {', '.join(SCHEMA)}; leave `schema:` out")
        reader = spark.read.format("binaryFile").options(ignoreCorruptFiles="false", ignoreMissingFiles="false")
        origin = source_file(files)
        is_linked = origin.isin([file.path for file in files if file.link])
        path = F.when(is_linked, F.concat(F.lit("file:"), origin)).otherwise(F.col("path"))
        frame = (
            reader.load([file.uri for file in files])
            .withColumn("path", path)
            .select(
                *SCHEMA,
                origin.alias(SOURCE_FILE),
                row_hash(F.col("content")).alias(ROW_HASH),
                F.lit(None).cast("string").alias(RESCUED),
                F.to_json(F.struct(*[name for name in SCHEMA if name != "content"])).alias(RAW),
                no_rules().alias(RULES),
                F.lit(False).alias(IS_HEADER),
            )
        )
        return Records(frame)
