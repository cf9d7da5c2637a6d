"""The types of CSV columns, from every record: texts told apart by Spark's parser, and judged in batches by ``inference``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from tidemill.sources.inference import TEXT, Evidence

_EVIDENCE = "evidence"
_FORMATS = ("dateFormat", "timestampFormat", "timestampNTZFormat")
_TIMES = (T.DateType, T.TimestampType, T.TimestampNTZType)


@dataclass
class Column:
    """What was seen of one column; ``by_format`` is the type of time that the formats in the options make of it, None without any."""

    texts: Evidence
    by_format: T.DataType | None = None

    def merge(self, other: Column) -> None:
        """Take in what other files have under the same name; where their formats tell different types, it is text."""
        self.texts.merge(other.texts)
        if self.by_format != other.by_format:
            self.by_format = T.StringType()

    @property
    def type(self) -> T.DataType:
        """The type that keeps every value."""
        kind = self.texts.type(T.IntegerType())
        return self.by_format if self.by_format is not None and isinstance(kind, (T.StringType, *_TIMES)) else kind


def columns_seen(text: DataFrame, options: Mapping[str, str], timezone: str) -> list[Column]:
    """Return what each field of records holds, which are the one STRING column of ``text``.

    Dates and instants are those that ISO 8601 writes, unless the options give formats of their own: then Spark tells what has them.
    """
    # The records are text already, whatever the encoding of their file.
    options = {name: value for name, value in options.items() if name != "encoding"}

    def fields(*, is_typed: bool) -> DataFrame:
        reader = text.sparkSession.read.options(**options).options(header="false", timeZone=timezone)
        return reader.options(inferSchema=str(is_typed).lower()).csv(text)

    texts = fields(is_typed=False)
    found = [Evidence() for _ in texts.columns]
    for row in texts.mapInArrow(_judged, f"{_EVIDENCE} STRING").collect():
        for evidence, other in zip(found, json.loads(row[_EVIDENCE]), strict=True):
            evidence.merge(Evidence.of(other))
    if not any(options.get(name) for name in _FORMATS):
        return [Column(evidence) for evidence in found]
    kinds = [part.dataType for part in fields(is_typed=True).schema.fields]
    return [Column(evidence, kind if isinstance(kind, _TIMES) else T.StringType()) for evidence, kind in zip(found, kinds, strict=True)]


def _judged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield what the batches of one task tell of each column, as JSON."""
    found: Sequence[Evidence] = ()
    for batch in batches:
        found = found or [Evidence() for _ in range(batch.num_columns)]
        for evidence, values in zip(found, batch.columns, strict=True):
            if TEXT not in evidence.kinds:
                for value in pc.unique(values).to_pylist():
                    evidence.add(value or "")
    yield pa.RecordBatch.from_pydict({_EVIDENCE: [json.dumps([evidence.to_list() for evidence in found])] if found else []})
