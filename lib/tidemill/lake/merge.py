"""The upsert of rows by key: which rows differ from the table's, and Spark's MERGE of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidemill.quoting import quote_name

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


IS_NEW = "_tidemill_is_new"

_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_AUTO_MERGE = "spark.databricks.delta.schema.autoMerge.enabled"
_TXN_APP = "spark.databricks.delta.write.txnAppId"
_TXN_VERSION = "spark.databricks.delta.write.txnVersion"


def select_changes(df: DataFrame, target: DataFrame, keys: Sequence[str], compared: Sequence[str]) -> DataFrame:
    """Return the rows of ``df`` whose key ``target`` lacks, or whose ``compared`` columns differ there, with ``IS_NEW`` for the former.

    A column of ``df`` that ``target`` lacks makes every row differ.
    """
    from pyspark.sql import functions as F

    def of(side: str, name: str) -> Column:
        return F.col(f"{side}.{quote_name(name)}")

    is_same = F.lit(all(name in target.columns for name in df.columns))
    for name in compared:
        if name in target.columns:
            is_same = is_same & of("s", name).eqNullSafe(of("t", name))
    joined = df.alias("s").join(target.alias("t"), on=[of("s", key) == of("t", key) for key in keys], how="left")
    is_new = of("t", keys[0]).isNull()
    return joined.where(is_new | ~is_same).select("s.*", is_new.alias(IS_NEW))


def merge_into(path: str, rows: DataFrame, keys: Sequence[str], user_metadata: str, batch: tuple[str, int] | None) -> None:
    """Update the rows of the table at ``path`` that have the keys of ``rows``, and insert the others, in one commit.

    The metadata and the transaction number ``batch`` are settings of the session, which would mark its next commit too: they are unset
    afterwards, also where the merge fails.
    """
    spark, view = rows.sparkSession, f"_merge_{uuid.uuid4().hex}"
    condition = " AND ".join(f"t.{quote_name(key)} = s.{quote_name(key)}" for key in keys)
    settings = {_AUTO_MERGE: "true", _USER_METADATA: user_metadata}
    if batch is not None:
        settings |= {_TXN_APP: batch[0], _TXN_VERSION: str(batch[1])}
    rows.createOrReplaceTempView(view)
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        spark.sql(
            f"MERGE INTO delta.{quote_name(path)} t USING {view} s ON {condition} "
            "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        )
    finally:
        for name in settings:
            spark.conf.unset(name)
        spark.catalog.dropTempView(view)
