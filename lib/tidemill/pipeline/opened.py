"""A pipeline with its lake and its session, and the form of tabular results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tidemill.lake import Lake
from tidemill.spec import Spec
from tidemill.workflow import LazySpark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Row: TypeAlias = dict[str, object]
TableFormat = Literal["pandas", "rows"]


class OpenedPipeline:
    """The spec of a pipeline, its lake, and a session that starts when it is first needed."""

    def __init__(self, spec: Spec, spark: SparkSession | None = None) -> None:
        """Take a loaded spec; `load` is the usual way to make one."""
        self.spec = spec
        self.lake = Lake(spec.pipeline.lake)
        self.lazy_spark = LazySpark(lambda: spark if spark is not None else self._start_spark())

    def __repr__(self) -> str:
        """Return the name of the pipeline and its lake."""
        return f"Pipeline({self.name!r}, lake={self.lake.root!r})"

    @property
    def name(self) -> str:
        """The name that the spec gives the pipeline."""
        return self.spec.pipeline.pipeline

    @property
    def spark(self) -> SparkSession:
        """The session of this pipeline, started when it is first asked for, with the jars that the sources need."""
        return self.lazy_spark.get()

    def _start_spark(self) -> SparkSession:
        from tidemill.runtime.session import get_spark
        from tidemill.sources.kinds import needed_connectors

        return get_spark(connectors=needed_connectors(self.spec.pipeline.sources.values(), self.spec.folder))


def to_table(rows: list[Row], as_: TableFormat) -> Any:
    """Return rows as a pandas frame, or as they are."""
    if as_ == "rows":
        return rows
    import pandas as pd

    columns = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame(rows, columns=columns or None)
