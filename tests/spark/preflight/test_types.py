"""What is told of types without Spark is what Spark and the steps say of them."""

import pytest
from pyspark.sql import functions as F

from tidemill.dataset.point_in_time.join_spec import _is_comparable as _is_comparable_in_spark
from tidemill.dataset.time_axis import to_time_axis
from tidemill.errors import SpecError
from tidemill.features.column_facts import column_kind
from tidemill.features.plan import resolve_groups
from tidemill.lake.sql import replace_tables
from tidemill.preflight.expression_types import type_group
from tidemill.preflight.queries import resolve_query
from tidemill.preflight.sources import declared_columns
from tidemill.preflight.type_checks import _is_comparable
from tidemill.spec.models import FEATURE_GROUPS, Features

DDL = (
    "a TINYINT, b SMALLINT, c INT, d BIGINT, e FLOAT, f DOUBLE, g DECIMAL(10,2), h BOOLEAN, i DATE, j TIMESTAMP, k TIMESTAMP_NTZ, "
    "l STRING, m MAP<STRING, INT>, n ARRAY<STRING>, o ARRAY<DOUBLE>, p STRUCT<x: INT>, q BINARY, r VARIANT, s ARRAY<BOOLEAN>, "
    "t INTERVAL DAY TO SECOND"
)
EXPRESSIONS = [
    "c", "t.g", "(j)", "CAST(l AS DATE)", "try_cast(l AS TIMESTAMP)", "l::DECIMAL(5,1)", "'x'", "1", "1.5", "1e3", "2L", "TRUE", "c > 1",
    "l IS NULL", "l LIKE 'x%'", "l RLIKE 'x'", "NOT h", "h AND c IN (1, 2)", "c BETWEEN 1 AND 2", "upper(l)", "lower(l)", "to_date(l)",
    "to_timestamp(l)", "to_timestamp_ntz(l)", "to_timestamp(l, 'yyyy')", "to_date(l, 'yyyy')", "current_date", "current_timestamp()",
    "year(j)", "month(i)", "hour(j)", "minute(j)", "length(l)", "length(q)", "coalesce(c, 0)", "coalesce(l, 'x')", "coalesce(l, 1)",
    "CASE WHEN h THEN 1 ELSE 'a' END", "CASE WHEN h THEN 1 ELSE 0 END", "CASE WHEN h THEN l END", "if(h, j, NULL)", "if(h, i, j)",
    "if(h, 1, 'x')", "nvl(l, 'x')", "date '2020-01-01'", "timestamp '2020-01-01'", "DATE(j)", "int(l)", "string(c)", "c + 1", "i - i",
    "j - j", "sum(c) OVER ()", "max(j) OVER ()", "row_number() OVER (ORDER BY c)", "count(*) OVER ()", "concat(n, n)", "n || n", "l || c",
    "date_add(i, 1)", "date_trunc('day', j)", "round(c, 1)", "p.x", "m['a']", "n[0]", "array(1)", "NULL", "(SELECT max(l) FROM bronze.t)",
    "least(c, d)", "nullif(l, '')", "ifnull(c, 1)", "date_diff(i, i)", "extract(HOUR FROM j)", "dayofweek(i)", "decode(c, 1, 'a')",
]  # fmt: skip


@pytest.fixture
def rows(spark):
    frame = spark.createDataFrame([], DDL)
    frame.createOrReplaceTempView("tidemill_typed")
    return frame


def test_known_types_of_columns_and_expressions_are_sparks(spark, rows) -> None:
    columns = declared_columns(DDL)
    assert {name: type_group(kind) for name, kind in columns.items() if name != "t"} == {
        name: column_kind(rows.schema[name].dataType) for name in rows.columns if name != "t"
    }
    wrong, known = [], 0
    for part in EXPRESSIONS:
        sql = f"SELECT {part} AS z FROM bronze.t"
        real = spark.sql(replace_tables(sql, lambda _: "tidemill_typed")).schema["z"].dataType
        actual, unknown = resolve_query(sql, lambda _: columns)
        assert unknown == [], sql
        group = type_group(actual["z"])
        known += group is not None
        if group not in (None, column_kind(real)):
            wrong.append((part, group, real))
    assert wrong == []
    assert known > 40
    for sides in ("SELECT c AS z FROM bronze.t UNION SELECT l FROM bronze.t", "SELECT z FROM bronze.t JOIN bronze.u USING (z)"):
        assert type_group((resolve_query(sides, lambda name: {"z": columns["c"]} if "." in name else columns)[0])["z"]) in (None, "string")


def test_only_what_the_steps_refuse_is_refused(rows) -> None:
    columns = declared_columns(DDL)
    kinds = {name: rows.schema[name].dataType for name in rows.columns}
    for name, kind in columns.items():
        is_time = type_group(kind) in (None, "datetime", "numeric")
        if is_time and type_group(kind):
            to_time_axis(rows, name)
        elif not is_time:
            with pytest.raises(SpecError):
                to_time_axis(rows, name)
        for other, there in columns.items():
            assert _is_comparable(kind, there) or not _is_comparable_in_spark(kinds[name], kinds[other]), (name, other)
    blocks = {"buckets": {"quantiles": 4}, "pca": {"k": 1}, "polynomial": {"degree": 2}}
    for group, kinds_taken in ((name, kind.accepts) for name, kind in FEATURE_GROUPS.all_built_in().items()):
        for name, kind in columns.items():
            if group == "interactions" or type_group(kind) is None or kinds_taken is None or type_group(kind) in kinds_taken:
                continue
            many = {"columns": [name, "c"] if group in ("pca", "polynomial") else [name], **blocks.get(group, {})}
            with pytest.raises(SpecError):
                resolve_groups(Features.model_validate({group: many}), rows, ())
    for name in ("m", "r"):  # keys
        with pytest.raises(Exception, match=r"xxhash64|HASH|VARIANT"):
            rows.select(F.xxhash64(name)).collect()
