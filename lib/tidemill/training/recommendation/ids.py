"""A stage that maps the ids of users and items to the numbers that ALS reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

from pyspark.ml import Model
from pyspark.ml.param import Param, Params
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import Window
from pyspark.sql import functions as F

from tidemill.columns import NOT_SCORED, column
from tidemill.errors import StepError
from tidemill.families.built_in.recommenders import ITEM, USER
from tidemill.runtime.caching import cache_frame

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


_BUCKETS = 1024
_MAX_IDS = 2**31 - 1
_UNKNOWN = -1  # MLlib refuses null


class KnownIds(Model, MLReadable["KnownIds"], MLWritable):
    """Adds ``_user`` and ``_item`` INT, -1 for an unknown id, and the reason why a row cannot be scored (`NOT_SCORED`).

    ``users`` and ``items`` are tables of ``id``, of the type it has in the data, and ``number``. They are joined, so that ids never come
    to the driver, as the labels of MLlib's StringIndexer do.
    """

    userCol: Param[str] = Param(Params._dummy(), "userCol", "the column of the user")  # noqa: N815 - MLlib's name
    itemCol: Param[str] = Param(Params._dummy(), "itemCol", "the column of the item")  # noqa: N815 - MLlib's name

    users: DataFrame
    items: DataFrame

    def __init__(self, user: str = "", item: str = "") -> None:
        """Set the columns; `known_ids` and the reader set the tables."""
        super().__init__()
        if user:
            self._set(userCol=user, itemCol=item)

    @property
    def columns(self) -> tuple[str, str]:
        """The columns of the user and of the item."""
        return self.getOrDefault(self.userCol), self.getOrDefault(self.itemCol)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        user, item = self.columns
        numbered = _join_numbers(_join_numbers(dataset, self.users, user, USER), self.items, item, ITEM)
        reasons = [_reason("user", user, USER), _reason("item", item, ITEM)]
        reason = F.coalesce(F.concat_ws("; ", *reasons), F.lit(""))
        known = {name: F.coalesce(F.col(name), F.lit(_UNKNOWN)) for name in (USER, ITEM)}
        return numbered.withColumn(NOT_SCORED, F.when(reason != "", reason)).withColumns(known)

    def write(self) -> MLWriter:
        """Return the writer of the stage: its parameters, and the two tables as Parquet."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[KnownIds]:
        """Return the reader of the stage."""
        return _Reader(cls)


@contextmanager
def known_ids(rows: DataFrame, user: str, item: str) -> Iterator[KnownIds]:
    """Number the users and items of ``rows`` without nulls, and cache the numbers inside the block.

    Raises:
        StepError: there are more users or items than ALS can number.
    """
    ids = KnownIds(user, item)
    with cache_frame(_number_ids(rows, user, "users")) as users, cache_frame(_number_ids(rows, item, "items")) as items:
        ids.users, ids.items = users, items
        yield ids


def _number_ids(rows: DataFrame, name: str, what: str) -> DataFrame:
    """Return ``id`` and ``number`` from 0, in an order that depends only on the ids, without a global sort."""
    bucket = F.pmod(F.xxhash64("id"), F.lit(_BUCKETS)).cast("int").alias("bucket")
    ids = rows.select(column(name).alias("id")).where(F.col("id").isNotNull()).distinct().select("id", bucket)
    counts = {row["bucket"]: row["count"] for row in ids.groupBy("bucket").count().collect()}
    starts = list(accumulate((counts.get(position, 0) for position in range(_BUCKETS)), initial=0))
    if starts[-1] > _MAX_IDS:
        raise StepError(f"train: {starts[-1]:,} different {what} in {name}, expected at most {_MAX_IDS:,}, which is what ALS can number")
    # One string that is split: parsing a thousand literals would take longer than the rows.
    start = F.split(F.lit(" ".join(map(str, starts))), " ")[F.col("bucket")].cast("int")
    position = F.row_number().over(Window.partitionBy("bucket").orderBy("id")) - 1
    return ids.select("id", (start + position).cast("int").alias("number"))


def _join_numbers(rows: DataFrame, ids: DataFrame, name: str, number: str) -> DataFrame:
    """Add the number of an id, null where it is unknown."""
    id_column = f"{number}_id"
    numbers = ids.select(F.col("id").alias(id_column), F.col("number").alias(number))
    return rows.join(numbers, on=column(name) == F.col(id_column), how="left").drop(id_column)


def _reason(what: str, name: str, number: str) -> Column:
    shortened = F.substring(column(name).cast("string"), 1, 50)
    unknown = F.concat(F.lit(f"{what} "), shortened, F.lit(f" ({name}) is not in the training rows"))
    return F.when(F.col(number).isNull(), F.coalesce(unknown, F.lit(f"{name}, the {what}, is null")))


class _Writer(MLWriter):
    def __init__(self, instance: KnownIds) -> None:
        super().__init__()
        self.instance = instance

    def saveImpl(self, path: str) -> None:  # noqa: N802 - PySpark's name
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession)
        for name in ("users", "items"):
            getattr(self.instance, name).write.parquet(f"{path}/{name}")


class _Reader(MLReader[KnownIds]):
    def __init__(self, kind: type[KnownIds]) -> None:
        super().__init__()
        self.kind = kind

    def load(self, path: str) -> KnownIds:
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        ids = self.kind()
        ids._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(ids, metadata)
        ids.users, ids.items = (self.sparkSession.read.parquet(f"{path}/{name}") for name in ("users", "items"))
        return ids
