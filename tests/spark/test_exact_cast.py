"""Casts that lose nothing."""

from pyspark.sql import functions as F

from tidemill.exact_cast import exact_cast

# Value in SQL, wanted type, and what it becomes as text; None: it does not fit.
CASES = [
    ("2.9D", "int", None),
    ("3.0D", "int", "3"),
    ("double('NaN')", "int", None),
    ("1e300D", "bigint", None),
    ("9223372036854775808BD", "bigint", None),
    ("300", "tinyint", None),
    ("2", "boolean", None),
    ("1", "boolean", "true"),
    ("2.345BD", "decimal(10,2)", None),
    ("2.340BD", "decimal(10,2)", "2.34"),
    ("2.345D", "decimal(10,2)", None),
    ("12345BD", "decimal(4,0)", None),
    ("'2.345'", "decimal(10,2)", None),
    ("'2.34'", "decimal(10,2)", "2.34"),
    ("'123456789012345678901234567890.5'", "decimal(38,1)", "123456789012345678901234567890.5"),
    ("'2.9'", "int", None),
    ("'abc'", "double", None),
    ("timestamp'2024-01-01 12:00:00'", "date", None),
    ("timestamp'2024-01-01 00:00:00'", "date", "2024-01-01"),
    ("'2024-01-01 12:00:00'", "date", None),
    ("'2024-01-01'", "date", "2024-01-01"),
    ("timestamp'2024-01-01 00:00:00.5'", "bigint", None),
    ("date'2024-01-01'", "timestamp", "2024-01-01 00:00:00"),
    ("9007199254740993L", "double", None),
    ("9007199254740992L", "double", "9.007199254740992E15"),
    ("16777217", "float", None),
    ("0.1D", "float", "0.1"),
    ("1e300D", "float", None),
    ("double('-inf')", "float", "-Infinity"),
    ("0.1BD", "double", "0.1"),
    ("7L", "string", "7"),
    ("array(1.0D, 2.5D)", "array<int>", None),
    ("array(1.0D, 2.0D)", "array<int>", "[1, 2]"),
    ("CAST(null AS DOUBLE)", "int", None),
]


def test_a_value_that_would_be_rounded_or_cut_is_null(spark):
    values = spark.range(1).selectExpr(*[f"{value} AS v{place}" for place, (value, _, _) in enumerate(CASES)])
    casts = [
        exact_cast(F.col(f"v{place}"), values.schema[f"v{place}"].dataType, wanted).cast("string").alias(f"c{place}")
        for place, (_, wanted, _) in enumerate(CASES)
    ]
    found = values.select(*casts).first()
    assert {(value, wanted): found[place] for place, (value, wanted, _) in enumerate(CASES)} == {
        (value, wanted): expected for value, wanted, expected in CASES
    }
